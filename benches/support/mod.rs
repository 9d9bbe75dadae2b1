//! Collects samples and prints them: medians with their spread, because machines are noisy, and ratios,
//! because machines differ.

mod table;

use std::time::Duration;

pub use table::table;

/// Durations of one kind, each measured alone. Never empty.
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Creates samples from at least one duration.
    pub fn new(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "nothing was measured");
        samples.sort();
        Self(samples)
    }

    pub fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// Formats the shortest and the longest duration.
    pub fn spread(&self) -> String {
        let ends = [self.0.first(), self.0.last()].map(|end| end.copied().unwrap_or_default());
        format!("{} .. {}", ms(ends[0]), ms(ends[1]))
    }

    /// Formats the ratio of this median to that of `other`.
    pub fn ratio(&self, other: &Samples) -> String {
        format!("{:.2}", self.median().as_secs_f64() / other.median().as_secs_f64().max(f64::EPSILON))
    }
}

/// Formats a duration in milliseconds, to the microsecond.
pub fn ms(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1e3)
}
