//! The wall clock of the embedded cluster.
//!
//! Kubernetes objects have wall-clock times; tests run in paused time. [`SimClock`] combines the two: it
//! starts at a fixed instant and advances with `tokio::time`, so that a run in paused time writes the same
//! timestamps every time. It can be [stepped](SimClock::step), as a wall clock can be set.
//! [`steady_ns`](SimClock::steady_ns) ignores steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use tokio::time::Instant;

/// A wall clock that starts at a given instant and advances with `tokio::time`. Clones share the same clock.
#[derive(Clone, Debug)]
pub struct SimClock {
    anchor_unix_ns: i64,
    origin: Instant,
    /// Sum of all steps, nanoseconds; negative if the clock was set back.
    stepped_ns: Arc<AtomicI64>,
}

impl SimClock {
    /// Creates a clock whose current time is `anchor_unix_ns` (nanoseconds since the Unix epoch).
    pub fn new(anchor_unix_ns: i64) -> Self {
        Self { anchor_unix_ns, origin: Instant::now(), stepped_ns: Arc::default() }
    }

    /// Sets the clock forward by `milliseconds`, or back if negative.
    pub fn step(&self, milliseconds: i64) {
        self.stepped_ns.fetch_add(milliseconds.saturating_mul(1_000_000), Ordering::SeqCst);
    }

    /// Nanoseconds since the Unix epoch.
    pub fn now_ns(&self) -> i64 {
        self.steady_ns().saturating_add(self.stepped_ns.load(Ordering::SeqCst))
    }

    /// Nanoseconds since the Unix epoch without steps: the difference of two readings is the elapsed time.
    pub fn steady_ns(&self) -> i64 {
        let elapsed = i64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(i64::MAX);
        self.anchor_unix_ns.saturating_add(elapsed)
    }

    /// The time in the format of `metav1.Time`: whole seconds, `2026-11-20T18:03:04Z`.
    pub fn rfc3339(&self) -> String {
        format(self.now_ns(), "%Y-%m-%dT%H:%M:%SZ")
    }

    /// The time in the format of `metav1.MicroTime`: microseconds, `2026-11-20T18:03:04.000120Z`.
    pub fn rfc3339_micro(&self) -> String {
        format(self.now_ns(), "%Y-%m-%dT%H:%M:%S%.6fZ")
    }
}

fn format(unix_ns: i64, layout: &str) -> String {
    let time = Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime(layout).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clock_advances_with_virtual_time_only() {
        let clock = SimClock::new(1_795_000_000_123_456_789);
        assert_eq!(clock.rfc3339(), "2026-11-18T11:06:40Z");
        assert_eq!(clock.rfc3339_micro(), "2026-11-18T11:06:40.123456Z");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(clock.now_ns(), 1_795_000_061_123_456_789);
        assert_eq!(clock.rfc3339(), "2026-11-18T11:07:41Z");
    }

    #[tokio::test(start_paused = true)]
    async fn step_changes_only_wall_clock() {
        let clock = SimClock::new(0);
        clock.clone().step(-3_600_000);
        assert_eq!((clock.now_ns(), clock.steady_ns()), (-3_600_000_000_000, 0));
        clock.step(3_600_000);
        assert_eq!(clock.now_ns(), 0);
    }
}
