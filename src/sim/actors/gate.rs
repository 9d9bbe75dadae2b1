//! Stopping an actor for a while, as a stopped process is.
//!
//! A frozen actor makes no call and its caches hear nothing; what happened meanwhile reaches it when it goes
//! on, so that it then works from a stale cache.

use tokio::sync::watch;

/// The switch of one actor. Clones are the same switch.
#[derive(Clone)]
pub(crate) struct Gate {
    frozen: watch::Sender<bool>,
}

impl Gate {
    /// An open gate.
    pub(crate) fn new() -> Self {
        Self { frozen: watch::Sender::new(false) }
    }

    /// Stops the actor before its next call, or lets it go on.
    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Returns when the actor is not frozen; true if it was.
    pub(crate) async fn pass(&self) -> bool {
        if !*self.frozen.borrow() {
            return false;
        }
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
        true
    }
}
