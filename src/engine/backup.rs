//! Processes one Backup from its object to its end: validate → form groups → accept → run the groups →
//! finish.
//!
//! The journal records the groups (`Accepted`) before the first of them begins. After a restart the daemon
//! reads the groups from the journal. A group whose plan never became durable is planned again under the same
//! id. This is safe because such a group had no effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::cluster::kinds::{Backup, BackupStatus};
use crate::cluster::{Claim, ObjectChange, observe};
use crate::domain::ids::{ObjectId, StreamId};
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::plan::Plan;
use crate::domain::problem::{About, Code, Problem};
use crate::domain::time::Timestamp;
use crate::engine::backup_spec::{self, Defaults};
use crate::engine::deleted_backup;
use crate::engine::driver::{Context, internal, journal_problem};
use crate::engine::events;
use crate::engine::inventory;
use crate::engine::preflight;
use crate::engine::reasons;
use crate::engine::snapshots::Snapshots;
use crate::engine::telemetry::Metric;
use crate::journal::{Entry, JournalError, StreamState};
use crate::machine::backup::{self, AskedGroup, BackupRun, Ends, Event, FailedGroup, GroupEnd, Phase};
use crate::machine::group;
use crate::machine::group::{GroupRun, Stage};
use crate::machine::kit::{self, Moment, Point};
use crate::machine::points;
use crate::planning::{Formed, RefusedGroup, Request, form_groups};
use crate::records::{self, Decoded};

/// Request to the engine: run a group, or report how it ended.
pub struct StartRun {
    pub run: StreamId,
    /// Plan of the run, in case the journal has none.
    pub plan: Option<Plan>,
    /// Receives the end of the run; `None` if the run has no plan.
    pub end: oneshot::Sender<Option<Arc<GroupRun>>>,
}

