//! Publishes a run to users: the status of its GroupSnapshot, computed from the fold.
//!
//! The status is not journaled, and never ahead of the durable head. While it cannot be written, the run
//! continues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tokio::sync::watch;

use crate::cluster::kinds::{
    GroupSnapshotAnswer, GroupSnapshotBackupRef, GroupSnapshotBlocker, GroupSnapshotMember,
    GroupSnapshotReceipt, GroupSnapshotSpec, GroupSnapshotStatus, GroupSnapshotWait, JournalHead,
};
use crate::cluster::project::Shown;
use crate::cluster::{Adapter, Turn, observe};
use crate::domain::ids::ObjectId;
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::names;
use crate::domain::plan::BackupRef;
use crate::domain::problem::{Code, Problem};
use crate::domain::receipt::{Receipt, ReceiptMember};
use crate::domain::time::Timestamp;
use crate::engine::clock::Clock;
use crate::engine::deleted_backup;
use crate::engine::driver::Context;
use crate::engine::events;
use crate::engine::run_status::RunStatus;
use crate::machine::group::GroupRun;
use crate::machine::group::Milestone;
use crate::machine::group::Stage;
use crate::machine::group::advance;
use crate::machine::kit::Answered;
use crate::machine::kit::Ask;
use crate::machine::kit::Stage as _;
use crate::machine::kit::WaitReport;
use crate::machine::kit::wait_report::Blocker;

/// Number of consecutive refusals by the API server after which the end of a run is no longer published:
/// three minutes. If the namespace is gone, publishing is impossible and ends at once. While the API server
/// is unavailable, attempts continue without a limit. Before the end of a run they continue without a limit
/// in any case: the wait reason of a run must be published, even if late.
const LAST_REFUSALS: u32 = 10;

/// Publishes the status of one run until the run is over.
///
/// Milestones are recorded as Events as soon as the GroupSnapshot exists. After a restart the last one is
/// recorded again, because the daemon may have been killed before it was delivered. It has the same name then
/// and is the same Event.
pub async fn follow(context: Context, mut status_board: watch::Receiver<Arc<RunStatus>>) {
    let Context { adapter, clock, recorder, cache, .. } = context;
    let backup = status_board.borrow().run.plan.backup.clone();
    let mut deletion = Box::pin(deleted_backup::deleted(&cache, &backup));
    let mut deleted_at = (&mut deletion).now_or_never().map(|()| clock.now());
    let mut deletion_told = false;
    let (mut shown, mut failed): (Option<Said>, _) = (None, Failed::default());
    let (mut object, mut told) = (None, status_board.borrow().run.timeline.len().saturating_sub(1));
    let mut warned = BTreeSet::new();
    loop {
        // A projection that waits for its turn has not computed anything yet. It writes the newest status
        // when its turn comes.
        let turn = adapter.turn_to_show().await;
        let run_status = status_board.borrow_and_update().clone();
        match Box::pin(write_news(&adapter, turn, &run_status, deleted_at, shown)).await {
            Ok(Some((written, said))) => {
                (object, shown, failed) = (Some(written), Some(said), Failed::default())
            }
            Ok(None) => {}
            Err(problem) => failed.count(&problem),
        }
        if let Some(object) = &object {
            for passed in run_status.run.timeline.iter().skip(told) {
                events::of_milestone(&run_status.run, passed, object).for_each(|n| recorder.record(n));
            }
            told = run_status.run.timeline.len().max(told);
            if let Some(wait) = run_status.waiting.as_ref().filter(|wait| is_news(&mut warned, wait)) {
                events::of_wait(&run_status.run, wait, object).for_each(|n| recorder.record(n));
            }
            if let Some(at) = deleted_at.filter(|_| !deletion_told) {
                recorder.record(deleted_backup::notice(&backup, object, at));
                deletion_told = true;
            }
        }
        if run_status.run.stage.is_final() && (failed.all == 0 || failed.gives_up()) {
            return;
        }
        match failed.pause(&clock) {
            // A change does not shorten the pause: a run that continues while nothing can be written would
            // use up all attempts at once. After the pause the newest status is written.
            Some(until) => clock.sleep_until(Some(until)).await,
            None => {
                let again = clock.now().after(limits::SHOWN_AGAIN_AFTER);
                tokio::select! {
                    biased;
                    changed = status_board.changed() => if changed.is_err() { return },
                    () = &mut deletion, if deleted_at.is_none() => deleted_at = Some(clock.now()),
                }
                // The run has priority. The status of its next wait is written, not the intermediate ones.
                tokio::task::yield_now().await;
                tokio::select! {
                    biased;
                    over = status_board.wait_for(|run_status| run_status.run.stage.is_final()) => if over.is_err() { return },
                    () = clock.sleep_until(Some(again)) => {}
                }
            }
        }
    }
}

