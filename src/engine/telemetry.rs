//! Defines the metrics that the engine sends to a sink while it works. A call returns nothing and never
//! waits.
//!
//! Not here: the name of a metric and where it is published (`service`), and data that is already in a
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
    /// A run was observed, and this row of the recovery table matched.
    Decided(&'static str),
    /// A step was done, from before its intent to its durable outcome.
    Step {
        /// Name of the step.
        step: &'static str,
        took: Duration,
    },
    /// An effect was attempted.
    Effect {
        kind: &'static str,
        /// `done`, `determinate` or `indeterminate`.
        outcome: &'static str,
    },
    /// Records became durable.
    Appended {
        /// Time from the request to the sync of the disk.
        took: Duration,
    },
    /// A Kubernetes Event was dropped: the queue was full, or the API server did not accept it.
    EventDropped,
}

/// Receives metrics. Must not block: it is called in the middle of a run.
pub trait MetricsSink: Send + Sync {
    fn record(&self, metric: Metric);
}

/// Discards all metrics.
struct NoSink;

impl MetricsSink for NoSink {
    fn record(&self, _: Metric) {}
}

/// A sink that drops every metric.
pub fn none() -> Arc<dyn MetricsSink> {
    Arc::new(NoSink)
}
