//! The work queue of a controller.
//!
//! Promises, as client-go's rate limiting queue does:
//! - One worker at a time processes a key.
//! - A key that is added while it is processed is processed once more afterwards.
//! - A key that is added twice before it is processed is processed once.
//! - Delays of one key do not add up: the delay that ends first counts.
//! - A failed key returns after 1, 2, 4 … 300 seconds, counted per key until `forget`. An ordinary add does
//!   not wait for this delay.
//!
//! Not here: a limit over all keys, and shutdown (the worker tasks are aborted).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// First delay of a failed key.
pub(crate) const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest delay of a failed key.
pub(crate) const LAST_RETRY: Duration = Duration::from_secs(300);

/// A work queue of object keys.
#[derive(Default)]
pub(crate) struct WorkQueue {
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    order: VecDeque<String>,
    waiting: BTreeSet<String>,
    working: BTreeSet<String>,
    failures: BTreeMap<String, u32>,
    delayed: BTreeMap<String, Instant>,
}

impl WorkQueue {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, key: &str) {
        let mut state = self.state();
        if !state.waiting.insert(key.to_owned()) || state.working.contains(key) {
            return;
        }
        state.order.push_back(key.to_owned());
        drop(state);
        self.ready.notify_one();
    }

    /// Adds the key to the queue after `delay`. Of several delays of one key, the delay that ends first
    /// counts.
    pub(crate) fn add_after(self: &Arc<Self>, key: &str, delay: Duration) {
        let due = Instant::now() + delay;
        let mut state = self.state();
        if state.delayed.get(key).is_some_and(|earlier| *earlier <= due) {
            return;
        }
        state.delayed.insert(key.to_owned(), due);
        drop(state);
        let queue = Arc::downgrade(self);
        let key = key.to_owned();
        tokio::spawn(async move {
            tokio::time::sleep_until(due).await;
            if let Some(queue) = queue.upgrade() {
                queue.end_delay(&key, due);
            }
        });
    }

    /// Adds the key to the queue, unless another delay has replaced this one.
    fn end_delay(&self, key: &str, due: Instant) {
        let mut state = self.state();
        if state.delayed.get(key) != Some(&due) {
            return;
        }
        state.delayed.remove(key);
        drop(state);
        self.add(key);
    }

    /// Adds a failed key to the queue after its back-off.
    pub(crate) fn add_rate_limited(self: &Arc<Self>, key: &str) {
        let delay = {
            let mut state = self.state();
            let failures = state.failures.entry(key.to_owned()).or_default();
            let delay = back_off(*failures);
            *failures = failures.saturating_add(1);
            delay
        };
        self.add_after(key, delay);
    }

    /// Resets the failure count of a key.
    pub(crate) fn forget(&self, key: &str) {
        self.state().failures.remove(key);
    }

    /// Returns the next key. It is being processed until [`done`](Self::done).
    pub(crate) async fn next(&self) -> String {
        loop {
            if let Some(key) = self.take() {
                return key;
            }
            self.ready.notified().await;
        }
    }

    fn take(&self) -> Option<String> {
        let mut state = self.state();
        let key = state.order.pop_front()?;
        state.waiting.remove(&key);
        state.working.insert(key.clone());
        let more = !state.order.is_empty();
        drop(state);
        if more {
            self.ready.notify_one();
        }
        Some(key)
    }

    /// Ends the processing of a key.
    pub(crate) fn done(&self, key: &str) {
        let mut state = self.state();
        state.working.remove(key);
        if state.waiting.contains(key) {
            state.order.push_back(key.to_owned());
            drop(state);
            self.ready.notify_one();
        }
    }
}

fn back_off(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LAST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn key_added_during_processing_is_processed_again() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, "b", "one worker at a time for a key");
        queue.done("a");
        assert_eq!(queue.next().await, "a");
        queue.done("a");
        assert!(queue.take().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn shortest_of_several_delays_applies() {
        let queue = WorkQueue::new();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(1));
        queue.add_after("a", Duration::from_secs(4));
        let before = Instant::now();
        let key = queue.next().await;
        assert_eq!(before.elapsed().as_secs(), 1);
        queue.done(&key);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(queue.take().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn failure_backoff_grows_until_reset() {
        let queue = WorkQueue::new();
        for expected in [1, 2, 4] {
            let before = Instant::now();
            queue.add_rate_limited("a");
            let key = queue.next().await;
            assert_eq!(before.elapsed().as_secs(), expected);
            queue.done(&key);
        }
        queue.forget("a");
        let before = Instant::now();
        queue.add_rate_limited("a");
        queue.next().await;
        assert_eq!(before.elapsed().as_secs(), 1);
        assert_eq!(back_off(40), LAST_RETRY);
    }
}
