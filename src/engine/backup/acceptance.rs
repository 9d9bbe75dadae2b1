//! Decides whether the daemon takes a new Backup: whose it is, whether it is valid, and who claims it.
//!
//! Nothing is recorded about a Backup that is left alone or refused.

use crate::cluster::kinds::{Backup, BackupStatus};
use crate::cluster::{Claim, observe};
use crate::domain::ids::ObjectId;
use crate::domain::ids::StreamId;
use crate::domain::limits;
use crate::domain::plan::BackupRef;
use crate::domain::problem::Code;
use crate::domain::time::Millis;
use crate::engine::backup::projection::{TRIES, insist, project};
use crate::engine::backup_spec;
use crate::engine::driver::Context;
use crate::engine::events;
use crate::engine::preflight;
use crate::engine::telemetry::Metric;
use crate::journal::JournalError;
use crate::machine::backup::{BackupPlan, BackupRun, Phase};
use crate::machine::kit::Stage as _;

/// Pause between two looks for room on the disk.
const ROOM_PAUSE: Millis = Millis::from_secs(60);

/// Takes a Backup that the journal does not know: the plan of its run, or none if it is left alone or refused.
pub(super) async fn accept(context: &Context, object: &Backup) -> Option<BackupPlan> {
    if let Some(why) = not_ours(context, object) {
        leave_alone(context, object, "NotOurs", &why);
        return None;
    }
    if let Some(damage) = context.journal.damage() {
        let why = format!(
            "{damage}; stop the daemon, run `stillpoint journal rebuild --from-index`, and start it: it then takes \
             the Backup"
        );
        leave_alone(context, object, "JournalDamaged", &why);
        return None;
    }
    wait_for_room(context, object).await;
    let request = match backup_spec::read(object, &context.defaults) {
        Ok(request) => request,
        Err(errors) => {
            refuse(context, object, Code::Unsupported, &errors).await;
            return None;
        }
    };
    if let Some(error) = preflight::namesake(context, object).await {
        refuse(context, object, Code::InvalidBackup, &[error]).await;
        return None;
    }
    if let Some(why) = claim_new(context, object).await {
        leave_alone(context, object, "NotOurs", &why);
        return None;
    }
    Some(BackupPlan { backup: request.backup, label_key: request.label_key, accepted: None })
}

/// Why the daemon does not process a Backup that its journal does not know: it belongs to another daemon or
/// to another program.
///
/// A Backup in progress was accepted by the journal that gave it this phase. For a journal that was recovered
/// from the cluster, that is its predecessor.
fn not_ours(context: &Context, object: &Backup) -> Option<String> {
    if let Some(why) = context.binder.foreign_claim(object) {
        return Some(why);
    }
    let phase = object.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if matches!(phase, "" | "New") {
        return None;
    }
    let claimed = observe::journal(&object.metadata).is_some() || observe::epoch(&object.metadata).is_some();
    let rebuilt = claimed && (context.binder.supersedes_another() || context.binder.journal_id().is_none());
    let own = observe::journal(&object.metadata).is_some_and(|id| context.binder.owns(&id));
    (!rebuilt && !own).then(|| format!("it is in phase {phase}, which this journal did not give it"))
}

/// Waits until the disk of the journal has room for the records of a new Backup. Says so once.
async fn wait_for_room(context: &Context, object: &Backup) {
    let mut said = false;
    while let Some(lack) = context.journal.lack_of_room() {
        if !said {
            let id = observe::id(&object.metadata);
            tracing::warn!(backup = %id, lack, "the Backup has to wait");
            let note =
                format!("the Backup has to wait: {lack}; make room on the disk, or move archives elsewhere");
            context.recorder.record(events::of_backup(&id, true, "JournalFull", &note, context.clock.now()));
            said = true;
        }
        context.clock.sleep_until(Some(context.clock.now().after(ROOM_PAUSE))).await;
    }
}

/// Takes no notice of a Backup until the next start, and says so in an Event with this reason.
fn leave_alone(context: &Context, object: &Backup, reason: &'static str, why: &str) {
    let id = observe::id(&object.metadata);
    tracing::warn!(backup = %id, why, "the Backup is left alone");
    let note = format!("Stillpoint leaves the Backup alone: {why}");
    context.recorder.record(events::of_backup(&id, true, reason, &note, context.clock.now()));
}

