//! The cache of one kind: what the watch delivered and what answers to our own calls brought, in one order.
//!
//! The API server numbers every change of the store, so that two looks at one object can be put in order by their
//! resource version. From that follow the rules:
//! - An older look never overwrites a newer one, wherever it comes from.
//! - A uid that is gone stays gone: it is kept as a tombstone until the watch has said so too.
//! - An answer about an object that the cache does not have is older than the cache when its version is not above
//!   what the watch has delivered: the watch would have brought the object, so it brought its end. Such an answer is
//!   dropped, else the object would stay for ever. Unless the answer shows a state of the store as new as all that the
//!   watch has delivered: then the watch has lost the object.
//!
//! SUBTLE: a relist removes what it does not list, except what came in by an answer after the relist began with a
//! version above all that was listed: that object may be younger than the list. 1. We create an object while the
//! watch is down. 2. The list, taken before, does not have it. 3. Were it removed, the run would look as if somebody
//! had deleted its group, until the watch brings the object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::Resource;
use kube::runtime::watcher::Event;

use super::index::{IndexKey, Indexed};

/// Namespace (empty for an object of the cluster) and name.
pub type Key = (String, String);

/// The cache of one kind.
#[derive(Debug)]
pub struct KindCache<K> {
    /// By namespace and name, so that a look needs no copy of either.
    objects: BTreeMap<String, BTreeMap<String, Arc<K>>>,
    index: BTreeMap<IndexKey, BTreeMap<Key, Arc<K>>>,
    /// Uids that are gone, with the relist during or after which that was learnt.
    tombstones: BTreeMap<String, u64>,
    /// Newest version that the watch has delivered.
    delivered: u64,
    /// Newest version that anybody told of: the watch, or the answer to a call.
    newest: u64,
    /// Relists that have begun.
    relists: u64,
    listing: Option<Listing>,
    /// Whether there was a complete list.
    synced: bool,
    /// How often an object came, changed or went.
    changes: u64,
    /// How often an object came, went, or changed what it is about.
    shapes: u64,
    /// Epoch of this life; 0 where nobody asks who claims an object.
    life: u64,
    /// What was claimed by a newer life: runs, and Backups by uid. They stay overtaken when the object is gone.
    overtaken: BTreeSet<String>,
}

/// A relist under way.
#[derive(Debug, Default)]
struct Listing {
    listed: BTreeSet<String>,
    newest: u64,
    answered: BTreeSet<String>,
}

impl<K> Default for KindCache<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            index: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            delivered: 0,
            newest: 0,
            relists: 0,
            listing: None,
            synced: false,
            changes: 0,
            shapes: 0,
            life: 0,
            overtaken: BTreeSet::new(),
        }
    }
}

