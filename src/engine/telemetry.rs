//! What the engine tells of itself while it works, for whoever counts: one call, no answer, nothing waited for.
//!
//! Deliberately not here: what a number is called and where it is shown (`service`), and what is already in a
//! [`RunStatus`](crate::engine::run_status::RunStatus).

use std::sync::Arc;
use std::time::Duration;

use crate::domain::problem::Code;

/// Something that just happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// A Backup was refused as a whole.
    BackupRefused(Code),
    /// A group of an accepted Backup was refused.
    GroupRefused(Code),
    /// A Backup ended in this phase.
    BackupEnded(&'static str),
    /// A run ended in this state.
    RunEnded(&'static str),
    /// A run was looked at, and this row of the recovery table decided.
    Decided(&'static str),
    /// A step was done, from before its intent to its durable outcome.
    Step {
        /// Which step.
        step: &'static str,
        /// How long it took.
        took: Duration,
    },
    /// An effect was tried.
    Effect {
        /// Its kind.
        kind: &'static str,
        /// `done`, `determinate` or `indeterminate`.
        outcome: &'static str,
    },
    /// Records became durable.
    Appended {
        /// From the request to the barrier.
        took: Duration,
    },
    /// An Event for people was dropped: the queue was full, or the API server did not take it.
    EventDropped,
}

/// Whoever counts. It must not block: it is called in the middle of a run.
pub trait MetricsSink: Send + Sync {
    /// Takes a note.
    fn record(&self, metric: Metric);
}

/// Nobody counts.
struct Nobody;

impl MetricsSink for Nobody {
    fn record(&self, _: Metric) {}
}

/// A sink that drops every metric.
pub fn none() -> Arc<dyn MetricsSink> {
    Arc::new(Nobody)
}
