//! What a controller keeps of one resource it works on: cache, newest known versions, work queue.

use std::sync::Arc;

use super::informer::{Cache, Newest};
use super::queue::WorkQueue;

/// One resource of one controller.
pub(crate) struct Tracked {
    /// Its plural.
    pub(crate) plural: &'static str,
    /// What the watch has told.
    pub(crate) cache: Cache,
    /// What the controller has seen or written itself, whichever is newer.
    pub(crate) newest: Newest,
    /// Keys to look at.
    pub(crate) queue: Arc<WorkQueue>,
}

impl Tracked {
    /// A resource whose changes are put into `queue`, and whose ends are told to `newest`, by the cache's handler.
    pub(crate) fn new(plural: &'static str, cache: Cache, newest: Newest, queue: Arc<WorkQueue>) -> Self {
        cache.list().iter().for_each(|object| {
            newest.update(object);
        });
        Self { plural, cache, newest, queue }
    }
}
