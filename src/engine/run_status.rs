//! Publishes the last durable state of each run, and its wait reason, to code outside the loop.
//!
//! Projections and progress bars read it. It is never ahead of the journal: a run publishes its status after
//! its records are durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::domain::ids::StreamId;
use crate::journal::Head;
use crate::machine::group::GroupRun;
use crate::machine::kit::WaitReport;

/// The last published status of one run.
#[derive(Debug, Clone)]
pub struct RunStatus {
    pub run: Arc<GroupRun>,
    /// Why it waits, if it waits.
    pub waiting: Option<Arc<WaitReport>>,
    /// Number of members that were ready at the last observation; `None` without one.
    pub ready: Option<usize>,
    /// Head of the journal at that time.
    pub head: Head,
}

/// All runs of one incarnation of the daemon.
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
    /// Publishes the status of a run.
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

    /// Subscribes to one run; `None` if it has no published status.
    pub fn follow(&self, run: StreamId) -> Option<watch::Receiver<Arc<RunStatus>>> {
        let runs = self.runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        runs.get(&run).map(watch::Sender::subscribe)
    }

    /// Removes a run that is over and was projected.
    pub fn forget(&self, run: StreamId) {
        let mut runs = self.runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        runs.remove(&run);
    }

    /// All runs, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<RunStatus>> {
        let runs = self.runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        runs.values().map(|sender| sender.borrow().clone()).collect()
    }

    /// Notifies whenever any run publishes its status.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