/// Whether users are to be warned of a wait: once for each cause, up to a limit.
fn is_news(warned: &mut BTreeSet<String>, wait: &WaitReport) -> bool {
    wait.warns && warned.len() < limits::CAUSES_WARNED && warned.insert(wait.text())
}

/// Publishes a run that is over, once.
pub async fn show(context: &Context, run_status: &RunStatus) {
    let Context { adapter, clock, cache, .. } = context;
    let deleted_at = cache.backup_is_deleted(&run_status.run.plan.backup).then(|| clock.now());
    let (status, mut failed) = (status_of(run_status, deleted_at), Failed::default());
    while let Err(problem) =
        write(adapter, adapter.turn_to_show().await, &run_status.run, &status, false).await
    {
        failed.count(&problem);
        if failed.gives_up() {
            return;
        }
        clock.sleep_until(failed.pause(clock)).await;
    }
}

/// Consecutive failures.
#[derive(Default)]
struct Failed {
    all: u32,
    refusals: u32,
    /// The namespace of the GroupSnapshot is gone, or accepts no objects any more: publishing is impossible.
    homeless: bool,
}

impl Failed {
    fn count(&mut self, problem: &Problem) {
        tracing::warn!(%problem, "cannot show the run in its GroupSnapshot");
        self.all = self.all.saturating_add(1);
        self.homeless = problem.code == Code::NamespaceMissing;
        self.refusals = if problem.code == Code::Refused { self.refusals.saturating_add(1) } else { 0 };
    }

    fn gives_up(&self) -> bool {
        self.homeless || self.refusals >= LAST_REFUSALS
    }

    /// End of the pause before the next attempt; `None` without a failure: wait for a change.
    fn pause(&self, clock: &Clock) -> Option<Timestamp> {
        (self.all > 0).then(|| clock.now().after(limits::backoff(self.all)))
    }
}

async fn write(
    adapter: &Adapter,
    turn: Turn<'_>,
    run: &GroupRun,
    status: &GroupSnapshotStatus,
    is_new: bool,
) -> Result<ObjectId, Problem> {
    let name = names::group_snapshot_projection(&run.plan.group, run.plan.run);
    let shown = Shown {
        namespace: &run.plan.namespace,
        name: &name,
        labels: &object_labels(run),
        spec: &spec(run),
        status,
    };
    let uid = adapter.project_group_snapshot(turn, &shown, is_new).await?;
    Ok(ObjectId { namespace: run.plan.namespace.clone(), name, uid })
}

/// Hash of the content of a status; the status itself is not retained.
type Said = [u8; 32];

/// Writes the current status of the run, unless its content equals the published one.
async fn write_news(
    adapter: &Adapter,
    turn: Turn<'_>,
    run_status: &RunStatus,
    deleted_at: Option<Timestamp>,
    shown: Option<Said>,
) -> Result<Option<(ObjectId, Said)>, Problem> {
    let mut status = status_of(run_status, deleted_at);
    // Every record of every run changes the head: a new head alone is not a change.
    let head = status.journal.take();
    let said = *blake3::hash(&serde_json::to_vec(&status).expect("texts, numbers and times")).as_bytes();
    if shown == Some(said) {
        return Ok(None);
    }
    status.journal = head;
    let is_new = shown.is_none() && run_status.run.attempt == 1 && run_status.run.timeline.is_empty();
    let written = write(adapter, turn, &run_status.run, &status, is_new).await?;
    Ok(Some((written, said)))
}

fn object_labels(run: &GroupRun) -> BTreeMap<String, String> {
    let of_run = [(labels::RUN.to_owned(), run.plan.run.to_string())];
    of_run.into_iter().chain(backup_labels(&run.plan.backup)).collect()
}

/// Labels of every GroupSnapshot of a Backup.
pub fn backup_labels(backup: &BackupRef) -> BTreeMap<String, String> {
    [
        (labels::BACKUP_NAME.to_owned(), names::valid_label_value(&backup.name)),
        (labels::BACKUP_UID.to_owned(), backup.uid.to_string()),
        // Velero's own backups do not need it.
        (labels::EXCLUDE_FROM_BACKUP.to_owned(), "true".to_owned()),
    ]
    .into()
}