/// Processes one Backup until it ends. `object` is `None` when only the journal still knows the Backup.
///
/// # Errors
/// The journal cannot be read or written: the daemon ends.
pub async fn take(
    context: Context,
    defaults: Defaults,
    stream: StreamId,
    object: Option<std::sync::Arc<Backup>>,
    starts: mpsc::UnboundedSender<StartRun>,
) -> Result<(), Problem> {
    let entries = match context.journal.stream(stream).await {
        Err(error @ JournalError::ArchiveMissing { .. }) => {
            archived_elsewhere(&context, stream, object.as_deref(), &error);
            return Ok(());
        }
        entries => entries.map_err(|error| journal_problem(stream, &error))?,
    };
    let folded = fold(stream, &entries)?;
    if folded.is_none()
        && let Some(why) = object.as_deref().and_then(|object| not_ours(&context, object))
    {
        leave_alone(&context, object.as_deref(), "NotOurs", &why);
        return Ok(());
    }
    if folded.is_none()
        && let Some(damage) = context.journal.damage()
    {
        let why = format!(
            "{damage}; stop the daemon, run `stillpoint journal rebuild --from-index`, and start it: it then takes \
             the Backup"
        );
        leave_alone(&context, object.as_deref(), "JournalDamaged", &why);
        return Ok(());
    }
    let mut request = object.as_deref().map(|object| backup_spec::read(object, &defaults));
    let (mut refused_as, is_new) = (Code::Unsupported, folded.is_none());
    if let (None, Some(object), Some(Ok(_))) = (&folded, object.as_deref(), &request)
        && let Some(error) = preflight::namesake(&context, object).await
    {
        refused_as = Code::InvalidBackup;
        request = Some(Err(vec![error]));
    }
    let run = match (folded, &request, object.as_deref()) {
        (Some(run), _, object) => {
            claim(&context, &run, object).await;
            // A daemon that was killed after the record may not have recorded the Events; a repeated one is
            // the same Event.
            if run.finished.is_none() {
                tell_refused(&context, &run);
                tell_warnings(&context, &run, 0);
            }
            run
        }
        (None, Some(Err(errors)), Some(object)) => {
            refuse(&context, object, refused_as, errors).await;
            return Ok(());
        }
        (None, Some(Ok(request)), Some(object)) => {
            if let Some(why) = claim_new(&context, object).await {
                leave_alone(&context, Some(object), "NotOurs", &why);
                return Ok(());
            }
            accept(&context, stream, request).await?
        }
        _ => return Ok(()),
    };
    show_label_key(&context, object.as_deref(), &run).await;
    let mut seq = entries.len().max(1) as u64;
    show_progress(&context, &run).await;
    let finished = match run.finished {
        Some(_) => run,
        None => {
            let plans = replan(&context, request.and_then(Result::ok).as_ref()).await;
            let groups = deleted_backup::noticed(&context, &run, run_groups(&run, plans, &starts));
            let ((ends, unplanned), ()) = tokio::join!(groups, reasons::show_refused(&context, &run, is_new));
            reasons::show(&context, &run, unplanned.iter().collect(), false).await;
            let Some(event) = backup::decide(&run, &ends).map(records::fit_backup) else { return Ok(()) };
            context.points.hit(Point::new(points::FINISHED, Moment::BeforeRecord)).await;
            let known = run.warnings.len();
            let finished =
                append(&context, stream, &mut seq, Some(run), &event, StreamState::Finished).await?;
            tell_warnings(&context, &finished, known);
            context.points.hit(Point::new(points::FINISHED, Moment::AfterRecord)).await;
            finished
        }
    };
    let snapshots = Snapshots::of(&context, &finished).await?;
    show_end(&context, &finished, snapshots).await;
    finished.groups.iter().for_each(|group| context.status_board.forget(group.run));
    Ok(())
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

/// Takes no notice of a Backup until the next start, and says so in an Event with this reason.
fn leave_alone(context: &Context, object: Option<&Backup>, reason: &'static str, why: &str) {
    let Some(object) = object else { return };
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
fn archived_elsewhere(context: &Context, stream: StreamId, object: Option<&Backup>, error: &JournalError) {
    tracing::warn!(run = %stream, %error, "{}", error.fix());
    if let Some(object) = object {
        let note = format!("it has ended and is not run again, but {error}; {}", error.fix());
        let id = observe::id(&object.metadata);
        context.recorder.record(events::of_backup(&id, true, "ArchiveMissing", &note, context.clock.now()));
    }
}

pub fn fold(stream: StreamId, entries: &[Entry]) -> Result<Option<BackupRun>, Problem> {
    let mut run = None;
    for entry in entries {
        match records::decode(&entry.record).map_err(|error| internal(stream, &error))? {
            Decoded::Backup { event, at } => {
                run = Some(backup::fold(run, &event, at).map_err(|error| internal(stream, &error))?);
            }
            Decoded::Group(_) => return Err(internal(stream, &backup::IllegalEvent::NotAccepted)),
        }
    }
    Ok(run)
}

async fn accept(context: &Context, stream: StreamId, request: &Request) -> Result<BackupRun, Problem> {
    let mut formed = form(context, request).await;
    if !formed.plans.is_empty()
        && let Some(problem) = preflight::missing_permissions(context, &request.backup.namespace).await
    {
        refuse_all(&mut formed, &problem);
    }
    let mut warnings = formed.warnings;
    let named = |plan: &Plan| {
        let group = format!("group {}/{}", plan.namespace, plan.group);
        plan.warnings.iter().map(|warning| format!("{group}: {warning}")).collect::<Vec<_>>()
    };
    warnings.extend(formed.plans.iter().flat_map(named));
    let unrecorded = formed.refused.len().saturating_sub(limits::MAX_GROUPS_PER_BACKUP);
    if unrecorded > 0 {
        formed.refused.truncate(limits::MAX_GROUPS_PER_BACKUP);
        let warning =
            format!("and {unrecorded} more groups were refused: divide the namespaces among several Backups");
        warnings.insert(0, warning);
    }
    let event = records::fit_backup(Event::Accepted {
        backup: request.backup.clone(),
        label_key: request.label_key.clone(),
        groups: formed.plans.iter().map(asked).collect(),
        refused: formed.refused.iter().map(|r| failed(&r.namespace, &r.group, &r.problem)).collect(),
        warnings: limits::at_most(
            warnings.iter().map(|warning| limits::clip(warning)).collect(),
            limits::MAX_WARNINGS,
        ),
    });
    context.points.hit(Point::new(points::ACCEPTED, Moment::BeforeRecord)).await;
    let run = append(context, stream, &mut 0, None, &event, StreamState::Open).await?;
    context.points.hit(Point::new(points::ACCEPTED, Moment::AfterRecord)).await;
    tell_refused(context, &run);
    tell_warnings(context, &run, 0);
    Ok(run)
}

/// Discards all plans.
fn refuse_all(formed: &mut Formed, problem: &Problem) {
    let refused = formed.plans.drain(..).map(|plan| RefusedGroup {
        namespace: plan.namespace,
        group: plan.group,
        problem: problem.clone(),
    });
    formed.refused.extend(refused);
}

fn tell_refused(context: &Context, run: &BackupRun) {
    for refused in &run.failed {
        context.metrics.record(Metric::GroupRefused(refused.code));
        let note = refused.to_string();
        tracing::warn!(backup = %object_id(run), "refused: {note}");
        let event = events::of_backup(&object_id(run), true, "GroupRefused", &note, run.accepted_at);
        context.recorder.record(event);
    }
}

/// Records the warnings after the first `known` ones. The status of a Backup only has a field for their
/// number.
fn tell_warnings(context: &Context, run: &BackupRun, known: usize) {
    for warning in run.warnings.iter().skip(known) {
        tracing::warn!(backup = %object_id(run), "{warning}");
        context.recorder.record(events::of_backup(
            &object_id(run),
            true,
            "BackupWarning",
            warning,
            run.accepted_at,
        ));
    }
}

fn asked(plan: &Plan) -> AskedGroup {
    AskedGroup { namespace: plan.namespace.clone(), group: plan.group.clone(), run: plan.run }
}

fn failed(namespace: &str, group: &str, problem: &Problem) -> FailedGroup {
    // The printed text begins with the group, the namespace, or nothing for the Backup as a whole. An
    // identical object is not named again.
    let about = problem.about.to_string();
    let named = match (namespace, group) {
        ("", "") => problem.about.kind == "Backup",
        (_, "") => about.eq_ignore_ascii_case(&format!("namespace {namespace}")),
        _ => about.eq_ignore_ascii_case(&format!("group {namespace}/{group}")),
    };
    let about = if named { String::new() } else { format!("{about}: ") };
    FailedGroup {
        namespace: namespace.to_owned(),
        group: group.to_owned(),
        code: problem.code,
        message: limits::clip(&format!("{about}{}; {}", problem.reason, problem.fix)),
    }
}

/// Forms the groups of a request: those that can run, and those that cannot, with the reason. The caches may
/// be slightly stale: if a group would be refused, or no group would run, the objects are read again from the
/// API server.
async fn form(context: &Context, request: &Request) -> Formed {
    let now = context.clock.now();
    let mut formed = form_groups(request, &inventory::gather(&context.cache, request), now);
    if !formed.refused.is_empty() || formed.plans.is_empty() {
        let read = || inventory::read(&context.adapter, &context.cache, request);
        match preflight::answered(context, "PVCs, namespaces, volumes and classes", read).await {
            Ok(inventory) => formed = form_groups(request, &inventory, now),
            Err(problem) => tracing::warn!(%problem, "planning from the caches"),
        }
    }
    let fits = |plan: &Plan| match context.adapter.group_version() {
        Err(problem) => Err(problem),
        Ok(_) => fits_into_record(plan, context.clock.now()),
    };
    if let Err(problem) = context.adapter.group_version() {
        // Without the API there are no classes either; that error would be the less useful one.
        let classless = |refused: &&mut RefusedGroup| refused.problem.code == Code::GroupClass;
        formed.refused.iter_mut().filter(classless).for_each(|refused| refused.problem = problem.clone());
    }
    let plans = std::mem::take(&mut formed.plans);
    for plan in plans {
        match fits(&plan) {
            Ok(()) => formed.plans.push(plan),
            Err(problem) => {
                formed.refused.push(RefusedGroup { namespace: plan.namespace, group: plan.group, problem });
            }
        }
    }
    formed
}

/// # Errors
/// [`Code::TooManyMembers`] when the plan does not fit into a record: very many members with very long names.
fn fits_into_record(plan: &Plan, at: Timestamp) -> Result<(), Problem> {
    let about = || About::new("Group", &plan.namespace, &plan.group);
    let fix = "split the group, or give its claims, volumes and handles shorter names";
    let record = group::Timed { at, event: group::Event::Planned(Box::new(plan.clone())) };
    let encoded = records::encode_group(&record).map(|_| ());
    encoded.map_err(|error| Problem::new(Code::TooManyMembers, about(), error.to_string(), fix))
}

/// Plans by run, for groups that the journal may not have yet.
async fn replan(context: &Context, request: Option<&Request>) -> BTreeMap<StreamId, Plan> {
    let Some(request) = request else { return BTreeMap::new() };
    form(context, request).await.plans.into_iter().map(|plan| (plan.run, plan)).collect()
}

/// How the groups ended, and those of them that never had a run.
async fn run_groups(
    run: &BackupRun,
    mut plans: BTreeMap<StreamId, Plan>,
    starts: &mpsc::UnboundedSender<StartRun>,
) -> (Ends, Vec<FailedGroup>) {
    let mut answers = Vec::new();
    for group in &run.groups {
        let (end, answer) = oneshot::channel();
        let start = StartRun { run: group.run, plan: plans.remove(&group.run), end };
        answers.push((group, starts.send(start).is_ok(), answer));
    }
    let (mut ends, mut unplanned) = (Ends::new(), Vec::new());
    for (group, sent, answer) in answers {
        let end = if sent { answer.await.ok() } else { None };
        let has_run = end.as_ref().is_none_or(Option::is_some);
        let end = end.map(|end| how_it_ended(group, end));
        unplanned.extend(end.iter().filter(|_| !has_run).filter_map(|end| end.clone().err()));
        ends.push(end);
    }
    (ends, unplanned)
}

fn how_it_ended(group: &AskedGroup, end: Option<Arc<GroupRun>>) -> GroupEnd {
    let failure = |code, message: &str| FailedGroup {
        namespace: group.namespace.clone(),
        group: group.group.clone(),
        code,
        message: limits::clip(message),
    };
    match end {
        Some(run) if run.stage == Stage::Completed => Ok(warnings(&run)),
        Some(run) => Err(match &run.reason {
            Some(reason) => failure(reason.code, &reason.message),
            None => failure(Code::Internal, "the run failed without a recorded reason"),
        }),
        None => Err(failure(
            Code::PlanOutdated,
            "the group changed before its plan became durable; nothing was done",
        )),
    }
}

/// Warnings about a completed group.
fn warnings(run: &GroupRun) -> Vec<String> {
    let grade = run.atomicity().filter(|grade| !grade.is_atomic());
    let group = format!("group {}/{}", run.plan.namespace, run.plan.group);
    let grade = grade.map(|grade| format!("{group}: {}", grade.message(run.plan.atomicity.max_skew)));
    let went = run.state.space_went.then(|| {
        format!(
            "{group}: its namespace was deleted, and the VolumeSnapshots go with it; the storage is kept: the \
             VolumeSnapshotContents with the label {}={} retain it and have its handles",
            labels::RUN,
            run.plan.run
        )
    });
    grade.into_iter().chain(went).collect()
}

async fn append(
    context: &Context,
    stream: StreamId,
    seq: &mut u64,
    run: Option<BackupRun>,
    event: &Event,
    state: StreamState,
) -> Result<BackupRun, Problem> {
    let at = context.clock.now();
    let folded = backup::fold(run, event, at).map_err(|error| internal(stream, &error))?;
    let record = records::encode_backup(event, at).map_err(|error| internal(stream, &error))?;
    let began = tokio::time::Instant::now();
    let appended = context.journal.append(stream, *seq, vec![record], state).await;
    context.metrics.record(Metric::Appended { took: began.elapsed() });
    appended.map_err(|error| journal_problem(stream, &error))?;
    *seq += 1;
    Ok(folded)
}

/// Folds the stream of a run, for a Backup that is processed again. Also used by the engine.
pub fn fold_group(stream: StreamId, entries: &[Entry]) -> Result<Option<GroupRun>, Problem> {
    let mut run = None;
    for entry in entries {
        match records::decode(&entry.record).map_err(|error| internal(stream, &error))? {
            Decoded::Group(record) => {
                run = Some(kit::fold(run, &record).map_err(|error| internal(stream, &error))?);
            }
            Decoded::Backup { .. } => return Err(internal(stream, &backup::IllegalEvent::NotAccepted)),
        }
    }
    Ok(run)
}

fn object_id(run: &BackupRun) -> ObjectId {
    let backup = &run.backup;
    ObjectId { namespace: backup.namespace.clone(), name: backup.name.clone(), uid: backup.uid.clone() }
}

/// Number of failed claims after which a refusal is final. The Backup is read again after each failure.
const CLAIM_TRIES: u32 = 3;

/// Attempts for a status that a later one replaces, and for any status that the API server refuses: conflicts
/// are temporary.
const TRIES: u32 = 8;

/// Writes the status of a Backup, at most `tries` times while the API server does not answer.
async fn project(context: &Context, id: &ObjectId, status: &BackupStatus, tries: u32) {
    insist(context, id, tries, || context.adapter.project_backup(id, status)).await;
}

/// Claims a Backup that an earlier incarnation accepted, before any of its work continues. The claim also
/// stops an older daemon that is still alive where there is no VolumeGroupSnapshot to claim. A Backup that a
/// newer incarnation has claimed is left unchanged.
async fn claim(context: &Context, run: &BackupRun, object: Option<&Backup>) {
    let (id, epoch) = (object_id(run), context.journal.epoch());
    let claimed = object.and_then(|object| observe::epoch(&object.metadata));
    if run.finished.is_none() && claimed.is_none_or(|claimed| claimed < epoch) {
        let journal = context.binder.journal_id();
        let claim = Claim { epoch, journal: journal.as_deref(), resource_version: None };
        insist(context, &id, u32::MAX, || context.adapter.claim_backup(&id, &claim)).await;
    }
}

/// Writes to a Backup, at most `tries` times while the API server does not answer.
async fn insist<F>(context: &Context, id: &ObjectId, tries: u32, write: impl Fn() -> F)
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

/// Writes the label key into a Backup that does not name one. This comes after the record that fixes the
/// groups: before that record, a daemon that restarts has to see whether the user named the key.
async fn show_label_key(context: &Context, object: Option<&Backup>, run: &BackupRun) {
    let named = |object: &Backup| {
        object.spec.volume_group_snapshot_label_key.as_ref().is_some_and(|key| !key.is_empty())
    };
    if run.finished.is_some() || object.is_none_or(named) {
        return;
    }
    let id = object_id(run);
    match context.adapter.project_label_key(&id, &run.label_key).await {
        Ok(changed) => context.cache.upsert(changed),
        Err(problem) => tracing::warn!(backup = %id, %problem, "cannot write the label key into the Backup"),
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

async fn show_progress(context: &Context, run: &BackupRun) {
    let status = BackupStatus {
        phase: Some(Phase::InProgress.name().to_owned()),
        start_timestamp: observe::api_time(run.accepted_at),
        ..BackupStatus::default()
    };
    if run.finished.is_none() {
        tracing::info!(backup = %object_id(run), groups = run.groups.len(), refused = run.failed.len(), "accepted");
        project(context, &object_id(run), &status, TRIES).await;
    }
}

async fn show_end(context: &Context, run: &BackupRun, snapshots: Snapshots) {
    let Some((phase, at)) = run.finished else { return };
    let count = |n: usize| Some(n as i64);
    let status = BackupStatus {
        phase: Some(phase.name().to_owned()),
        start_timestamp: observe::api_time(run.accepted_at),
        completion_timestamp: observe::api_time(at),
        failure_reason: run.failure_reason(),
        errors: count(run.failed.len()),
        warnings: count(run.warnings.len()),
        csi_volume_snapshots_attempted: count(snapshots.attempted),
        csi_volume_snapshots_completed: count(snapshots.completed),
        ..BackupStatus::default()
    };
    tracing::info!(backup = %object_id(run), phase = phase.name(), "finished");
    context.metrics.record(Metric::BackupEnded(phase.name()));
    let note = run.failure_reason().unwrap_or_else(|| complete(run.groups.len()));
    let event = events::of_backup(&object_id(run), phase != Phase::Completed, phase.name(), &note, at);
    context.recorder.record(event);
    let (id, annotations) = (object_id(run), reasons::annotations(run));
    if !annotations.is_empty() {
        insist(context, &id, u32::MAX, || context.adapter.project_annotations(&id, &annotations)).await;
    }
    // In this incarnation no other code writes the end, however long the API server is unavailable.
    project(context, &id, &status, u32::MAX).await;
}

fn complete(groups: usize) -> String {
    match groups {
        0 => "there was no group to cut".to_owned(),
        1 => "1 group is complete".to_owned(),
        groups => format!("{groups} groups are complete"),
    }
}
