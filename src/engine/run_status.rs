//! Publishes the last durable state of each run, and its wait reason, to code outside the loop.
//!
//! Projections and progress bars read it. It is never ahead of the journal: a run publishes its status after
//! its records are durable.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// The last published values of runs, by stream.
pub struct Published<T>(Arc<Mutex<Senders<T>>>);

type Senders<T> = BTreeMap<StreamId, watch::Sender<Arc<T>>>;

impl<T> Default for Published<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Published<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Published<T> {
    /// Publishes the value of a run.
    pub fn publish(&self, run: StreamId, value: Arc<T>) {
        match self.lock().entry(run) {
            Entry::Occupied(sender) => drop(sender.get().send_replace(value)),
            Entry::Vacant(empty) => drop(empty.insert(watch::Sender::new(value))),
        }
    }

    /// Subscribes to one run; `None` if it has published nothing.
    pub fn follow(&self, run: StreamId) -> Option<watch::Receiver<Arc<T>>> {
        self.lock().get(&run).map(watch::Sender::subscribe)
    }

    /// Removes a run that is over and was projected.
    pub fn forget(&self, run: StreamId) {
        self.lock().remove(&run);
    }

    /// All values, in the order of the ids.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.lock().values().map(|sender| sender.borrow().clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Senders<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All group runs of one incarnation of the daemon.
#[derive(Clone)]
pub struct StatusBoard {
    runs: Published<RunStatus>,
    changed: watch::Sender<u64>,
}

impl Default for StatusBoard {
    fn default() -> Self {
        Self { runs: Published::default(), changed: watch::Sender::new(0) }
    }
}

impl StatusBoard {
    /// Publishes the status of a run.
    pub fn publish(&self, run_status: RunStatus) {
        self.runs.publish(run_status.run.plan.run, Arc::new(run_status));
        self.changed.send_modify(|count| *count += 1);
    }

    /// Subscribes to one run; `None` if it has no published status.
    pub fn follow(&self, run: StreamId) -> Option<watch::Receiver<Arc<RunStatus>>> {
        self.runs.follow(run)
    }

    /// Removes a run that is over and was projected.
    pub fn forget(&self, run: StreamId) {
        self.runs.forget(run);
    }

    /// All runs, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<RunStatus>> {
        self.runs.all()
    }

    /// Notifies whenever any run publishes its status.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
