//! Who is waiting for what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::Notify;

use super::World;
use super::topic::Topic;
use crate::domain::observed::Scope;

/// Everybody who waits, by topic.
#[derive(Debug, Default)]
pub struct Bells {
    next: u64,
    topics: BTreeMap<Topic, BTreeSet<u64>>,
    bells: BTreeMap<u64, (Arc<Notify>, Vec<Topic>)>,
}

impl Bells {
    /// A bell that rings for any of these topics.
    pub fn hang(&mut self, topics: Vec<Topic>) -> (u64, Arc<Notify>) {
        let (id, bell) = (self.next, Arc::new(Notify::new()));
        self.next += 1;
        self.link(id, &topics);
        self.bells.insert(id, (bell.clone(), topics));
        (id, bell)
    }

    /// Makes a bell ring for other topics.
    pub fn rehang(&mut self, id: u64, topics: Vec<Topic>) {
        if self.bells.get(&id).is_none_or(|(_, present)| *present == topics) {
            return;
        }
        let Some((bell, old)) = self.bells.remove(&id) else { return };
        self.unlink(id, &old);
        self.link(id, &topics);
        self.bells.insert(id, (bell, topics));
    }

    /// Takes a bell down.
    pub fn take_down(&mut self, id: u64) {
        if let Some((_, topics)) = self.bells.remove(&id) {
            self.unlink(id, &topics);
        }
    }

    /// Rings each bell once that waits for one of these topics.
    pub fn ring(&self, topics: &[Topic]) {
        let ids: BTreeSet<_> = topics.iter().filter_map(|topic| self.topics.get(topic)).flatten().collect();
        for (bell, _) in ids.into_iter().filter_map(|id| self.bells.get(id)) {
            bell.notify_one();
        }
    }

    fn link(&mut self, id: u64, topics: &[Topic]) {
        for topic in topics {
            self.topics.entry(topic.clone()).or_default().insert(id);
        }
    }

    fn unlink(&mut self, id: u64, topics: &[Topic]) {
        for topic in topics {
            if let Some(ids) = self.topics.get_mut(topic) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.topics.remove(topic);
                }
            }
        }
    }
}

/// A run that waits for what can matter to it. It stops waiting when it is dropped.
pub struct Subscription {
    pub(super) id: u64,
    pub(super) bell: Arc<Notify>,
    pub(super) world: World,
    /// The scope and the shape of the caches for which the bell hangs.
    pub(super) hung: Option<(Scope, [u64; 3])>,
}

impl Subscription {
    /// Returns once something has changed since it last returned. Changes in between count as one.
    pub async fn changed(&self) {
        self.bell.notified().await;
    }

    /// Waits for what matters to this scope from now on. Observe after it, not before: what has rung so far is
    /// in the caches, because bells ring under their lock, and counts as seen.
    pub fn rescope(&mut self, scope: &Scope) {
        let mut store = self.world.store();
        // Without this the second of two changes would have a run looked at twice that shows both already.
        let _seen = self.bell.notified().now_or_never();
        let shape = store.shape();
        if self.hung.as_ref().is_some_and(|(hung, before)| *before == shape && hung == scope) {
            return;
        }
        let topics = store.topics(scope);
        store.bells.rehang(self.id, topics);
        self.hung = Some((scope.clone(), shape));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.world.store().bells.take_down(self.id);
    }
}
