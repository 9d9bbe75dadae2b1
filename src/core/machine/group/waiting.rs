//! Explains why a run waits: the step, the cause, the blocking objects and finalizers, the start and the
//! deadline.
//!
//! The report is computed from state, observation, decision and time whenever a run waits. It is never
//! journaled. The status of the GroupSnapshot, `groups describe`, Warning Events, the log and the metrics all
//! use this one value. No text contains a time or an age: while the cause stays the same, the report stays
//! the same, and nothing is written again.

use crate::domain::labels;
use crate::domain::limits;
use crate::domain::observed::{Observation, RestoreSeen};
use crate::domain::problem::About;
use crate::domain::time::{Millis, Timestamp};
use crate::machine::group::GroupMachine;
use crate::machine::group::decide;
use crate::machine::group::effect::EffectKind;
use crate::machine::group::effects::effects;
use crate::machine::group::matching::{self, Member, own_content, own_contents, own_group, own_snapshots};
use crate::machine::group::state::GroupRun;
use crate::machine::group::view::MemberFlags;
use crate::machine::group::wait::Waiting;
use crate::machine::kit::wait_report::{Blocker, Cause, MANUAL, RETRY, WaitReport};
use crate::machine::kit::{Action, Decision, View, Wait as _};

/// Report for a run with this decision that does nothing before `until`.
pub fn report(
    run: &GroupRun,
    seen: &Observation,
    decision: &Decision<GroupMachine>,
    until: Option<Timestamp>,
    now: Timestamp,
) -> WaitReport {
    let row = decision.row.id;
    match decision.then {
        Action::Wait(waiting) => waits(run, seen, row, waiting, now),
        Action::Stick { .. } => WaitReport::new(row, MANUAL, run.changed_at),
        _ => WaitReport { next_try: until, ..paused(run, seen, row, now) },
    }
}

/// Number of existing members and of ready members in a view.
pub fn count(view: &View) -> (usize, usize) {
    let has = |wanted: u16| view.members.iter().filter(|flags| **flags & wanted == wanted).count();
    let stands = MemberFlags::Stands as u16;
    (has(stands), has(stands | MemberFlags::Ready as u16))
}

// ---- Failed steps -----------------------------------------------------------------------------------------

fn paused(run: &GroupRun, seen: &Observation, row: &'static str, now: Timestamp) -> WaitReport {
    let tries = &run.tries;
    let since = tries.failing_since.unwrap_or(run.changed_at);
    let report = WaitReport::new(row, RETRY, since);
    let Some(error) = &tries.error else {
        let step = tries.step.map_or("the step", |step| step.name());
        let detail = format!(
            "{step} was done {} times, and each time another client changed the objects back: find the client in the \
             API server's audit log",
            tries.intents
        );
        return WaitReport { cause: Some(Cause::Undone), detail: Some(detail), warns: true, ..report };
    };
    let cause = if tries.refused > 0 { Cause::Refused } else { Cause::Unanswered };
    let blocker = |(_, about)| Blocker { about, error: Some(error.clone()), finalizers: Vec::new() };
    WaitReport {
        cause: Some(cause),
        detail: last_failure(run, seen),
        objects: target(run, seen).map(blocker).into_iter().collect(),
        last_error: Some(error.clone()),
        warns: tries.failures >= limits::FAILURES_WARNED || now >= since.after(limits::ERROR_PATIENCE),
        ..report
    }
}

/// The call that failed last, and its answer, verbatim.
pub(super) fn last_failure(run: &GroupRun, seen: &Observation) -> Option<String> {
    let error = run.tries.error.as_ref()?;
    let call = target(run, seen).map(|(verb, about)| format!("{verb} {about}: ")).unwrap_or_default();
    Some(format!("{call}{error}"))
}

