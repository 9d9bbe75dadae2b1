//! Who is waiting for what.
//!
//! Ten thousand runs wait for two dozen topics each. A topic is kept here as its hash: were two topics ever of one hash,
//! a run would look once for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::Notify;

use super::Cache;
use super::index::IndexKey;
use crate::domain::observed::Scope;

/// Everybody who waits, by topic.
#[derive(Debug, Default)]
pub struct Subscriptions {
    next: u64,
    /// Who waits for which topic.
    links: BTreeSet<(Short, u64)>,
    subscriptions: BTreeMap<u64, (Arc<Notify>, Box<[Short]>)>,
}

/// Hash of a topic, the same in every life.
type Short = u64;

impl Subscriptions {
    /// A bell that rings for any of these topics.
    pub fn subscribe(&mut self, keys: &[IndexKey]) -> (u64, Arc<Notify>) {
        let (id, notify) = (self.next, Arc::new(Notify::new()));
        self.next += 1;
        self.put(id, notify.clone(), shorten(keys));
        (id, notify)
    }

    /// Makes a bell ring for other topics.
    pub fn resubscribe(&mut self, id: u64, keys: &[IndexKey]) {
        let keys = shorten(keys);
        if self.subscriptions.get(&id).is_none_or(|(_, present)| *present == keys) {
            return;
        }
        if let Some(notify) = self.unsubscribe(id) {
            self.put(id, notify, keys);
        }
    }

    /// Takes a bell down.
    pub fn unsubscribe(&mut self, id: u64) -> Option<Arc<Notify>> {
        let (notify, keys) = self.subscriptions.remove(&id)?;
        for key in keys {
            self.links.remove(&(key, id));
        }
        Some(notify)
    }

    /// Rings each bell once that waits for one of these topics.
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
    // Its keys are constant.
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

fn shorten(keys: &[IndexKey]) -> Box<[Short]> {
    keys.iter().map(short).collect()
}

/// A run that waits for what can matter to it. It stops waiting when it is dropped.
pub struct Subscription {
    pub(super) id: u64,
    pub(super) notify: Arc<Notify>,
    pub(super) cache: Cache,
    /// The scope and the shape of the caches for which the bell hangs.
    pub(super) interest: Option<(Arc<Scope>, [u64; 3])>,
}

impl Subscription {
    /// Returns once something has changed since it last returned. Changes in between count as one.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Waits for what matters to this scope from now on. Observe after it, not before: what has rung so far is
    /// in the caches, because bells ring under their lock, and counts as seen.
    pub fn set_interest(&mut self, scope: &Arc<Scope>) {
        let mut store = self.cache.store();
        // Without this the second of two changes would have a run looked at twice that shows both already.
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

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cache.store().subscriptions.unsubscribe(self.id);
    }
}