fn spec(run: &GroupRun) -> GroupSnapshotSpec {
    let (plan, backup) = (&run.plan, &run.plan.backup);
    GroupSnapshotSpec {
        backup_ref: Some(GroupSnapshotBackupRef {
            namespace: backup.namespace.clone(),
            name: backup.name.clone(),
            uid: backup.uid.to_string(),
        }),
        label_key: plan.label_key.clone(),
        group: plan.group.clone(),
        driver: plan.driver.clone(),
        volume_group_snapshot_class_name: plan.group_class.clone(),
        claims: plan.members.iter().map(|member| member.claim.clone()).collect(),
    }
}

/// The status of a run whose Backup may have been deleted.
fn status_of(run_status: &RunStatus, deleted_at: Option<Timestamp>) -> GroupSnapshotStatus {
    let mut status = status(run_status);
    if let Some(at) = deleted_at {
        deleted_backup::show(&mut status, &run_status.run.plan.backup, at);
    }
    status
}

/// The status of a run.
pub fn status(run_status: &RunStatus) -> GroupSnapshotStatus {
    let run = &run_status.run;
    let total = run.plan.members.len() as i64;
    // After a rollback there are none. The members of a run that was abandoned after the pivot are not
    // observed any more: the number of those that exist is unknown.
    let recorded = run.state.receipt.as_ref().map_or(0, |_| total);
    let ready = match run.stage {
        _ if run.keeps_storage() => None,
        Stage::Unwinding | Stage::Failed => Some(0),
        Stage::Cleaned | Stage::Completed => Some(recorded),
        _ => Some(run_status.ready.map_or(recorded, |ready| ready as i64)),
    };
    let shown = run.state.receipt.as_deref().filter(|_| run.stage != Stage::Failed || run.keeps_storage());
    let reason = run.reason.as_ref().filter(|_| shows_reason(run));
    GroupSnapshotStatus {
        state: Some(run.state_name().to_owned()),
        attempt: Some(i64::from(run.attempt)),
        members: ready.map(|ready| format!("{ready}/{total}")),
        members_ready: ready,
        members_total: Some(total),
        skew_ms: shown.and_then(Receipt::skew_ms).and_then(|ms| i64::try_from(ms).ok()),
        start_time: observe::api_time(run.plan.planned_at),
        cut_time: run.state.cut.as_ref().and_then(|(_, at)| observe::api_time(*at)),
        completion_time: end(run).and_then(observe::api_time),
        message: reason.map(|reason| advance::reason_of(run, &reason.message).to_owned()),
        code: reason.map(|reason| reason.code.to_string()),
        advice: advance::advice(run).map(str::to_owned),
        waiting_for: run_status.waiting.as_ref().map(|wait| wait.text()),
        waiting: run_status.waiting.as_ref().map(|wait| show_wait(wait)),
        row: run.stuck.clone(),
        answered: run.answered.as_ref().map(|answered| answer(run, answered)),
        conditions: conditions(run),
        receipt: shown.map(|receipt| GroupSnapshotReceipt {
            group_handle: receipt.group_handle.clone(),
            members: receipt.members.iter().map(|member| show_member(run, member)).collect(),
        }),
        journal: Some(JournalHead {
            position: i64::try_from(run_status.head.position).unwrap_or(i64::MAX),
            hash: run_status.head.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }),
    }
}

fn show_wait(wait: &WaitReport) -> GroupSnapshotWait {
    let time = |at: Option<Timestamp>| at.and_then(observe::api_time);
    GroupSnapshotWait {
        row: wait.row.to_owned(),
        cause: wait.cause.map(|cause| cause.name().to_owned()),
        detail: wait.detail.clone(),
        since: time(Some(wait.since)),
        next_try: time(wait.next_try),
        deadline: time(wait.deadline),
        last_error: wait.last_error.clone(),
        objects: wait.objects.iter().map(show_blocker).collect(),
    }
}

