//! Objects, versions and history: the etcd of the embedded cluster.
//!
//! Promises:
//! - One counter numbers every change of every object.
//! - Each change is stored with the object before and after it, and with its time, until it leaves the
//!   history.
//! - A subscriber misses no change after its subscription.
//! - Objects are ordered by plural name, namespace and name.
//! - Uids and name suffixes come from the seed, times from the clock.
//!
//! Deliberately not here: validation. The store accepts any JSON.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use axum::body::Bytes;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use crate::api_server::meta;
use crate::api_server::stored::StoredObject;
use crate::clock::SimClock;
use crate::ids::Ids;

/// Number of changes in the history; a watch from before them gets 410.
const HISTORY_LIMIT: usize = 20_000;
/// Number of changes that are stored as trees; older ones are rarely read and are stored as text.
const RECENT: usize = 2_000;
/// The letters of a generated name, as in apimachinery's `rand` package.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Identifies an object; the namespace is empty for cluster-scoped ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub plural: &'static str,
    pub namespace: String,
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One change. `object` is the state after it (for a delete the last state, with the version of the delete).
#[derive(Debug)]
pub(super) struct Change {
    pub version: u64,
    /// Time of the change.
    pub at: Instant,
    pub kind: ChangeKind,
    pub key: Key,
    pub object: StoredObject,
    pub previous: Option<StoredObject>,
}

impl Change {
    /// The same change, stored as text.
    fn without_tree(&self) -> Self {
        let previous = self.previous.as_ref().map(StoredObject::without_tree);
        let (key, object) = (self.key.clone(), self.object.without_tree());
        Self { version: self.version, at: self.at, kind: self.kind, key, object, previous }
    }
}

/// The requested version is no longer in the history.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooOld {
    pub oldest: u64,
}

struct Subscriber {
    plural: &'static str,
    sender: UnboundedSender<Arc<Change>>,
    /// [`Store::drop_remote_subscribers`] ends it.
    remote: bool,
}

/// The objects of a store at one moment.
#[derive(Clone)]
pub struct Checkpoint {
    version: u64,
    objects: BTreeMap<Key, StoredObject>,
}

pub(super) struct Store {
    pub clock: SimClock,
    uids: Ids,
    random: fastrand::Rng,
    version: u64,
    objects: BTreeMap<Key, StoredObject>,
    history: VecDeque<Arc<Change>>,
    /// Version of the newest change that is no longer in the history.
    compacted_version: u64,
    subscribers: Vec<Subscriber>,
    /// Resources whose CRD keeps every field and checks none.
    preserve_unknown_fields: BTreeSet<String>,
}

impl Store {
    pub fn new(seed: u64, clock: SimClock) -> Self {
        Self {
            clock,
            uids: Ids::new(seed, "uid"),
            random: fastrand::Rng::with_seed(seed),
            version: 1,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            compacted_version: 1,
            subscribers: Vec::new(),
            preserve_unknown_fields: BTreeSet::new(),
        }
    }

    /// Returns whether the CRD of a resource keeps every field and checks none.
    pub fn preserves_unknown_fields(&self, plural: &str) -> bool {
        self.preserve_unknown_fields.contains(plural)
    }

    /// Makes the CRD of a resource keep every field and check none from now on.
    pub fn preserve_unknown_fields(&mut self, plural: &str) {
        self.preserve_unknown_fields.insert(plural.to_owned());
    }

