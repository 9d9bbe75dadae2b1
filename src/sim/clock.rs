//! The wall clock of the embedded cluster.
//!
//! Kubernetes objects carry wall-clock times, tests run on paused time. [`SimClock`] joins the two: it starts at a
//! fixed instant and moves with `tokio::time`, so that a run on paused time writes the same timestamps every time.

use jiff::Timestamp;
use tokio::time::Instant;

/// A wall clock that starts at a given instant and advances with `tokio::time`.
#[derive(Clone, Debug)]
pub struct SimClock {
    anchor_unix_ns: i64,
    origin: Instant,
}

impl SimClock {
    /// A clock that reads `anchor_unix_ns` (nanoseconds since the Unix epoch) at this moment.
    pub fn new(anchor_unix_ns: i64) -> Self {
        Self { anchor_unix_ns, origin: Instant::now() }
    }

    /// Nanoseconds since the Unix epoch.
    pub fn now_ns(&self) -> i64 {
        let elapsed = i64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(i64::MAX);
        self.anchor_unix_ns.saturating_add(elapsed)
    }

    /// The time in the form of `metav1.Time`: whole seconds, `2026-11-20T18:03:04Z`.
    pub fn rfc3339(&self) -> String {
        format(self.now_ns(), "%Y-%m-%dT%H:%M:%SZ")
    }

    /// The time in the form of `metav1.MicroTime`: microseconds, `2026-11-20T18:03:04.000120Z`.
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
    async fn moves_with_the_virtual_time_only() {
        let clock = SimClock::new(1_795_000_000_123_456_789);
        assert_eq!(clock.rfc3339(), "2026-11-18T11:06:40Z");
        assert_eq!(clock.rfc3339_micro(), "2026-11-18T11:06:40.123456Z");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(clock.now_ns(), 1_795_000_061_123_456_789);
        assert_eq!(clock.rfc3339(), "2026-11-18T11:07:41Z");
    }
}
