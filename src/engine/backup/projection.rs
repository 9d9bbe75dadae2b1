//! Publishes a Backup: its status, Events and annotations, computed from the fold.
//!
//! The status is never ahead of the journal. While it cannot be written, the Backup continues.

use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::kinds::{Backup, BackupStatus};
use crate::cluster::{ObjectChange, observe};
use crate::domain::ids::ObjectId;
use crate::domain::problem::{Code, Problem};
use crate::engine::backup::acceptance::object_id;
use crate::engine::driver::{Context, journal_problem};
use crate::engine::events;
use crate::engine::run_status::RunStatus;
use crate::engine::runs::fold_group;
use crate::engine::snapshots::Snapshots;
use crate::engine::telemetry::Metric;
use crate::engine::{projection as group_projection, reasons};
use crate::journal::JournalError;
use crate::machine::backup::{BackupRun, FailedGroup, Phase};
use crate::machine::kit::Stage as _;

/// Publishes a Backup until it is over. `is_new`: this incarnation took it.
///
/// # Errors
/// The journal cannot be read: the daemon ends.
pub(super) async fn follow(
    context: &Context,
    object: Option<&Backup>,
    mut published: watch::Receiver<Arc<BackupRun>>,
    is_new: bool,
) -> Result<(), Problem> {
    let Some(formed) = reach(&mut published, BackupRun::is_formed).await else { return Ok(()) };
    // A daemon that was killed after the record may not have recorded the Events; a repeated one is the same
    // Event.
    record_refused(context, &formed);
    record_warnings(context, &formed, 0);
    project_label_key(context, object, &formed).await;
    project_progress(context, &formed).await;
    if !is_new {
        project_ended(context, &formed).await?;
    }
    let over = async {
        let over = reach(&mut published, |run| run.stage.is_final()).await;
        if let Some(run) = &over {
            let unplanned = unplanned(run);
            reasons::show(context, run, unplanned.iter().collect(), false).await;
            record_warnings(context, run, formed.state.warnings.len());
        }
        over
    };
    let (over, ()) = tokio::join!(over, reasons::show_refused(context, &formed, is_new));
    match over {
        Some(run) => project_end(context, &run).await,
        None => Ok(()),
    }
}

/// Publishes the ends of the groups that an earlier incarnation drove: it may have been killed before it did.
///
/// # Errors
/// The journal cannot be read: the daemon ends.
pub(super) async fn project_ended(context: &Context, backup: &BackupRun) -> Result<(), Problem> {
    for group in &backup.state.groups {
        if context.runs.state(group.run).is_some() {
            continue;
        }
        let entries = match context.journal.stream(group.run).await {
            Err(JournalError::ArchiveMissing { .. }) => continue,
            entries => entries.map_err(|error| journal_problem(group.run, &error))?,
        };
        let run = fold_group(group.run, &entries)?.filter(|run| run.stage.is_final());
        if let Some(run) = run {
            let head = context.journal.head();
            let status = RunStatus { run: Arc::new(run), waiting: None, ready: None, head };
            group_projection::show(context, &status).await;
        }
    }
    Ok(())
}

/// Waits for a published state that meets the condition. Returns `None` if the Backup is not published any more.
async fn reach(
    published: &mut watch::Receiver<Arc<BackupRun>>,
    is: impl Fn(&BackupRun) -> bool,
) -> Option<Arc<BackupRun>> {
    published.wait_for(|run| is(run)).await.ok().map(|run| run.clone())
}

/// The groups that ended without a run.
fn unplanned(run: &BackupRun) -> Vec<FailedGroup> {
    let ends = run.state.groups.iter().zip(&run.state.ends);
    let without_run = ends.filter(|(_, end)| end.as_ref().is_some_and(|end| end.records == 0));
    without_run.filter_map(|(group, end)| end.as_ref()?.result.failure(group)).collect()
}

fn record_refused(context: &Context, run: &BackupRun) {
    for refused in run.state.refused() {
        context.metrics.record(Metric::GroupRefused(refused.code));
        let note = refused.to_string();
        tracing::warn!(backup = %object_id(&run.plan.backup), "refused: {note}");
        let event =
            events::of_backup(&object_id(&run.plan.backup), true, "GroupRefused", &note, run.accepted_at());
        context.recorder.record(event);
    }
}

/// Records the warnings after the first `known` ones. The status of a Backup only has a field for their
/// number.
fn record_warnings(context: &Context, run: &BackupRun, known: usize) {
    for warning in run.state.warnings.iter().skip(known) {
        tracing::warn!(backup = %object_id(&run.plan.backup), "{warning}");
        context.recorder.record(events::of_backup(
            &object_id(&run.plan.backup),
            true,
            "BackupWarning",
            warning,
            run.accepted_at(),
        ));
    }
}

