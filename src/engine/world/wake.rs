//! Who is waiting for what.
//!
//! Ten thousand runs wait for two dozen topics each. A topic is kept here as its hash: were two topics ever of one hash,
//! a run would look once for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
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
    /// Who waits for which topic.
    links: BTreeSet<(Short, u64)>,
    bells: BTreeMap<u64, (Arc<Notify>, Box<[Short]>)>,
}

/// Hash of a topic, the same in every life.
type Short = u64;

impl Bells {
    /// A bell that rings for any of these topics.
    pub fn hang(&mut self, topics: &[Topic]) -> (u64, Arc<Notify>) {
        let (id, bell) = (self.next, Arc::new(Notify::new()));
        self.next += 1;
        self.put(id, bell.clone(), shorten(topics));
        (id, bell)
    }

    /// Makes a bell ring for other topics.
    pub fn rehang(&mut self, id: u64, topics: &[Topic]) {
        let topics = shorten(topics);
        if self.bells.get(&id).is_none_or(|(_, present)| *present == topics) {
            return;
        }
        if let Some(bell) = self.take_down(id) {
            self.put(id, bell, topics);
        }
    }

    /// Takes a bell down.
    pub fn take_down(&mut self, id: u64) -> Option<Arc<Notify>> {
        let (bell, topics) = self.bells.remove(&id)?;
        for topic in topics {
            self.links.remove(&(topic, id));
        }
        Some(bell)
    }

    /// Rings each bell once that waits for one of these topics.
    pub fn ring(&self, topics: &[Topic]) {
        let waiting = |topic| self.links.range((topic, 0)..=(topic, u64::MAX)).map(|(_, id)| id);
        let ids: BTreeSet<_> = topics.iter().map(short).flat_map(waiting).collect();
        for (bell, _) in ids.into_iter().filter_map(|id| self.bells.get(id)) {
            bell.notify_one();
        }
    }

    fn put(&mut self, id: u64, bell: Arc<Notify>, topics: Box<[Short]>) {
        self.links.extend(topics.iter().map(|topic| (*topic, id)));
        self.bells.insert(id, (bell, topics));
    }
}

fn short(topic: &Topic) -> Short {
    // Its keys are constant.
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    hasher.finish()
}

fn shorten(topics: &[Topic]) -> Box<[Short]> {
    topics.iter().map(short).collect()
}

/// A run that waits for what can matter to it. It stops waiting when it is dropped.
pub struct Subscription {
    pub(super) id: u64,
    pub(super) bell: Arc<Notify>,
    pub(super) world: World,
    /// The scope and the shape of the caches for which the bell hangs.
    pub(super) hung: Option<(Arc<Scope>, [u64; 3])>,
}

impl Subscription {
    /// Returns once something has changed since it last returned. Changes in between count as one.
    pub async fn changed(&self) {
        self.bell.notified().await;
    }

    /// Waits for what matters to this scope from now on. Observe after it, not before: what has rung so far is
    /// in the caches, because bells ring under their lock, and counts as seen.
    pub fn rescope(&mut self, scope: &Arc<Scope>) {
        let mut store = self.world.store();
        // Without this the second of two changes would have a run looked at twice that shows both already.
        let _seen = self.bell.notified().now_or_never();
        let shape = store.shape();
        if self.hung.as_ref().is_some_and(|(hung, before)| *before == shape && hung == scope) {
            return;
        }
        let topics = store.topics(scope);
        store.bells.rehang(self.id, &topics);
        self.hung = Some((scope.clone(), shape));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.world.store().bells.take_down(self.id);
    }
}
