//! Stopping an actor for a while, as a stopped process is; at once or behind the call that a plan names.
//!
//! A frozen actor makes no call and its caches hear nothing; what happened meanwhile reaches it when it goes
//! on, so that it then works from a stale cache. A plan stops it behind a call, before its answer is read.
//!
//! All who wait at a gate go on in the order in which they came: a `watch` channel wakes them in a random one, and the
//! same seed would not give the same run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// The switch of one actor. Clones are the same switch.
#[derive(Clone)]
pub(crate) struct Gate {
    frozen: Arc<AtomicBool>,
    opened: Arc<Notify>,
    plans: Arc<Mutex<Vec<Plan>>>,
}

/// When to stop, and whom to tell.
struct Plan {
    calls_left: u64,
    reached: oneshot::Sender<()>,
}

impl Gate {
    /// An open gate.
    pub(crate) fn new() -> Self {
        Self { frozen: Arc::default(), opened: Arc::default(), plans: Arc::default() }
    }

    /// Stops the actor before its next call, or lets it go on.
    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::SeqCst);
        if !frozen {
            self.opened.notify_waiters();
        }
    }

    /// Returns when the actor is not frozen; true if it was.
    pub(crate) async fn pass(&self) -> bool {
        let mut waited = false;
        loop {
            // Made before the look: an opening between the look and the wait is not missed.
            let opened = self.opened.notified();
            if !self.frozen.load(Ordering::SeqCst) {
                return waited;
            }
            waited = true;
            opened.await;
        }
    }

    /// Stops the actor behind that many more calls and then tells the receiver, which hears nothing if the actor ends
    /// before.
    pub(crate) fn stop_behind(&self, calls: u64) -> oneshot::Receiver<()> {
        let (reached, receiver) = oneshot::channel();
        if calls == 0 {
            self.set_frozen(true);
            // The receiver is still here.
            let _ = reached.send(());
        } else {
            self.plans().push(Plan { calls_left: calls, reached });
        }
        receiver
    }

    /// A call was made: waits while the actor is frozen by a plan that meant this one.
    pub(crate) async fn called(&self) {
        let mut met = false;
        {
            let mut plans = self.plans();
            for plan in plans.iter_mut() {
                plan.calls_left -= 1;
            }
            for plan in plans.extract_if(.., |plan| plan.calls_left == 0) {
                self.set_frozen(true);
                met = true;
                // Nobody listens when the cluster is gone.
                let _ = plan.reached.send(());
            }
        }
        if met {
            self.pass().await;
        }
    }

    fn plans(&self) -> MutexGuard<'_, Vec<Plan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