/// Writes the label key into a Backup that does not name one. This comes after the record that fixes the
/// groups: before that record, a daemon that restarts has to see whether the user named the key.
async fn project_label_key(context: &Context, object: Option<&Backup>, run: &BackupRun) {
    let named = |object: &Backup| {
        object.spec.volume_group_snapshot_label_key.as_ref().is_some_and(|key| !key.is_empty())
    };
    if object.is_none_or(named) {
        return;
    }
    let id = object_id(&run.plan.backup);
    match context.adapter.project_label_key(&id, &run.plan.label_key).await {
        Ok(changed) => context.cache.upsert(changed),
        Err(problem) => tracing::warn!(backup = %id, %problem, "cannot write the label key into the Backup"),
    }
}

async fn project_progress(context: &Context, run: &BackupRun) {
    let status = BackupStatus {
        phase: Some(Phase::InProgress.name().to_owned()),
        start_timestamp: observe::api_time(run.accepted_at()),
        ..BackupStatus::default()
    };
    if !run.stage.is_final() {
        tracing::info!(backup = %object_id(&run.plan.backup), groups = run.state.groups.len(), refused = run.state.failed.len(), "accepted");
        project(context, &object_id(&run.plan.backup), &status, TRIES).await;
    }
}

/// Publishes the end of a Backup, with the numbers of its snapshots.
///
/// # Errors
/// The journal cannot be read: the daemon ends.
pub(super) async fn project_end(context: &Context, run: &BackupRun) -> Result<(), Problem> {
    let Some((phase, at)) = run.state.finished else { return Ok(()) };
    let snapshots = Snapshots::of(context, run).await?;
    let count = |n: usize| Some(n as i64);
    let status = BackupStatus {
        phase: Some(phase.name().to_owned()),
        start_timestamp: observe::api_time(run.accepted_at()),
        completion_timestamp: observe::api_time(at),
        failure_reason: run.failure_reason(),
        errors: count(run.state.failed.len()),
        warnings: count(run.state.warnings.len()),
        csi_volume_snapshots_attempted: count(snapshots.attempted),
        csi_volume_snapshots_completed: count(snapshots.completed),
        ..BackupStatus::default()
    };
    tracing::info!(backup = %object_id(&run.plan.backup), phase = phase.name(), "finished");
    context.metrics.record(Metric::BackupEnded(phase.name()));
    let note = run.failure_reason().unwrap_or_else(|| complete(run.state.groups.len()));
    let event =
        events::of_backup(&object_id(&run.plan.backup), phase != Phase::Completed, phase.name(), &note, at);
    context.recorder.record(event);
    let (id, annotations) = (object_id(&run.plan.backup), reasons::annotations(run));
    if !annotations.is_empty() {
        insist(context, &id, u32::MAX, || context.adapter.project_annotations(&id, &annotations)).await;
    }
    // In this incarnation no other code writes the end, however long the API server is unavailable.
    project(context, &id, &status, u32::MAX).await;
    Ok(())
}

fn complete(groups: usize) -> String {
    match groups {
        0 => "there was no group to cut".to_owned(),
        1 => "1 group is complete".to_owned(),
        groups => format!("{groups} groups are complete"),
    }
}
/// Attempts for a status that a later one replaces, and for any status that the API server refuses: conflicts
/// are temporary.
pub(super) const TRIES: u32 = 8;

/// Writes the status of a Backup, at most `tries` times while the API server does not answer.
pub(super) async fn project(context: &Context, id: &ObjectId, status: &BackupStatus, tries: u32) {
    insist(context, id, tries, || context.adapter.project_backup(id, status)).await;
}

/// Writes to a Backup, at most `tries` times while the API server does not answer.
pub(super) async fn insist<F>(context: &Context, id: &ObjectId, tries: u32, write: impl Fn() -> F)
where
    F: Future<Output = Result<ObjectChange, Problem>>,
{
    let (mut failures, mut refusals) = (0_u32, 0);
    loop {
        let problem = match write().await {
            Ok(changed) => return context.cache.upsert(changed),
            Err(problem) => problem,
        };
        failures = failures.saturating_add(1);
        refusals += u32::from(problem.code == Code::Refused);
        if !context.cache.backups().iter().any(|backup| observe::id(&backup.metadata) == *id) {
            tracing::warn!(backup = %id, "the Backup was deleted: nothing is written to it any more");
            return;
        }
        if failures >= tries || refusals >= TRIES {
            tracing::warn!(backup = %id, %problem, "cannot write to the Backup");
            return;
        }
        tracing::warn!(backup = %id, %problem, "cannot write to the Backup; trying again");
        context.clock.pause(failures).await;
    }
}
