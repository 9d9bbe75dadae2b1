//! The state of a controller for one resource: cache, newest known versions, work queue.

use std::sync::Arc;

use super::informer::{Cache, Newest};
use super::queue::WorkQueue;

pub(crate) struct ResourceState {
    pub(crate) plural: &'static str,
    /// The objects as of the last watch event.
    pub(crate) cache: Cache,
    /// The objects that the controller has seen or written itself, whichever is newer.
    pub(crate) newest: Newest,
    /// Keys to reconcile.
    pub(crate) queue: Arc<WorkQueue>,
}

impl ResourceState {
    /// Creates the state of a resource. The handler of the cache must add changed keys to `queue` and pass
    /// deletions to `newest`.
    pub(crate) fn new(plural: &'static str, cache: Cache, newest: Newest, queue: Arc<WorkQueue>) -> Self {
        cache.list().iter().for_each(|object| {
            newest.update(object);
        });
        Self { plural, cache, newest, queue }
    }
}
