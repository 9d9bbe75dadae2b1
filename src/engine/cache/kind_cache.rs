//! Caches the objects of one kind: watch events and the answers to our own calls, in one order.
//!
//! The API server numbers every change of the store, so that two versions of one object can be ordered by
//! their resourceVersion. The rules follow from that:
//! - An older version never overwrites a newer one, whatever its source.
//! - A deleted uid stays deleted: the cache keeps it as a tombstone until the watch has reported the deletion
//!   too.
//! - An answer about an object that is not cached is older than the cache if its version is not above the
//!   version that the watch has delivered. The watch would have delivered the object, so it delivered the
//!   deletion. Such an answer is dropped; otherwise the object would stay for ever. The exception is an
//!   answer that shows a state of the store as new as everything the watch has delivered: then the watch has
//!   lost the object.
//!
//! SUBTLE: a relist removes objects that it does not list. The exception is an object that an answer brought
//! after the relist began, with a version above all listed ones: that object may be newer than the list.
//! 1. We create an object while the watch is down.
//! 2. The list, taken before, does not contain it.
//! 3. If the relist removed it, the group of the run would seem deleted until the watch delivers the object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::Resource;
use kube::runtime::watcher::Event;

use super::index::{IndexKey, Indexed};

/// Namespace (empty for an object of the cluster) and name.
pub type Key = (String, String);

#[derive(Debug)]
pub struct KindCache<K> {
    /// By namespace and name, so that a lookup copies neither.
    objects: BTreeMap<String, BTreeMap<String, Arc<K>>>,
    index: BTreeMap<IndexKey, BTreeMap<Key, Arc<K>>>,
    /// Deleted uids, with the number of the relist during or after which the deletion became known.
    tombstones: BTreeMap<String, u64>,
    /// Newest version that the watch has delivered.
    delivered: u64,
    /// Newest version from any source: the watch, or the answer to a call.
    newest: u64,
    /// Number of relists that have begun.
    relists: u64,
    listing: Option<Listing>,
    /// Whether there was a complete list.
    synced: bool,
    /// Number of times that an object was added, changed or deleted.
    changes: u64,
    /// Number of times that an object was added, deleted, or changed its index keys.
    shapes: u64,
    /// Epoch of this incarnation; 0 where claims are not tracked.
    life: u64,
    /// Ids that a newer incarnation has claimed: runs, and Backups by uid. They remain after the object is
    /// deleted.
    overtaken: BTreeSet<String>,
}

/// A relist in progress.
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

    pub fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values().flat_map(BTreeMap::values)
    }

    /// Whether there was a complete list.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Marks an empty cache as synced: for kinds whose first list is not awaited.
    pub fn take_for_synced(&mut self) {
        self.synced = true;
    }

    /// Begins to track claims by incarnations newer than this one.
    pub fn live_as(&mut self, epoch: u64) {
        self.life = epoch;
    }

    /// Whether a newer incarnation has claimed an object of the run, or the Backup of that uid, even if the
    /// object is deleted. A watch delivers the claim before the deletion, and the last state of a deleted
    /// object carries it, too.
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

    /// The newest known version of any object of the kind; 0 before there is one.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The newest version that the watch has delivered.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// A counter that differs whenever an object was added, changed or deleted.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// A counter that differs whenever an object was added, deleted, or changed its index keys.
    pub fn shapes(&self) -> u64 {
        self.shapes
    }

    /// Applies a watch event. Returns the changed index keys.
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

    /// Applies the object in the answer to one of our calls. Returns the changed index keys.
    ///
    /// `as_of` is the version of the store that the answer shows; 0 if the answer does not state it. An
    /// object that exists in a state as new as everything the watch has delivered was not deleted before that
    /// state. It is applied even if the watch never delivered it.
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

    /// Removes an object because this uid is deleted. Returns the changed index keys.
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

    /// Replaces an object by a version with the same index keys: most changes are of this kind.
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

/// Whether `new` is a later version than `old`. Versions that are not numbers cannot be ordered: the last one
/// applied wins.
fn supersedes<K: Resource>(new: &K, old: &K) -> bool {
    match (version(new), version(old)) {
        (Some(new), Some(old)) => new > old,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