/// The error in the status of an object of the run, with the object if it belongs to a member.
pub(super) fn reported_error(run: &GroupRun, seen: &Observation) -> Option<String> {
    let things = things(run, seen);
    let thing = things.iter().find(|thing| thing.error.is_some())?;
    let error = limits::clip_middle(thing.error.as_deref()?, limits::MAX_ERROR_BYTES);
    let of_group = thing.about.kind.starts_with("VolumeGroupSnapshot");
    Some(if of_group { format!("last error: {error}") } else { format!("{} reports: {error}", thing.about) })
}

/// Verb and object of the call that failed last. The object is found among the effects that are missing now.
fn target(run: &GroupRun, seen: &Observation) -> Option<(&'static str, About)> {
    let (step, failed) = (run.tries.step?, run.tries.failed?);
    let missing = effects(run, seen, step).into_iter().find(|(mark, _)| *mark == failed);
    let about = missing.map(|(_, effect)| effect.about());
    Some((failed.kind.verb(), about.unwrap_or_else(|| known(run, failed.kind, failed.member))))
}

/// The object of an effect that is no longer missing, if plan or receipt names it.
fn known(run: &GroupRun, kind: EffectKind, member: Option<u16>) -> About {
    let receipt = run.state.receipt.as_deref();
    let member = member.and_then(|index| receipt?.members.get(usize::from(index)));
    let (namespace, name) = match (kind.object(), member) {
        ("VolumeGroupSnapshot", _) => (run.plan.namespace.as_str(), run.group_name()),
        ("VolumeGroupSnapshotContent", _) => {
            ("", receipt.map(|receipt| receipt.group_content.name.clone()).unwrap_or_default())
        }
        ("VolumeSnapshot", Some(member)) => (run.plan.namespace.as_str(), member.snapshot.name.clone()),
        ("VolumeSnapshotContent", Some(member)) => ("", member.content.name.clone()),
        _ => ("", String::new()),
    };
    About::new(kind.object(), namespace, &name)
}

// ---- Waits for other components ---------------------------------------------------------------------------

/// Possible cause of a wait, and its usual duration.
struct Finding {
    cause: Cause,
    detail: String,
    /// Start of the cause, if known, else of the wait.
    since: Timestamp,
    patience: Millis,
}

fn waits(
    run: &GroupRun,
    seen: &Observation,
    row: &'static str,
    waiting: Waiting,
    now: Timestamp,
) -> WaitReport {
    let since = run.changed_at;
    let report =
        WaitReport { deadline: deadline(run, seen, waiting), ..WaitReport::new(row, waiting.text(), since) };
    // These waits end by the clock alone, so that nothing can block them.
    if matches!(waiting, Waiting::LateContent | Waiting::Echo) {
        return report;
    }
    // Nothing is reported before that time, and a run that makes progress needs no search for causes.
    let soon = since.after(limits::ERROR_PATIENCE);
    if now < soon {
        return WaitReport { recheck: Some(soon), ..report };
    }
    let things = things(run, seen);
    let finding = held(&things, since)
        .or_else(|| restored(seen, waiting, since))
        .or_else(|| errors(&things, since))
        .or_else(|| overdue(run, seen, waiting, since));
    let Some(finding) = finding else { return report };
    let due = finding.since.after(finding.patience);
    if now < due {
        return WaitReport { recheck: Some(due), ..report };
    }
    let gone = seen.namespace.as_ref().is_none_or(|namespace| namespace.terminating);
    let namespace =
        if gone { format!("; namespace {} is being deleted", run.plan.namespace) } else { String::new() };
    WaitReport {
        cause: Some(finding.cause),
        detail: Some(format!("{}{namespace}", finding.detail)),
        objects: blockers(run, seen, &things),
        last_error: things.iter().find_map(|thing| thing.error.clone()),
        warns: true,
        ..report
    }
}

