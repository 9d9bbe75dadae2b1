//! The tokio tasks of an actor, which are aborted together.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::AbortHandle;

use super::queue::WorkQueue;

/// Number of work items that each controller processes in parallel, per queue (`--worker-threads` of the real
/// ones).
const WORKERS: usize = 10;

/// Running tasks, until [`stop`](Tasks::stop).
#[derive(Default)]
pub(crate) struct Tasks {
    handles: Vec<AbortHandle>,
    failed: Arc<AtomicU64>,
}

impl Tasks {
    /// Starts a task on the current runtime.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.handles.push(tokio::spawn(task).abort_handle());
    }

    /// Starts the workers of a queue. A key whose work fails returns after its back-off.
    pub(crate) fn spawn_workers<W, F>(&mut self, queue: &Arc<WorkQueue>, work: W)
    where
        W: Fn(String) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), String>> + Send,
    {
        for _ in 0..WORKERS {
            let (queue, work, failed) = (queue.clone(), work.clone(), self.failed.clone());
            self.spawn(async move {
                loop {
                    let key = queue.next().await;
                    match work(key.clone()).await {
                        Ok(()) => queue.forget(&key),
                        Err(reason) => {
                            tracing::debug!(key, reason, "work item failed and will be tried again");
                            failed.fetch_add(1, Ordering::Relaxed);
                            queue.add_rate_limited(&key);
                        }
                    }
                    queue.done(&key);
                }
            });
        }
    }

    /// Number of work items that failed and were requeued.
    pub(crate) fn failed_work(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&mut self) {
        for handle in self.handles.drain(..) {
            handle.abort();
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop();
    }
}
