//! What can be seen of the runs from outside the loop: the last durable state of each, and what it waits for.
//!
//! Projections and progress bars are made from it. It is never ahead of the journal: a run shows itself after its
//! records are durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::domain::ids::StreamId;
use crate::journal::Head;
use crate::machine::group::{GroupRun, WaitReport};

/// One run as it was last shown.
#[derive(Debug, Clone)]
pub struct RunStatus {
    /// Its state.
    pub run: Arc<GroupRun>,
    /// Why it waits, if it waits.
    pub waiting: Option<Arc<WaitReport>>,
    /// Members that were ready when it was last observed; `None` when it was not.
    pub ready: Option<usize>,
    /// Head of the journal at that time.
    pub head: Head,
}

/// All runs of one life of the daemon.
#[derive(Clone)]
pub struct StatusBoard {
    runs: Arc<Mutex<BTreeMap<StreamId, watch::Sender<Arc<RunStatus>>>>>,
    changed: watch::Sender<u64>,
}

impl Default for StatusBoard {
    fn default() -> Self {
        Self { runs: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl StatusBoard {
    /// Shows a run.
    pub fn publish(&self, run_status: RunStatus) {
        let id = run_status.run.plan.run;
        let run_status = Arc::new(run_status);
        let mut runs = self.runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match runs.get(&id) {
            Some(sender) => {
                sender.send_replace(run_status);
            }
            None => {
                runs.insert(id, watch::Sender::new(run_status));
            }
        }
        drop(runs);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Follows one run; `None` if it was never shown.
    pub fn follow(&self, run: StreamId) -> Option<watch::Receiver<Arc<RunStatus>>> {
        let runs = self.runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        runs.get(&run).map(watch::Sender::subscribe)
    }

    /// Forgets a run that is over and was projected.
    pub fn forget(&self, run: StreamId) {
        let mut runs = self.runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        runs.remove(&run);
    }

    /// All runs, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<RunStatus>> {
        let runs = self.runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        runs.values().map(|sender| sender.borrow().clone()).collect()
    }

    /// Wakes whenever any run shows itself.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
