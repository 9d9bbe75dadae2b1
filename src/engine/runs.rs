//! Starts runs, and keeps which of them are in progress in this incarnation.
//!
//! Each run is driven in a task of its own: while many begin, other runs go on, and their plans share barriers of
//! the journal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tracing::Instrument;

use crate::domain::ids::StreamId;
use crate::domain::plan::RunPlan;
use crate::domain::problem::Problem;
use crate::engine::driven::Driven;
use crate::engine::driver::{Context, Driver, Planned, internal};
use crate::engine::projection;
use crate::journal::Entry;
use crate::machine::backup::BackupRun;
use crate::machine::group::{GroupMachine, GroupRun};
use crate::machine::kit::{Machine, Outcome, Run, Timed, fold};
use crate::records::{self, Decoded};

/// A run that was started and has to be driven.
pub enum Started {
    Group(Box<Driver<GroupMachine>>),
}

/// Whether this incarnation drives a run, or has driven it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    InProgress,
    Over,
}

/// The runs of this incarnation.
#[derive(Clone)]
pub struct Runs {
    /// A run that is over stays until its parent has recorded its end.
    states: Arc<Mutex<BTreeMap<StreamId, RunState>>>,
    started: mpsc::UnboundedSender<Started>,
}

impl Runs {
    /// No runs, and the queue of those that are started.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Started>) {
        let (started, queue) = mpsc::unbounded_channel();
        (Self { states: Arc::default(), started }, queue)
    }

    /// The state of a run; none if this incarnation has not driven it.
    pub fn state(&self, run: StreamId) -> Option<RunState> {
        self.lock().get(&run).copied()
    }

    pub fn set(&self, run: StreamId, state: RunState) {
        self.lock().insert(run, state);
    }

    /// Removes a run whose end its parent has recorded.
    pub fn forget(&self, run: StreamId) {
        self.lock().remove(&run);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<StreamId, RunState>> {
        self.states.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Starts a run: its plan becomes the first record of its stream. A run that has begun with the same plan is
/// started, too.
///
/// # Errors
/// The journal cannot be written: the daemon ends.
pub async fn start(context: &Context, plan: &RunPlan) -> Result<Outcome, Problem> {
    match plan {
        RunPlan::Group(plan) => {
            begin(context, GroupMachine::stream(plan), (**plan).clone(), Started::Group).await
        }
    }
}

async fn begin<M: Driven>(
    context: &Context,
    stream: StreamId,
    plan: M::Plan,
    started: fn(Box<Driver<M>>) -> Started,
) -> Result<Outcome, Problem> {
    match Driver::<M>::start(context.clone(), plan).await? {
        Planned::New(driver) => {
            context.runs.set(stream, RunState::InProgress);
            // The receiver is gone when the daemon ends: the next start resumes the run.
            let _ = context.runs.started.send(started(driver));
        }
        Planned::Same => {}
        Planned::Other => {
            let message = format!("run {stream} has begun with another plan");
            return Ok(Outcome::Determinate { code: 409, message });
        }
    }
    Ok(Outcome::Done { uid: String::new(), resource_version: String::new() })
}

/// Drives a group run and its projection. It returns when both have ended, so that a user who sees a finished
/// Backup also sees finished runs.
///
/// # Errors
/// The journal cannot be written, or a newer daemon took over: the daemon ends.
pub(super) async fn drive(
    context: Context,
    driver: Driver<GroupMachine>,
    stream: StreamId,
) -> Result<(), Problem> {
    let plan = driver.plan_of();
    let group = format!("{}/{}", plan.namespace, plan.group);
    let span = tracing::info_span!("run", run = %stream, group, backup = plan.backup.name);
    let driven = Box::pin(driver.run());
    let shown = Box::pin(async move {
        // The run publishes its first status in its first poll.
        tokio::task::yield_now().await;
        if let Some(status_board) = context.status_board.follow(stream) {
            projection::follow(context, status_board).await;
        }
        Ok(())
    });
    futures::future::try_join(driven, shown).instrument(span).await?;
    Ok(())
}

/// Folds the stream of a group; none if it is empty.
///
/// # Errors
/// A record is malformed or not valid after the records before it: the daemon ends.
pub fn fold_group(stream: StreamId, entries: &[Entry]) -> Result<Option<GroupRun>, Problem> {
    fold_stream(stream, entries, |decoded| match decoded {
        Decoded::Group(timed) => Some(timed),
        _ => None,
    })
}

/// Folds the stream of a Backup; none if it is empty.
///
/// # Errors
/// A record is malformed or not valid after the records before it: the daemon ends.
pub fn fold_backup(stream: StreamId, entries: &[Entry]) -> Result<Option<BackupRun>, Problem> {
    fold_stream(stream, entries, Decoded::into_backup)
}

fn fold_stream<M: Machine>(
    stream: StreamId,
    entries: &[Entry],
    of_machine: fn(Decoded) -> Option<Timed<M>>,
) -> Result<Option<Run<M>>, Problem> {
    let mut run = None;
    for entry in entries {
        let decoded = records::decode(&entry.record).map_err(|error| internal(stream, &error))?;
        let timed = of_machine(decoded).ok_or_else(|| internal(stream, &OtherMachine))?;
        run = Some(fold(run, &timed).map_err(|error| internal(stream, &error))?);
    }
    Ok(run)
}

/// A stream has records of two machines.
#[derive(Debug, thiserror::Error)]
#[error("it has a record of another machine")]
struct OtherMachine;
