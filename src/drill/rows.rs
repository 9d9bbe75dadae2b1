//! Collects the rows of the recovery table that the incarnations of a drill decided.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::telemetry::{Metric, MetricsSink};
use crate::machine::group::GroupMachine;
use crate::machine::kit::{Action, table};

/// Every row that was decided, and the last one without an automatic action.
#[derive(Debug, Clone, Default)]
pub struct Rows(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    all: BTreeSet<&'static str>,
    stuck: Option<&'static str>,
}

impl Rows {
    /// Returns every row that was decided.
    pub fn all(&self) -> BTreeSet<&'static str> {
        self.lock().all.clone()
    }

    /// Returns the last row at which the run was stuck, even if the run has been retried since.
    pub fn stuck(&self) -> Option<&'static str> {
        self.lock().stuck
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetricsSink for Rows {
    fn record(&self, metric: Metric) {
        if let Metric::Decided(row) = metric {
            let mut inner = self.lock();
            inner.all.insert(row);
            let known = table::row::<GroupMachine>(row);
            if known.is_some_and(|known| matches!(known.then, Action::Stick { .. })) {
                inner.stuck = Some(row);
            }
        }
    }
}