fn deadline(run: &GroupRun, seen: &Observation, waiting: Waiting) -> Option<Timestamp> {
    match waiting {
        Waiting::Cut => Some(decide::cut_deadline(run)),
        Waiting::Ready => Some(decide::ready_deadline(run)),
        Waiting::DriverGrace => seen.error_since.map(|since| since.after(limits::GROUP_ERROR_GRACE)),
        Waiting::LateContent => Some(decide::late_window_end(run)),
        Waiting::Echo => Some(decide::echo_end(run)),
        _ => None,
    }
}

/// An object of the run that may block a wait.
struct Thing {
    about: About,
    error: Option<String>,
    /// Its finalizers, if it is being deleted.
    finalizers: Vec<String>,
}

impl Thing {
    fn new(
        kind: &str,
        id: &crate::domain::ids::ObjectId,
        error: &Option<String>,
        terminating: bool,
        finalizers: &[String],
    ) -> Self {
        let finalizers = if terminating { finalizers.to_vec() } else { Vec::new() };
        let error = error.as_deref().map(|error| limits::clip_middle(error, limits::MAX_NOTE_BYTES));
        Self { about: About::new(kind, &id.namespace, &id.name), error, finalizers }
    }

    fn foreign(&self) -> Option<&String> {
        self.finalizers.iter().find(|finalizer| !is_of_snapshots(finalizer))
    }
}

fn things(run: &GroupRun, seen: &Observation) -> Vec<Thing> {
    let group = own_group(run, seen).map(|group| {
        Thing::new("VolumeGroupSnapshot", &group.id, &group.error, group.terminating, &group.finalizers)
    });
    let contents = own_content(run, seen).into_iter().chain(&seen.import).map(|content| {
        let (error, finalizers) = (&content.error, &content.finalizers);
        Thing::new("VolumeGroupSnapshotContent", &content.id, error, content.terminating, finalizers)
    });
    let snapshots = own_snapshots(run, seen).map(|snapshot| {
        let (error, finalizers) = (&snapshot.error, &snapshot.finalizers);
        Thing::new("VolumeSnapshot", &snapshot.id, error, snapshot.terminating, finalizers)
    });
    let of_members = own_contents(run, seen).map(|content| {
        let (error, finalizers) = (&content.error, &content.finalizers);
        Thing::new("VolumeSnapshotContent", &content.id, error, content.terminating, finalizers)
    });
    group.into_iter().chain(contents).chain(snapshots).chain(of_members).collect()
}

/// Finalizers of the snapshot-controller, the csi-snapshotter and the provisioner, which these components
/// remove.
fn is_of_snapshots(finalizer: &str) -> bool {
    let domain = finalizer.split('/').next().unwrap_or_default();
    matches!(
        domain,
        "snapshot.storage.kubernetes.io"
            | "groupsnapshot.storage.kubernetes.io"
            | "provisioner.storage.kubernetes.io"
    )
}

fn held(things: &[Thing], since: Timestamp) -> Option<Finding> {
    let (thing, finalizer) = things.iter().find_map(|thing| Some((thing, thing.foreign()?)))?;
    let detail = format!(
        "{} is being deleted, and finalizer {finalizer} holds it: the component that set the finalizer has to remove \
         it",
        thing.about
    );
    Some(Finding { cause: Cause::Finalizer, detail, since, patience: limits::ERROR_PATIENCE })
}

/// The snapshot-controller keeps a group while a restore from it is running.
fn restored(seen: &Observation, waiting: Waiting, since: Timestamp) -> Option<Finding> {
    let restore = seen.restores.first().filter(|_| waiting == Waiting::GroupGone)?;
    let RestoreSeen { claim, snapshot } = restore;
    let detail = format!(
        "PersistentVolumeClaim {claim} is made from VolumeSnapshot {snapshot} and is not bound; the \
         snapshot-controller keeps the group until the claim is bound or deleted"
    );
    Some(Finding { cause: Cause::Restore, detail, since, patience: limits::ERROR_PATIENCE })
}

