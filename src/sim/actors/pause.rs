//! Stops an actor for a while, as a stopped process: at once, or after a planned call.
//!
//! A frozen actor makes no calls and its caches receive no events. The events of that time reach it when it
//! resumes, so it works from a stale cache then. A plan stops the actor after a call, before the reply is
//! read.
//!
//! All tasks that wait for the end of a pause resume in the order of their arrival. A `watch` channel would
//! wake them in a random order, and the same seed would not give the same run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// The pause of one actor. Clones share the same pause.
#[derive(Clone)]
pub(crate) struct Pause {
    frozen: Arc<AtomicBool>,
    resumed: Arc<Notify>,
    plans: Arc<Mutex<Vec<Plan>>>,
}

/// The call to stop after, and the receiver to notify.
struct Plan {
    calls_left: u64,
    reached: oneshot::Sender<()>,
}

impl Pause {
    /// Creates the state of a running actor.
    pub(crate) fn new() -> Self {
        Self { frozen: Arc::default(), resumed: Arc::default(), plans: Arc::default() }
    }

    /// Stops the actor before its next call, or resumes it.
    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::SeqCst);
        if !frozen {
            self.resumed.notify_waiters();
        }
    }

    /// Returns once the actor is not frozen. Returns true if it was frozen.
    pub(crate) async fn wait(&self) -> bool {
        let mut waited = false;
        loop {
            // The future is created before the check, so a resume between the check and the wait is not
            // missed.
            let resumed = self.resumed.notified();
            if !self.frozen.load(Ordering::SeqCst) {
                return waited;
            }
            waited = true;
            resumed.await;
        }
    }

    /// Stops the actor after `calls` more calls and then notifies the receiver. The receiver gets an error if
    /// the actor ends before.
    pub(crate) fn stop_after_calls(&self, calls: u64) -> oneshot::Receiver<()> {
        let (reached, receiver) = oneshot::channel();
        if calls == 0 {
            self.set_frozen(true);
            // The receiver still exists.
            let _ = reached.send(());
        } else {
            self.plans().push(Plan { calls_left: calls, reached });
        }
        receiver
    }

    /// Counts a call, and waits while the actor is frozen by a plan for this call.
    pub(crate) async fn count_call(&self) {
        let mut reached_any = false;
        {
            let mut plans = self.plans();
            for plan in plans.iter_mut() {
                plan.calls_left -= 1;
            }
            for plan in plans.extract_if(.., |plan| plan.calls_left == 0) {
                self.set_frozen(true);
                reached_any = true;
                // The receiver is dropped with the cluster.
                let _ = plan.reached.send(());
            }
        }
        if reached_any {
            self.wait().await;
        }
    }

    fn plans(&self) -> MutexGuard<'_, Vec<Plan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