/// Claims a new Backup before anything is recorded about it. Of two daemons, the API server refuses one,
/// which then reads the owner. Returns `Some(reason)` if the Backup is left alone.
async fn claim_new(context: &Context, object: &Backup) -> Option<String> {
    let (mut seen, epoch, journal) = (object.clone(), context.journal.epoch(), context.binder.journal_id());
    let id = observe::id(&object.metadata);
    let mut failures = 0;
    loop {
        let claim = Claim {
            epoch,
            journal: journal.as_deref(),
            resource_version: seen.metadata.resource_version.as_deref(),
        };
        match context.adapter.claim_backup(&id, &claim).await {
            Ok(changed) => {
                context.cache.upsert(changed);
                return None;
            }
            // The review of the permissions then refuses the groups and names the missing permission.
            Err(problem) if problem.code == Code::Refused && failures >= CLAIM_TRIES => {
                tracing::warn!(backup = %id, %problem, "the Backup is not claimed");
                return None;
            }
            Err(problem) => {
                tracing::warn!(backup = %id, %problem, "cannot claim the Backup; trying again");
                failures += 1;
            }
        }
        context.clock.pause(failures).await;
        match context.adapter.backup(&id.namespace, &id.name).await {
            Ok(Some(found)) if found.metadata.uid.as_deref() == Some(id.uid.0.as_str()) => {
                if let Some(why) = context.binder.foreign_claim(&found) {
                    return Some(why);
                }
                seen = found;
            }
            Ok(_) => return Some("it was deleted".to_owned()),
            Err(problem) => tracing::warn!(backup = %id, %problem, "cannot read the Backup"),
        }
    }
}

/// A Backup that has ended and whose archive is missing: it is not run again, and its result is unknown.
pub(super) fn archived_elsewhere(
    context: &Context,
    stream: StreamId,
    object: Option<&Backup>,
    error: &JournalError,
) {
    tracing::warn!(run = %stream, %error, "{}", error.fix());
    if let Some(object) = object {
        let note = format!("it has ended and is not run again, but {error}; {}", error.fix());
        let id = observe::id(&object.metadata);
        context.recorder.record(events::of_backup(&id, true, "ArchiveMissing", &note, context.clock.now()));
    }
}

/// Claims a Backup that an earlier incarnation accepted, before any of its work continues. The claim also
/// stops an older daemon that is still alive where there is no VolumeGroupSnapshot to claim. A Backup that a
/// newer incarnation has claimed is left unchanged.
pub(super) async fn claim(context: &Context, run: &BackupRun, object: Option<&Backup>) {
    let (id, epoch) = (object_id(&run.plan.backup), context.journal.epoch());
    let claimed = object.and_then(|object| observe::epoch(&object.metadata));
    if !run.stage.is_final() && claimed.is_none_or(|claimed| claimed < epoch) {
        let journal = context.binder.journal_id();
        let claim = Claim { epoch, journal: journal.as_deref(), resource_version: None };
        insist(context, &id, u32::MAX, || context.adapter.claim_backup(&id, &claim)).await;
    }
}

async fn refuse(context: &Context, object: &Backup, code: Code, errors: &[String]) {
    let now = observe::api_time(context.clock.now());
    let status = BackupStatus {
        phase: Some(Phase::FailedValidation.name().to_owned()),
        validation_errors: Some(errors.to_vec()),
        start_timestamp: now.clone(),
        completion_timestamp: now,
        ..BackupStatus::default()
    };
    let id = observe::id(&object.metadata);
    tracing::warn!(backup = %id, errors = errors.join("; "), "the Backup is refused");
    context.metrics.record(Metric::BackupRefused(code));
    for error in errors {
        context.recorder.record(events::of_refusal(object, "FailedValidation", error, context.clock.now()));
    }
    project(context, &id, &status, u32::MAX).await;
}

/// Refuses a Backup that cannot be parsed.
pub async fn refuse_malformed(context: &Context, id: &ObjectId, error: &str) {
    let reason = limits::clip(&format!("the Backup cannot be read: {error}; correct it and create it again"));
    tracing::warn!(backup = %id, reason, "the Backup is refused");
    context.metrics.record(Metric::BackupRefused(Code::InvalidBackup));
    context.recorder.record(events::of_backup(id, true, "FailedValidation", &reason, context.clock.now()));
    for failures in 1..=TRIES {
        match context.adapter.project_malformed(id, &reason).await {
            // An API server that has just started refuses every request. A Backup that is gone is retried for
            // about two minutes.
            Err(problem) if matches!(problem.code, Code::Unreachable | Code::Refused) => {
                tracing::warn!(backup = %id, %problem, "cannot write the status of the Backup; trying again");
                context.clock.pause(failures).await;
            }
            Err(problem) => {
                return tracing::warn!(backup = %id, %problem, "cannot write the status of the Backup");
            }
            Ok(()) => return,
        }
    }
}

/// Number of failed claims after which a refusal is final. The Backup is read again after each failure.
const CLAIM_TRIES: u32 = 3;

/// The object of a Backup.
pub(super) fn object_id(backup: &BackupRef) -> ObjectId {
    ObjectId { namespace: backup.namespace.clone(), name: backup.name.clone(), uid: backup.uid.clone() }
}