fn errors(things: &[Thing], since: Timestamp) -> Option<Finding> {
    let failing: Vec<&Thing> = things.iter().filter(|thing| thing.error.is_some()).collect();
    let first = failing.first()?;
    let more = match failing.len() - 1 {
        0 => String::new(),
        1 => " (another object reports an error, too)".to_owned(),
        more => format!(" ({more} other objects report an error, too)"),
    };
    let error = limits::clip_middle(first.error.as_deref()?, limits::MAX_ERROR_BYTES);
    let detail = format!("{} reports: {error}{more}", first.about);
    Some(Finding { cause: Cause::ErrorReported, detail, since, patience: limits::ERROR_PATIENCE })
}

/// A controller or the driver takes longer than usual without reporting a reason.
fn overdue(run: &GroupRun, seen: &Observation, waiting: Waiting, since: Timestamp) -> Option<Finding> {
    let finding = |cause, patience, detail| Finding { cause, detail, since, patience };
    let controller = |detail| finding(Cause::NoProgress, limits::CONTROLLER_PATIENCE, detail);
    let driver = |detail| finding(Cause::NoProgress, limits::DRIVER_PATIENCE, detail);
    let group = format!("VolumeGroupSnapshot {}/{}", run.plan.namespace, run.group_name());
    let content = own_content(run, seen).map(|content| content.id.name.as_str());
    Some(match (waiting, content) {
        (Waiting::Cut | Waiting::DriverGrace, None) => finding(
            Cause::NotMade,
            limits::CONTROLLER_PATIENCE,
            format!("the snapshot-controller has not made the VolumeGroupSnapshotContent of {group}: see its log"),
        ),
        (Waiting::Cut | Waiting::DriverGrace, Some(content)) => driver(format!(
            "VolumeGroupSnapshotContent {content} does not have all snapshot handles; see the logs of the \
             csi-snapshotter and of driver {}",
            run.plan.driver
        )),
        (Waiting::Ready, _) => unready(run, seen, since),
        (Waiting::Acknowledgement, _) => controller(format!(
            "the snapshot-controller has not put finalizer {} back on {}: see its log",
            labels::AS_SOURCE_PROTECTION,
            unacknowledged(run, seen)
        )),
        (Waiting::GroupGone, _) => {
            controller(format!("{group} is being deleted, and the snapshot-controller keeps it: see its log"))
        }
        (Waiting::ContentAgain, _) => finding(
            Cause::NotMade,
            limits::CONTROLLER_PATIENCE,
            format!(
                "the VolumeGroupSnapshotContent of {group} was deleted, and the snapshot-controller has not made it \
                 again: see its log"
            ),
        ),
        (Waiting::ContentGone, content) => controller(format!(
            "VolumeGroupSnapshotContent {} is being deleted, and the csi-snapshotter keeps it: see its log",
            content.unwrap_or_default()
        )),
        (Waiting::StorageFreed | Waiting::DriverAnswer, _) => driver(format!(
            "the csi-snapshotter and driver {} have not finished the deletion: see their logs",
            run.plan.driver
        )),
        (Waiting::Rebuilt, _) => controller(format!(
            "rebuilt members are not ready: {}; see the log of the snapshot-controller",
            names(run, matching::members(run, seen).into_iter().filter(|m| m.rebuilt && !is_ready(m)))
        )),
        (Waiting::Protection, _) => controller(format!(
            "{group} or its content does not have its bound-protection finalizer, which the snapshot-controller sets: \
             see its log"
        )),
        (Waiting::ShellsGone, _) => driver(
            "VolumeSnapshots and VolumeSnapshotContents of the group are being deleted; the snapshot-controller tries \
             again after up to 5 minutes"
                .to_owned(),
        ),
        (Waiting::LateContent | Waiting::Echo, _) => return None,
    })
}

