//! Begins a group run that a Backup requested, and drives it to its end.
//!
//! Each run begins in a task of its own: while many begin, other runs go on, and their plans share barriers of
//! the journal.

use std::sync::Arc;

use tracing::Instrument;

use crate::domain::ids::{ObjectId, StreamId};
use crate::domain::plan::Plan;
use crate::domain::problem::{About, Code, Problem};
use crate::engine::driver::{Context, Driver, journal_problem};
use crate::engine::run_status::RunStatus;
use crate::engine::{backup, events, projection};
use crate::journal::JournalError;
use crate::machine::group::{GroupMachine, GroupRun};

/// What became of a requested run.
pub(super) enum Begun {
    /// It ended, now or earlier.
    Ended(Arc<GroupRun>),
    /// It has neither records nor a plan: nothing was done.
    NotPlanned,
    /// Its end cannot be known here. Its Backup remains unchanged.
    Unknown,
}

/// Begins a run that is not in progress: from its records, else from its plan.
///
/// # Errors
/// The journal cannot be read or written, or a newer daemon took over: the daemon ends.
pub(super) async fn begin(context: Context, stream: StreamId, plan: Option<Plan>) -> Result<Begun, Problem> {
    let entries = match context.journal.stream(stream).await {
        Err(error @ JournalError::ArchiveMissing { .. }) => {
            // The run has ended and never runs again.
            tracing::warn!(run = %stream, %error, "{}", error.fix());
            return Ok(Begun::Unknown);
        }
        entries => entries.map_err(|error| journal_problem(stream, &error))?,
    };
    // Open streams were resumed at the start, so this run has ended. Its last projection may be missing.
    if let Some(run) = backup::fold_group(stream, &entries)? {
        let (run, head) = (Arc::new(run), context.journal.head());
        projection::show(&context, &RunStatus { run: run.clone(), waiting: None, ready: None, head }).await;
        return Ok(Begun::Ended(run));
    }
    let Some(plan) = plan else { return Ok(Begun::NotPlanned) };
    let traces = context.cache.traces(&plan);
    if !traces.is_empty() {
        refuse_unknown(&context, &plan, &traces);
        return Ok(Begun::Unknown);
    }
    let driver = Driver::plan(context.clone(), plan).await?;
    Ok(Begun::Ended(drive(context, driver, stream).await?))
}

/// Drives a run and its projection. It returns when both have ended, so that a user who sees a finished Backup
/// also sees finished runs.
///
/// # Errors
/// The journal cannot be written, or a newer daemon took over: the daemon ends.
pub(super) async fn drive(
    context: Context,
    driver: Driver<GroupMachine>,
    stream: StreamId,
) -> Result<Arc<GroupRun>, Problem> {
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
    let (run, ()) = futures::future::try_join(driven, shown).instrument(span).await?;
    Ok(run)
}

/// Refuses a run that the journal does not know and that has left objects in the cluster: it began in
/// another journal. Started again, the run would be cut twice, or rolled back after its pivot. Its Backup
/// remains unchanged.
fn refuse_unknown(context: &Context, plan: &Plan, traces: &[String]) {
    let problem = Problem::new(
        Code::UnknownRun,
        About::new("Group", &plan.namespace, &plan.group),
        format!("the journal does not know run {}, of which the cluster has {}", plan.run, traces.join(", ")),
        "stop the daemon and run `stillpoint journal rebuild --from-cluster`, or restore the journal",
    );
    tracing::error!(run = %plan.run, %problem, "not begun");
    let backup = ObjectId {
        namespace: plan.backup.namespace.clone(),
        name: plan.backup.name.clone(),
        uid: plan.backup.uid.clone(),
    };
    let at = context.clock.now();
    let event = events::of_backup(&backup, true, "UnknownRun", &problem.to_string(), at);
    context.recorder.record(event);
}