    /// Version of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(key).map(StoredObject::tree)
    }

    /// The text of the object, if it is the current state.
    pub fn text(&self, key: &Key, object: &Arc<Value>) -> Option<Bytes> {
        self.objects.get(key).filter(|current| current.is_same_allocation(object)).map(StoredObject::text)
    }

    pub fn has(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    pub fn entry(&self, key: &Key) -> Option<(&Key, Arc<Value>)> {
        self.objects.get_key_value(key).map(|(key, stored)| (key, stored.tree()))
    }

    /// The objects of a resource in the order of namespace and name.
    pub fn range(
        &self,
        plural: &'static str,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = (&Key, Arc<Value>)> {
        self.entries(plural, namespace).map(|(key, stored)| (key, stored.tree()))
    }

    fn entries(
        &self,
        plural: &'static str,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = (&Key, &StoredObject)> {
        let namespace = namespace.map(str::to_owned);
        let from = Key { plural, namespace: namespace.clone().unwrap_or_default(), name: String::new() };
        self.objects.range(from..).take_while(move |(key, _)| {
            key.plural == plural && namespace.as_deref().is_none_or(|wanted| key.namespace == wanted)
        })
    }

    /// The keys of all objects in one namespace.
    pub fn keys_in(&self, namespace: &str) -> Vec<Key> {
        self.objects.keys().filter(|key| key.namespace == namespace).cloned().collect()
    }

    pub fn is_empty(&self, namespace: &str) -> bool {
        self.objects.keys().all(|key| key.namespace != namespace)
    }

    /// Writes a new or changed object with the next version.
    pub fn put(&mut self, key: Key, object: Value) -> Arc<Value> {
        let object = self.set_next_version(object);
        let stored = StoredObject::new(key.plural, &object);
        let previous = self.objects.insert(key.clone(), stored.clone());
        let kind = if previous.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        self.append_change(kind, key, stored, previous);
        object
    }

    /// Removes an object; `last` is its final state.
    pub fn remove(&mut self, key: Key, last: Value) -> Arc<Value> {
        let previous = self.objects.remove(&key);
        let object = self.set_next_version(last);
        let stored = StoredObject::new(key.plural, &object);
        self.append_change(ChangeKind::Deleted, key, stored, previous);
        object
    }

    /// Subscribes to every change of the resource from now on.
    pub fn subscribe(&mut self, plural: &'static str, remote: bool) -> UnboundedReceiver<Arc<Change>> {
        let (sender, receiver) = unbounded_channel();
        self.subscribers.push(Subscriber { plural, sender, remote });
        receiver
    }

    /// Ends the streams of all remote subscribers.
    pub fn drop_remote_subscribers(&mut self) {
        self.subscribers.retain(|subscriber| !subscriber.remote);
    }

    /// The changes of the resource after `version`.
    pub fn changes_since(&self, plural: &str, version: u64) -> Result<Vec<Arc<Change>>, TooOld> {
        if version < self.compacted_version {
            return Err(TooOld { oldest: self.compacted_version });
        }
        let first = self.history.partition_point(|change| change.version <= version);
        Ok(self.history.iter().skip(first).filter(|change| change.key.plural == plural).cloned().collect())
    }

    /// The objects of the resource as of `version`.
    pub fn objects_at(
        &self,
        plural: &'static str,
        version: u64,
    ) -> Result<BTreeMap<Key, Arc<Value>>, TooOld> {
        let mut objects: BTreeMap<&Key, &StoredObject> = self.entries(plural, None).collect();
        let since = self.changes_since(plural, version)?;
        for change in since.iter().rev() {
            match &change.previous {
                Some(previous) => objects.insert(&change.key, previous),
                None => objects.remove(&change.key),
            };
        }
        Ok(objects.into_iter().map(|(key, stored)| (key.clone(), stored.tree())).collect())
    }

    /// The version of the last change up to `then`, within the history.
    pub fn version_at(&self, then: Instant) -> u64 {
        let later = self.history.partition_point(|change| change.at <= then);
        later
            .checked_sub(1)
            .and_then(|last| self.history.get(last))
            .map_or(self.compacted_version, |one| one.version)
    }

    /// Time of the change with that version; `None` if it is not in the history.
    pub fn time_of_version(&self, version: u64) -> Option<Instant> {
        let at = self.history.binary_search_by_key(&version, |change| change.version).ok()?;
        self.history.get(at).map(|change| change.at)
    }

    /// The object as of `version`, within the history.
    pub fn get_at(&self, key: &Key, version: u64) -> Option<Arc<Value>> {
        let first = self.history.partition_point(|change| change.version <= version);
        match self.history.iter().skip(first).find(|change| change.key == *key) {
            Some(change) => change.previous.as_ref().map(StoredObject::tree),
            None => self.get(key),
        }
    }

    /// The current objects and version, as in a snapshot of etcd.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { version: self.version, objects: self.objects.clone() }
    }

    /// Restores a checkpoint, as an etcd that is restored from a snapshot: versions continue from the old
    /// one, the history is empty, and every watch ends.
    pub fn restore(&mut self, checkpoint: &Checkpoint) {
        self.version = checkpoint.version;
        self.objects = checkpoint.objects.clone();
        self.history.clear();
        self.compacted_version = checkpoint.version;
        self.subscribers.clear();
    }

    /// Clears the history, as a compaction of etcd does.
    pub fn compact(&mut self) {
        self.history.clear();
        self.compacted_version = self.version;
    }

    /// A version 4 uid from the seed, for an object of that key.
    pub fn fresh_uid(&mut self, key: &Key) -> String {
        self.uids.next(&[key.plural, &key.namespace, &key.name])
    }

    /// Five letters for `generateName`.
    pub fn name_suffix(&mut self) -> String {
        (0..5).map(|_| char::from(SUFFIX_LETTERS[self.random.usize(..SUFFIX_LETTERS.len())])).collect()
    }

    fn set_next_version(&mut self, mut object: Value) -> Arc<Value> {
        self.version += 1;
        meta::set(&mut object, "resourceVersion", Value::String(self.version.to_string()));
        Arc::new(object)
    }

    fn append_change(
        &mut self,
        kind: ChangeKind,
        key: Key,
        object: StoredObject,
        previous: Option<StoredObject>,
    ) {
        let change =
            Arc::new(Change { version: self.version, at: Instant::now(), kind, key, object, previous });
        self.subscribers.retain(|subscriber| {
            if subscriber.plural == change.key.plural {
                subscriber.sender.send(change.clone()).is_ok()
            } else {
                !subscriber.sender.is_closed()
            }
        });
        self.history.push_back(change);
        if let Some(at) = self.history.len().checked_sub(RECENT + 1)
            && let Some(old) = self.history.get_mut(at)
        {
            *old = Arc::new(old.without_tree());
        }
        if self.history.len() > HISTORY_LIMIT
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted_version = oldest.version;
            if let Some(current) = self.objects.get_mut(&oldest.key) {
                current.drop_shared_text(&oldest.object);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn store() -> Store {
        Store::new(7, SimClock::new(0))
    }

    fn key(name: &str) -> Key {
        Key { plural: "configmaps", namespace: "n".into(), name: name.into() }
    }

    #[tokio::test]
    async fn one_counter_numbers_all_changes_and_deletes() {
        let mut store = store();
        assert_eq!(store.put(key("a"), json!({"metadata": {}}))["metadata"]["resourceVersion"], "2");
        assert_eq!(store.put(key("b"), json!({"metadata": {}}))["metadata"]["resourceVersion"], "3");
        let last = json!({"metadata": {"resourceVersion": "2"}});
        assert_eq!(store.remove(key("a"), last)["metadata"]["resourceVersion"], "4");
        assert_eq!(store.version(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn reads_state_at_past_revision() {
        let mut store = store();
        let before = Instant::now();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        store.put(key("a"), json!({"metadata": {}, "data": 1}));
        let first = Instant::now();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        store.put(key("a"), json!({"metadata": {}, "data": 2}));
        let data =
            |then| store.get_at(&key("a"), store.version_at(then)).map(|object| object["data"].clone());
        assert_eq!((data(before), data(first), data(Instant::now())), (None, Some(json!(1)), Some(json!(2))));
        assert_eq!((store.time_of_version(2), store.time_of_version(9)), (Some(first), None));
    }

    #[tokio::test]
    async fn reconstructs_older_state_from_history() {
        let mut store = store();
        store.put(key("a"), json!({"metadata": {}, "data": 1}));
        let then = store.version();
        store.put(key("a"), json!({"metadata": {}, "data": 2}));
        store.put(key("b"), json!({"metadata": {}}));
        let old = store.objects_at("configmaps", then).expect("in the history");
        assert_eq!(old.len(), 1);
        assert_eq!(old[&key("a")]["data"], 1);
    }

    #[tokio::test]
    async fn reads_state_of_distant_past() {
        let mut store = store();
        let last = 2 * RECENT as u64;
        (0..=last).for_each(|data| drop(store.put(key("a"), json!({"metadata": {}, "data": data}))));
        let data = |version| store.get_at(&key("a"), version).map(|object| object["data"].clone());
        for at in [0, 1, last / 2, last - 1, last] {
            assert_eq!(data(2 + at), Some(json!(at)), "the first is version 2");
        }
        assert_eq!(data(1), None);
    }

    #[tokio::test]
    async fn retains_text_while_history_has_the_change() {
        let mut store = store();
        let object = store.put(key("a"), json!({"metadata": {}}));
        let text = store.text(&key("a"), &object).expect("present");
        let shares_text =
            |store: &Store| store.text(&key("a"), &object).is_some_and(|now| now.as_ptr() == text.as_ptr());
        let others = |store: &mut Store, count: usize| {
            (0..count).for_each(|data| drop(store.put(key("b"), json!({"metadata": {}, "data": data}))));
        };
        others(&mut store, HISTORY_LIMIT - 1);
        assert!(shares_text(&store), "later reads share the text");
        others(&mut store, 1);
        assert!(!shares_text(&store), "the text leaves with the history");
    }

    #[tokio::test]
    async fn compacted_revision_is_too_old() {
        let mut store = store();
        store.put(key("a"), json!({"metadata": {}}));
        let before = store.version() - 1;
        store.compact();
        assert_eq!(store.changes_since("configmaps", before).err(), Some(TooOld { oldest: 2 }));
        assert!(store.changes_since("configmaps", 2).is_ok_and(|changes| changes.is_empty()));
    }

    #[tokio::test]
    async fn same_seed_gives_same_uids() {
        let key = key("a");
        assert_eq!(store().fresh_uid(&key), store().fresh_uid(&key));
        assert_ne!(Store::new(8, SimClock::new(0)).fresh_uid(&key), store().fresh_uid(&key));
    }
}