/// Members that are not created or not ready.
pub(super) fn unready_members(run: &GroupRun, seen: &Observation) -> String {
    unready(run, seen, run.changed_at).detail
}

fn unready(run: &GroupRun, seen: &Observation, since: Timestamp) -> Finding {
    let since = seen.progress_since.map_or(since, |progress| progress.max(since));
    let members = matching::members(run, seen);
    let (total, driver) = (members.len(), &run.plan.driver);
    let made = members.iter().filter(|member| member.snapshot.is_some()).count();
    let ready = members.iter().filter(|member| is_ready(member)).count();
    let group = format!("{}/{}", run.plan.namespace, run.group_name());
    let (cause, patience, detail) = if made < total {
        let missing = members.into_iter().filter(|member| member.snapshot.is_none());
        let detail = format!(
            "{made} of {total} VolumeSnapshots of the group exist; the snapshot-controller has not made those of {}: \
             see its log, quotas and webhooks",
            names(run, missing)
        );
        (Cause::NotMade, limits::CONTROLLER_PATIENCE, detail)
    } else if ready < total {
        let waiting = members.into_iter().filter(|member| !is_ready(member));
        let detail = format!(
            "{ready} of {total} members are ready; not ready: {}; see the logs of the csi-snapshotter and of driver \
             {driver}",
            names(run, waiting)
        );
        (Cause::NoProgress, limits::DRIVER_PATIENCE, detail)
    } else {
        let detail = format!(
            "all {total} members are ready, and VolumeGroupSnapshot {group} is not: see the log of the \
             snapshot-controller"
        );
        (Cause::NoProgress, limits::CONTROLLER_PATIENCE, detail)
    };
    Finding { cause, detail, since, patience }
}

fn is_ready(member: &Member<'_>) -> bool {
    member.snapshot.is_some_and(|snapshot| snapshot.ready && !snapshot.terminating)
}

fn unacknowledged(run: &GroupRun, seen: &Observation) -> String {
    let lacks = |member: &Member<'_>| {
        let has = |finalizer: &String| finalizer == labels::AS_SOURCE_PROTECTION;
        member.snapshot.is_some_and(|snapshot| !snapshot.finalizers.iter().any(has))
    };
    names(run, matching::members(run, seen).into_iter().filter(lacks))
}

/// PVCs of members with their VolumeSnapshots, for users. A long list is shortened.
fn names<'a>(run: &GroupRun, members: impl Iterator<Item = Member<'a>>) -> String {
    let name = |member: Member<'_>| {
        let claim = &run.plan.members[member.index].claim;
        match member.snapshot {
            Some(snapshot) => format!("{claim} (VolumeSnapshot {})", snapshot.id.name),
            None => claim.clone(),
        }
    };
    let names: Vec<String> = members.map(name).collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("PersistentVolumeClaim{plural} {}", limits::listed(names))
}

/// Objects that report an error or are being deleted, PVCs that block the group, and the namespace if it is
/// being deleted.
fn blockers(run: &GroupRun, seen: &Observation, things: &[Thing]) -> Vec<Blocker> {
    let namespace =
        seen.namespace.iter().filter(|namespace| namespace.terminating).map(|namespace| Blocker {
            about: About::new("Namespace", "", &run.plan.namespace),
            error: None,
            finalizers: namespace.finalizers.clone(),
        });
    let restores = seen.restores.iter().map(|restore| Blocker {
        about: About::new("PersistentVolumeClaim", &restore.claim.namespace, &restore.claim.name),
        error: None,
        finalizers: Vec::new(),
    });
    let of_run = things.iter().filter(|thing| thing.error.is_some() || !thing.finalizers.is_empty());
    let of_run = of_run.map(|thing| Blocker {
        about: thing.about.clone(),
        error: thing.error.clone(),
        finalizers: thing.finalizers.clone(),
    });
    namespace.chain(restores).chain(of_run).take(limits::BLOCKERS_SHOWN).collect()
}
