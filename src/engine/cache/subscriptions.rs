//! Maps index keys to the runs that wait for them.
//!
//! 10,000 runs wait for about 24 index keys each. The map stores a hash of each key: if two keys had the same
//! hash, a run would only observe once in vain.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::Notify;

use super::Cache;
use super::index::IndexKey;
use crate::domain::observed::Scope;

/// All subscriptions, by index key.
#[derive(Debug, Default)]
pub struct Subscriptions {
    next: u64,
    /// Pairs of key hash and subscription id.
    links: BTreeSet<(Short, u64)>,
    subscriptions: BTreeMap<u64, (Arc<Notify>, Box<[Short]>)>,
}

/// Hash of an index key, the same in every process.
type Short = u64;

impl Subscriptions {
    /// Subscribes to these index keys.
    pub fn subscribe(&mut self, keys: &[IndexKey]) -> (u64, Arc<Notify>) {
        let (id, notify) = (self.next, Arc::new(Notify::new()));
        self.next += 1;
        self.put(id, notify.clone(), shorten(keys));
        (id, notify)
    }

    /// Replaces the index keys of a subscription.
    pub fn resubscribe(&mut self, id: u64, keys: &[IndexKey]) {
        let keys = shorten(keys);
        if self.subscriptions.get(&id).is_none_or(|(_, present)| *present == keys) {
            return;
        }
        if let Some(notify) = self.unsubscribe(id) {
            self.put(id, notify, keys);
        }
    }

    pub fn unsubscribe(&mut self, id: u64) -> Option<Arc<Notify>> {
        let (notify, keys) = self.subscriptions.remove(&id)?;
        for key in keys {
            self.links.remove(&(key, id));
        }
        Some(notify)
    }

    /// Notifies each subscription to any of these index keys once.
    pub fn notify(&self, keys: &[IndexKey]) {
        let waiting = |key| self.links.range((key, 0)..=(key, u64::MAX)).map(|(_, id)| id);
        let ids: BTreeSet<_> = keys.iter().map(short).flat_map(waiting).collect();
        for (notify, _) in ids.into_iter().filter_map(|id| self.subscriptions.get(id)) {
            notify.notify_one();
        }
    }

    fn put(&mut self, id: u64, notify: Arc<Notify>, keys: Box<[Short]>) {
        self.links.extend(keys.iter().map(|key| (*key, id)));
        self.subscriptions.insert(id, (notify, keys));
    }
}

fn short(key: &IndexKey) -> Short {
    // The hasher uses constant seeds.
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

fn shorten(keys: &[IndexKey]) -> Box<[Short]> {
    keys.iter().map(short).collect()
}

/// Wakes a run on changes that can affect it. Dropping it unsubscribes.
pub struct Subscription {
    pub(super) id: u64,
    pub(super) notify: Arc<Notify>,
    pub(super) cache: Cache,
    /// The scope and the shape of the caches at the last subscription.
    pub(super) interest: Option<(Arc<Scope>, [u64; 3])>,
}

impl Subscription {
    /// Returns once something has changed since the last return. Changes in between count as one.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Subscribes to the index keys of this scope from now on. Observe after this call, not before.
    /// Notifications are sent under the lock of the caches, so every change notified so far is in the caches
    /// and counts as seen.
    pub fn set_interest(&mut self, scope: &Arc<Scope>) {
        let mut store = self.cache.store();
        // Without this, the second of two changes would make a run observe again although both are already in
        // its observation.
        let _seen = self.notify.notified().now_or_never();
        let shape = store.shape();
        if self.interest.as_ref().is_some_and(|(interest, before)| *before == shape && interest == scope) {
            return;
        }
        let keys = store.keys(scope);
        store.subscriptions.resubscribe(self.id, &keys);
        self.interest = Some((scope.clone(), shape));
    }
}

impl Subscription {
    /// As [`Subscription::set_interest`], for these index keys.
    pub fn set_keys(&mut self, keys: &[IndexKey]) {
        let mut store = self.cache.store();
        let _seen = self.notify.notified().now_or_never();
        store.subscriptions.resubscribe(self.id, keys);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cache.store().subscriptions.unsubscribe(self.id);
    }
}
