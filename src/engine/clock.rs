//! Time for the engine: one anchor on the wall clock, and the runtime's clock from there.
//!
//! On the runtime's clock, so that on simulated time every deadline, pause and recorded time is simulated as well;
//! and so that a step of the wall clock does not end a deadline of a running daemon.

use crate::domain::time::Timestamp;

/// Where the engine's time comes from.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    anchor: Timestamp,
    started: tokio::time::Instant,
}

impl Clock {
    /// A clock that shows `anchor` now.
    pub fn anchored(anchor: Timestamp) -> Self {
        Self { anchor, started: tokio::time::Instant::now() }
    }

    /// A clock that shows the time of the wall clock now.
    pub fn wall() -> Self {
        let now = jiff::Timestamp::now().as_nanosecond();
        Self::anchored(Timestamp(i64::try_from(now).unwrap_or(i64::MAX)))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        Timestamp(self.anchor.0.saturating_add(elapsed))
    }

    /// Returns at that time; never, for `None`.
    pub async fn sleep_until(&self, at: Option<Timestamp>) {
        match at {
            Some(at) => {
                let left = u64::try_from(at.0.saturating_sub(self.now().0)).unwrap_or(0);
                tokio::time::sleep(std::time::Duration::from_nanos(left)).await;
            }
            None => std::future::pending().await,
        }
    }
}