impl<K: Resource + Indexed> KindCache<K> {
    /// The object under that name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.objects.get(namespace)?.get(name)
    }

    /// The objects under an index key, in the order of their names.
    pub fn about(&self, index_key: &IndexKey) -> impl Iterator<Item = &Arc<K>> + use<'_, K> {
        self.index.get(index_key).into_iter().flat_map(BTreeMap::values)
    }

    /// All objects of a namespace, in the order of their names.
    pub fn within(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.objects.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// All objects.
    pub fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values().flat_map(BTreeMap::values)
    }

    /// Whether there was a complete list.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// From now on an empty cache is one that may be asked: for kinds that nobody waits for.
    pub fn take_for_synced(&mut self) {
        self.synced = true;
    }

    /// From now on it is noted what a newer life than this one has claimed.
    pub fn live_as(&mut self, epoch: u64) {
        self.life = epoch;
    }

    /// Whether a newer life has claimed an object of the run, or the Backup of that uid, be the object gone or not. A
    /// watch tells of the claim before it tells that the object is gone, and the last state of a deleted object has it,
    /// too.
    pub fn is_overtaken(&self, claimed: &str) -> bool {
        self.overtaken.contains(claimed)
    }

    fn note_claim(&mut self, object: &K) {
        if let Some((claimed, epoch)) = object.claim()
            && self.life > 0
            && epoch > self.life
        {
            self.overtaken.insert(claimed.to_owned());
        }
    }

    /// The newest version of any object of the kind that is known of; 0 before there is one.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The newest version that the watch has told of.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// A number that is another one whenever an object has come, changed or gone.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// A number that is another one whenever an object has come, gone, or changed what it is about.
    pub fn shapes(&self) -> u64 {
        self.shapes
    }

    /// Takes an event of the watch. Returns what changed.
    pub fn apply(&mut self, event: Event<K>) -> Vec<IndexKey> {
        if let Event::InitApply(object) | Event::Apply(object) | Event::Delete(object) = &event {
            self.newest = self.newest.max(version(object).unwrap_or(0));
        }
        match event {
            Event::Init => {
                self.relists += 1;
                self.listing = Some(Listing::default());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listing) = &mut self.listing {
                    listing.listed.insert(uid(&object).to_owned());
                    listing.newest = listing.newest.max(version(&object).unwrap_or(0));
                }
                self.put(Arc::new(object))
            }
            Event::InitDone => self.listed(),
            Event::Apply(object) => {
                self.delivered = self.delivered.max(version(&object).unwrap_or(0));
                self.put(Arc::new(object))
            }
            Event::Delete(object) => {
                self.note_claim(&object);
                self.delivered = self.delivered.max(version(&object).unwrap_or(0));
                self.tombstones.remove(uid(&object));
                self.remove_key(&key(&object), uid(&object))
            }
        }
    }

    /// Takes the object of an answer to a call of ours. Returns what changed.
    ///
    /// `as_of` is the state of the store that the answer shows, 0 where it does not say: an object that stands in a state
    /// as new as all that the watch has delivered was not deleted before it, and is news also where the watch never told
    /// of it.
    pub fn upsert(&mut self, object: Arc<K>, as_of: u64) -> Vec<IndexKey> {
        self.newest = self.newest.max(version(&*object).unwrap_or(0));
        let (namespace, name) = key(&*object);
        let known = self.get(&namespace, &name).is_some();
        let is_older = version(&*object).is_some_and(|version| version <= self.delivered);
        if !known && is_older && as_of < self.delivered {
            return Vec::new();
        }
        if let Some(listing) = &mut self.listing {
            listing.answered.insert(uid(&*object).to_owned());
        }
        self.put(object)
    }

    /// Takes the news that this uid is gone. Returns what changed.
    pub fn remove(&mut self, namespace: &str, name: &str, uid: &str) -> Vec<IndexKey> {
        let index_keys = self.remove_key(&(namespace.to_owned(), name.to_owned()), uid);
        if !index_keys.is_empty() || self.listing.is_some() {
            self.tombstones.insert(uid.to_owned(), self.relists);
        }
        index_keys
    }

    fn put(&mut self, object: Arc<K>) -> Vec<IndexKey> {
        self.note_claim(&object);
        if self.tombstones.contains_key(uid(&*object)) {
            return Vec::new();
        }
        let (key, mut index_keys) = (key(&*object), object.keys());
        let before = match self.get(&key.0, &key.1) {
            Some(present) if !supersedes(&*object, &**present) => return Vec::new(),
            Some(present) => Some(present.keys()),
            None => None,
        };
        self.changes += 1;
        if before.as_ref() == Some(&index_keys) {
            self.replace(&key, &index_keys, &object);
            return index_keys;
        }
        self.shapes += 1;
        let before = before.unwrap_or_default();
        self.unindex(&key, &before);
        for index_key in &index_keys {
            self.index.entry(index_key.clone()).or_default().insert(key.clone(), object.clone());
        }
        let (namespace, name) = key;
        self.objects.entry(namespace).or_default().insert(name, object);
        index_keys.extend(before);
        index_keys
    }

    /// Puts another look at an object in the places of the one before, which was about the same: most changes are such.
    fn replace(&mut self, key: &Key, index_keys: &[IndexKey], object: &Arc<K>) {
        for index_key in index_keys {
            if let Some(place) = self.index.get_mut(index_key).and_then(|keys| keys.get_mut(key)) {
                place.clone_from(object);
            }
        }
        if let Some(place) = self.objects.get_mut(&key.0).and_then(|within| within.get_mut(&key.1)) {
            place.clone_from(object);
        }
    }

    fn remove_key(&mut self, key: &Key, uid_gone: &str) -> Vec<IndexKey> {
        match self.get(&key.0, &key.1).cloned() {
            Some(present) if uid(&*present) == uid_gone => {
                (self.changes, self.shapes) = (self.changes + 1, self.shapes + 1);
                if let Some(within) = self.objects.get_mut(&key.0) {
                    within.remove(&key.1);
                    if within.is_empty() {
                        self.objects.remove(&key.0);
                    }
                }
                let index_keys = present.keys();
                self.unindex(key, &index_keys);
                index_keys
            }
            _ => Vec::new(),
        }
    }

    fn listed(&mut self) -> Vec<IndexKey> {
        let Some(listing) = self.listing.take() else { return Vec::new() };
        let stays = |object: &K| {
            let younger = version(object).is_none_or(|version| version > listing.newest);
            listing.listed.contains(uid(object)) || (younger && listing.answered.contains(uid(object)))
        };
        let lost: Vec<_> = self
            .all()
            .filter(|object| !stays(object.as_ref()))
            .map(|object| (key(object.as_ref()), uid(object.as_ref()).to_owned()))
            .collect();
        self.delivered = self.delivered.max(listing.newest);
        self.tombstones.retain(|uid, relist| *relist >= self.relists || listing.listed.contains(uid));
        self.synced = true;
        lost.into_iter().flat_map(|(key, uid)| self.remove_key(&key, &uid)).collect()
    }

    fn unindex(&mut self, key: &Key, index_keys: &[IndexKey]) {
        for index_key in index_keys {
            if let Some(keys) = self.index.get_mut(index_key) {
                keys.remove(key);
                if keys.is_empty() {
                    self.index.remove(index_key);
                }
            }
        }
    }
}

fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn uid<K: Resource>(object: &K) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_ref().and_then(|version| version.parse().ok())
}

/// Whether `new` is a later look than `old`. Versions that are no numbers cannot be put in order: the last look wins.
fn supersedes<K: Resource>(new: &K, old: &K) -> bool {
    match (version(new), version(old)) {
        (Some(new), Some(old)) => new > old,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
