//! Defines time as data. Callers pass times into the core; the core does not read a clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time plus a duration; the latest representable time on overflow.
    pub fn after(self, duration: Millis) -> Self {
        Self(self.0.saturating_add_unsigned(duration.0.saturating_mul(1_000_000)))
    }

    /// Time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Millis {
        Millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0) / 1_000_000)
    }
}

/// A duration in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms @ 0..1_000 => write!(f, "{ms} ms"),
            ms @ 1_000..120_000 => write!(f, "{}.{} s", ms / 1000, ms % 1000 / 100),
            ms => write!(f, "{} m {} s", ms / 60_000, ms % 60_000 / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_neither_overflows_nor_runs_backwards() {
        assert_eq!(Timestamp(i64::MAX).after(Millis(5)), Timestamp(i64::MAX));
        assert_eq!(Timestamp(0).after(Millis(u64::MAX)), Timestamp(i64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(9_000_000)), Millis(0));
        assert_eq!(Timestamp(7_000_000).since(Timestamp(0)), Millis(7));
    }

    #[test]
    fn durations_are_printed_for_humans() {
        assert_eq!(Millis(12).to_string(), "12 ms");
        assert_eq!(Millis(6_240).to_string(), "6.2 s");
        assert_eq!(Millis::from_secs(600).to_string(), "10 m 0 s");
    }
}