fn show_blocker(blocker: &Blocker) -> GroupSnapshotBlocker {
    let about = &blocker.about;
    GroupSnapshotBlocker {
        kind: about.kind.clone(),
        namespace: Some(about.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: about.name.clone(),
        error: blocker.error.clone(),
        finalizers: blocker.finalizers.clone(),
    }
}

fn answer(run: &GroupRun, answered: &Answered) -> GroupSnapshotAnswer {
    let abandoned = |code| run.reason.as_ref().is_some_and(|reason| reason.code == code);
    let message = match answered.asked.ask {
        Ask::Resume if answered.was == "Stuck" => {
            "the run was stuck: refusals are counted from the beginning again, and it is decided anew"
                .to_owned()
        }
        Ask::Resume => format!(
            "the run was not stuck but {}: it goes on as before, without a pause after failures",
            answered.was
        ),
        Ask::Abandon if abandoned(Code::Abandoned) && answered.was == "Unwinding" => {
            "the run was being undone already, and makes no other attempt; to end it with its storage kept: stillpoint \
             groups abandon --keep-storage"
                .to_owned()
        }
        Ask::Abandon if abandoned(Code::Abandoned) => "the run is undone to a clean cluster".to_owned(),
        Ask::Abandon if abandoned(Code::AbandonedRetained) => {
            "the pivot was passed: nothing is deleted any more, the storage is retained, see the receipt"
                .to_owned()
        }
        Ask::Keep if answered.was == "Abandoned" => {
            "the run has ended as it is: see which of its contents do not retain".to_owned()
        }
        Ask::Keep if run.keeps_storage() => {
            "nothing is deleted any more: the run ends once every content that stands retains the storage".to_owned()
        }
        Ask::Abandon | Ask::Keep => format!("the run was {}: nothing is left to abandon", answered.was),
    };
    GroupSnapshotAnswer {
        id: answered.asked.request.clone(),
        request: answered.asked.ask.name().to_owned(),
        by: answered.asked.by.clone(),
        time: observe::api_time(answered.at),
        message,
    }
}

/// Whether the reason is published. The reason of the first attempt is omitted once the second one is done.
fn shows_reason(run: &GroupRun) -> bool {
    run.stuck.is_some() || matches!(run.stage, Stage::Unwinding | Stage::Abandoned | Stage::Failed)
}

fn end(run: &GroupRun) -> Option<Timestamp> {
    let last = run.timeline.last()?;
    run.stage.is_final().then_some(last.at)
}

fn show_member(run: &GroupRun, member: &ReceiptMember) -> GroupSnapshotMember {
    GroupSnapshotMember {
        claim: member.claim.clone(),
        volume_snapshot: Some(member.snapshot.name.clone()),
        snapshot_handle: Some(member.snapshot_handle.clone()),
        ready_to_use: run.stage != Stage::Unwinding && !run.keeps_storage(),
        creation_time: member.created_at.and_then(observe::api_time),
        restore_size: member.restore_size,
    }
}

fn conditions(run: &GroupRun) -> Vec<Condition> {
    let reached = |milestone: Milestone| {
        run.timeline.iter().rev().find(|p| p.milestone == milestone && p.attempt == run.attempt).map(|p| p.at)
    };
    let names = [
        (Milestone::Created, "Created", "the VolumeGroupSnapshot exists"),
        (Milestone::VsBound, "VSBound", "every member is ready and bound, the receipt is in the journal"),
        (Milestone::Relabelled, "Relabelled", "every member carries labels and receipt"),
        (Milestone::Retained, "Retained", "every content retains the storage"),
        (Milestone::Cleaned, "Cleaned", "the members are ordinary snapshots, the group objects are gone"),
    ];
    let condition = |name: &str, message: &str, at: Timestamp| {
        observe::api_time(at).map(|time| Condition {
            type_: name.to_owned(),
            status: "True".to_owned(),
            reason: name.to_owned(),
            message: message.to_owned(),
            last_transition_time: time,
            observed_generation: None,
        })
    };
    names
        .into_iter()
        .filter_map(|(milestone, name, message)| condition(name, message, reached(milestone)?))
        .chain(atomic(run))
        .collect()
}

/// Whether the members are of one moment, according to the cut times that the driver reports; since the cut
/// was observed.
fn atomic(run: &GroupRun) -> Option<Condition> {
    let grade = run.atomicity()?;
    let (_, cut_at) = run.state.cut.as_ref()?;
    Some(Condition {
        type_: "Atomic".to_owned(),
        status: grade.status().to_owned(),
        reason: grade.reason().to_owned(),
        message: grade.message(run.plan.atomicity.max_skew),
        last_transition_time: observe::api_time(*cut_at)?,
        observed_generation: None,
    })
}
