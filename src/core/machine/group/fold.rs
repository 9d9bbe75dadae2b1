//! Defines `fold`: state × event → state. It is the only code that changes a [`GroupRun`].
//!
//! A transition that the machine never makes is an error that names both sides. The journal is then foreign
//! or corrupt.

use std::sync::Arc;

use crate::domain::ids::Uid;
use crate::domain::limits;
use crate::domain::planted;
use crate::domain::problem::Code;
use crate::domain::receipt::{Receipt, ReceiptMember};
use crate::domain::time::Timestamp;
use crate::machine::group::columns::{Content, Marked, Retaining, Space};
use crate::machine::group::effect::Outcome;
use crate::machine::group::event::{
    Ask, Event, Evidence, Milestone, OperatorRequest, Reason, RebuiltMember, ReceiptHead, Step, Timed,
};
use crate::machine::group::reconstruct::{Reconstructed, Standing};
use crate::machine::group::state::{
    Answered, CreateFate, GroupRun, RetryState, Stage, StorageFate, TimelineEntry,
};
use crate::machine::group::view::View;

/// A record that is not valid after the records before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEvent {
    /// The first record of a stream is not the plan.
    #[error("a run begins with {0}, not with a plan")]
    NotPlanned(String),
    /// The record is not valid in the stage.
    #[error("{event} cannot follow {stage:?}")]
    OutOfPlace {
        /// Stage of the run.
        stage: Stage,
        event: String,
    },
    /// The parts of the receipt do not match its final record.
    #[error("the receipt is incomplete: {0}")]
    Receipt(String),
}

/// Folds one record into the state; `None` is the empty stream.
pub fn fold(state: Option<GroupRun>, record: &Timed) -> Result<GroupRun, IllegalEvent> {
    let Some(mut run) = state else {
        return match &record.event {
            Event::Planned(plan) => Ok(GroupRun::new((**plan).clone(), record.at)),
            other => Err(IllegalEvent::NotPlanned(name(other))),
        };
    };
    match &record.event {
        Event::Planned(_) => return Err(out_of_place(&run, &record.event)),
        Event::Intended { step, grounds, marks } => {
            intended(&mut run, *step, record)?;
            run.marks = marks.as_slice().into();
            run.freed = freed_by(run.freed, *step, &grounds.view);
        }
        Event::StepCompleted { step, outcomes } => ended(&mut run, *step, outcomes, record)?,
        Event::ReceiptPart { first, members } => receipt_part(&mut run, *first, members, record)?,
        Event::Reconstructed(found) => reconstructed(&mut run, found, record)?,
        Event::MilestoneReached { milestone, facts, grounds } => {
            reached(&mut run, *milestone, facts, record)?;
            run.space_went |= *milestone == Milestone::Cleaned && !grounds.view.is(Space::Stands);
            run.stuck = (*milestone == Milestone::Stuck).then(|| grounds.row.clone());
        }
        Event::RequestReceived(asked) => answered(&mut run, asked, record)?,
    }
    run.changed_at = record.at;
    Ok(run)
}

/// Folds all records of a stream; `None` for an empty one.
pub fn fold_all<'a>(records: impl IntoIterator<Item = &'a Timed>) -> Result<Option<GroupRun>, IllegalEvent> {
    records.into_iter().try_fold(None, |state, record| fold(state, record).map(Some))
}

fn intended(run: &mut GroupRun, step: Step, record: &Timed) -> Result<(), IllegalEvent> {
    if run.stage.is_final() {
        return Err(out_of_place(run, &record.event));
    }
    if !run.tries.are_of(step) {
        run.tries = RetryState::default();
    }
    run.tries.step = Some(step);
    run.tries.intents += 1;
    run.open_intent = Some(step);
    run.stuck = None;
    #[cfg(feature = "planted")]
    if matches!(step, Step::Create | Step::UndoCreate) {
        run.creates += 1;
    }
    match step {
        Step::Create | Step::UndoCreate if run.create == CreateFate::Untried => {
            run.create = CreateFate::Unknown
        }
        // The pivot: after this record the run only goes forward.
        Step::ClearNames if run.stage == Stage::Retained => run.stage = Stage::Releasing,
        _ => {}
    }
    Ok(())
}

/// The fate of the storage once a step of a rollback is intended. A delete of group or content frees the
/// storage only if all contents are under Delete and the group's content is not yet being deleted. If it is,
/// the csi-snapshotter may have read its policy earlier.
fn freed_by(freed: StorageFate, step: Step, view: &View) -> StorageFate {
    let deletes = view.is(Content::Delete) || planted::is("retain-forgotten");
    let frees = deletes && view.is(Retaining::None);
    match step {
        Step::UndoDeleteGroup if frees => StorageFate::Intended,
        Step::UndoDeleteContent if frees && view.is(Marked::Yes) => StorageFate::Intended,
        Step::UndoFreeImport => StorageFate::Intended,
        Step::UndoFree => StorageFate::Unknown,
        // The outcome of the delete was never recorded.
        _ if freed == StorageFate::Intended => StorageFate::Unknown,
        _ => freed,
    }
}

fn ended(run: &mut GroupRun, step: Step, outcomes: &[Outcome], record: &Timed) -> Result<(), IllegalEvent> {
    if run.open_intent.take() != Some(step) {
        return Err(out_of_place(run, &record.event));
    }
    let failure = outcomes.iter().enumerate().find_map(|(index, outcome)| match outcome {
        Outcome::Done { .. } => None,
        Outcome::Determinate { code, message } => Some((index, format!("{code} {message}"))),
        Outcome::Indeterminate { message } => Some((index, message.clone())),
    });
    if run.freed == StorageFate::Intended {
        let met = !outcomes.is_empty() && outcomes.iter().all(is_held);
        run.freed = if met { StorageFate::Settled } else { StorageFate::Unknown };
        run.taken_along |= met && step == Step::UndoDeleteGroup;
    }
    match failure {
        Some((index, error)) => {
            let refused = outcomes.iter().any(is_refusal);
            run.tries.failures += 1;
            run.tries.refused += u32::from(refused);
            run.tries.lost += u32::from(!refused);
            run.tries.error = Some(limits::clip(&error));
            run.tries.failed = run.marks.get(index).copied();
            run.tries.failing_since.get_or_insert(record.at);
        }
        None => {
            (run.tries.failures, run.tries.refused, run.tries.error) = (0, 0, None);
            (run.tries.failed, run.tries.failing_since) = (None, None);
        }
    }
    run.marks = Arc::default();
    run.tries.last = Some(record.at);
    if run.stage == Stage::Unwinding {
        run.undone_at = record.at;
    }
    if run.stage == Stage::Releasing && step != Step::RestoreNames {
        run.released_at = record.at;
    }
    if run.group_uid.is_none() {
        run.group_uid = uid_answered(run.stage, step, outcomes);
    }
    // Without a create there is no content. The create need not be repeated, because a known object exists to
    // delete.
    if step == Step::UndoDeleteContent && run.create == CreateFate::Unknown {
        run.create = CreateFate::Happened;
    }
    // A create that was intended only once, and refused permanently, certainly left no object behind.
    if step == Step::Create
        && run.tries.intents == 1
        && matches!(outcomes, [Outcome::Determinate { code, .. }] if is_permanent(*code))
    {
        run.create = CreateFate::Refused;
    }
    Ok(())
}

/// The uid of the run's VolumeGroupSnapshot, from the answer to a create, or to a step of a rollback on the
/// group.
///
/// SUBTLE: without the uid from the create, storage leaks.
/// 1. Another client deletes the group right after its creation, before Stillpoint has observed it.
/// 2. The group is created again under its name.
/// 3. A controller whose cache has the first group cuts that one.
/// 4. The content of the cut names an unknown uid and is treated as foreign.
///
/// SUBTLE: without the uid from the rollback, the rollback never ends.
/// 1. The process is killed between the intent and the create.
/// 2. The next incarnation has to roll back (a PVC changed). The result of the create is unknown, and the
///    create is repeated.
/// 3. Its group is deleted again.
/// 4. No object exists, the result is still unknown, and the create is repeated, for ever and without a
///    pause, because no step follows itself.
fn uid_answered(stage: Stage, step: Step, outcomes: &[Outcome]) -> Option<Uid> {
    let undone = matches!(step, Step::Claim | Step::UndoCreate | Step::UndoDeleteGroup);
    let about_the_group = step == Step::Create || (stage == Stage::Unwinding && undone);
    match outcomes {
        [Outcome::Done { uid, .. }] if about_the_group && !uid.is_empty() => Some(Uid(uid.clone())),
        _ => None,
    }
}

/// The API server answered a delete with the object: a finalizer blocks the deletion until its component has
/// removed it. For an object that is missing or deleted at once, the answer has no version.
fn is_held(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done { resource_version, .. } if !resource_version.is_empty())
}

/// The API server refused the call. 429 (too many requests) is not a refusal.
fn is_refusal(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Determinate { code, .. } if *code != 429)
}

/// Refusals of a create that a retry does not change. 409 and 429 are not among them.
fn is_permanent(code: u16) -> bool {
    planted::is("refused-504") && code == 504 || matches!(code, 400 | 401 | 403 | 404 | 405 | 413 | 415 | 422)
}

fn receipt_part(
    run: &mut GroupRun,
    first: u16,
    members: &[ReceiptMember],
    record: &Timed,
) -> Result<(), IllegalEvent> {
    if run.stage != Stage::Created && !is_untouched(run) {
        return Err(out_of_place(run, &record.event));
    }
    if first == 0 {
        run.parts.clear();
    }
    if usize::from(first) != run.parts.len() {
        return Err(IllegalEvent::Receipt(format!(
            "a part begins at {first} after {} members",
            run.parts.len()
        )));
    }
    run.parts.extend_from_slice(members);
    Ok(())
}

fn reached(
    run: &mut GroupRun,
    milestone: Milestone,
    facts: &Evidence,
    record: &Timed,
) -> Result<(), IllegalEvent> {
    use Milestone as M;
    let allowed = match milestone {
        M::Created => run.stage == Stage::Planned,
        M::Cut | M::VsBound => run.stage == Stage::Created,
        M::Relabelled => run.stage == Stage::VSBound,
        M::Retained => run.stage == Stage::Relabelled,
        M::Cleaned => run.stage == Stage::Releasing,
        M::Completed => run.stage == Stage::Cleaned,
        M::Unwinding => run.stage <= Stage::Retained,
        M::Retried => run.stage == Stage::Unwinding,
        M::Failed => matches!(run.stage, Stage::Unwinding | Stage::Abandoned),
        M::Stuck => !run.stage.is_final(),
    };
    if !allowed {
        return Err(out_of_place(run, &record.event));
    }
    // Refusals counted before the run got stuck stay counted. Only an operator request resets them.
    if milestone != M::Stuck {
        run.tries = RetryState::default();
    }
    run.open_intent = None;
    match (milestone, facts) {
        (M::Created, Evidence::Created { uid }) => {
            run.group_uid = Some(uid.clone());
            run.stage = Stage::Created;
        }
        (M::Cut, Evidence::Cut { group_handle }) => run.cut = Some((group_handle.clone(), record.at)),
        (M::VsBound, Evidence::Receipt(head)) => close_receipt(run, head)?,
        (M::Relabelled, Evidence::Nothing) => run.stage = Stage::Relabelled,
        (M::Retained, Evidence::Nothing) => run.stage = Stage::Retained,
        (M::Cleaned, Evidence::Rebuilt(rebuilt)) => cleaned(run, rebuilt)?,
        (M::Completed, Evidence::Nothing) => run.stage = Stage::Completed,
        (M::Failed, Evidence::Nothing) => {
            if run.stage == Stage::Abandoned && run.given_up.is_some() {
                run.reason = run.given_up.take();
            }
            run.stage = Stage::Failed;
        }
        (M::Retried, Evidence::Nothing) => retry(run, record.at),
        (M::Unwinding, Evidence::Reason(reason)) => {
            run.reason = Some(reason.clone());
            run.stage = Stage::Unwinding;
            run.undone_at = record.at;
        }
        (M::Stuck, Evidence::Reason(reason)) => {
            if run.stage == Stage::Abandoned && run.given_up.is_none() {
                run.given_up = run.reason.take();
            }
            run.reason = Some(reason.clone());
        }
        _ => return Err(out_of_place(run, &record.event)),
    }
    run.timeline.push(TimelineEntry { milestone, at: record.at, attempt: run.attempt });
    Ok(())
}

/// Applies an operator request. The table decides what follows from the resulting state. Only a run that is
/// to end as it is ends here.
fn answered(run: &mut GroupRun, asked: &OperatorRequest, record: &Timed) -> Result<(), IllegalEvent> {
    if run.stage.is_final() {
        return Err(out_of_place(run, &record.event));
    }
    let was = run.state_name();
    // An earlier intent of a create is not forgotten: a refusal of the next create proves nothing about the
    // first.
    let intents = run.tries.intents.min(1);
    run.tries = RetryState { step: run.tries.step, intents, ..RetryState::default() };
    (run.stuck, run.open_intent) = (None, None);
    match asked.ask {
        Ask::Resume => {}
        Ask::Abandon => abandoned(run, asked, record.at),
        Ask::Keep => kept(run, asked, record.at),
    }
    run.answered = Some(Answered { asked: asked.clone(), at: record.at, was });
    Ok(())
}

/// Before the pivot the run is rolled back, without another attempt. After the pivot nothing may be deleted:
/// all objects in the receipt are kept. A run whose group objects are deleted already only writes its final
/// record.
fn abandoned(run: &mut GroupRun, asked: &OperatorRequest, at: Timestamp) {
    let reason = |code, what: &str| {
        let message = limits::clip(&format!("{} abandoned the run {what}", asked.by));
        Some(Reason { code, message, transient: false })
    };
    match run.stage {
        Stage::Releasing => {
            run.reason = reason(
                Code::AbandonedRetained,
                "after the pivot: the storage is retained, the receipt has every handle, nothing was deleted",
            );
            run.stage = Stage::Abandoned;
        }
        Stage::Abandoned | Stage::Cleaned | Stage::Completed | Stage::Failed => {}
        stage => {
            run.reason = reason(Code::Abandoned, "before the pivot: all of it is undone");
            if stage != Stage::Unwinding {
                (run.stage, run.undone_at) = (Stage::Unwinding, at);
                run.timeline.push(TimelineEntry {
                    milestone: Milestone::Unwinding,
                    at,
                    attempt: run.attempt,
                });
            }
        }
    }
}

/// Nothing more is deleted, in any stage. A run whose rollback is blocked or refused ends as well. If the
/// table cannot get all contents to Retain, the run waits for a second request and then ends as it is.
fn kept(run: &mut GroupRun, asked: &OperatorRequest, at: Timestamp) {
    let reason = |what: &str| {
        let message = limits::clip(&format!("{} ended the run {what}", asked.by));
        Some(Reason { code: Code::AbandonedRetained, message, transient: false })
    };
    match run.stage {
        Stage::Cleaned | Stage::Completed | Stage::Failed => {}
        Stage::Abandoned => {
            run.reason = reason(
                "as it is: a content that was not seen to retain its storage frees it when a client deletes it",
            );
            run.stage = Stage::Failed;
            run.timeline.push(TimelineEntry { milestone: Milestone::Failed, at, attempt: run.attempt });
        }
        stage => {
            run.reason = reason(match (stage, &run.receipt) {
                (Stage::Unwinding, _) => {
                    "in its undo: what had not been freed by then is retained, nothing more is deleted"
                }
                (_, Some(_)) => {
                    "with its storage retained: the receipt has every handle, nothing was deleted"
                }
                (_, None) => "before it had a receipt: what was cut is retained, nothing was deleted",
            });
            run.stage = Stage::Abandoned;
        }
    }
}

fn close_receipt(run: &mut GroupRun, head: &ReceiptHead) -> Result<(), IllegalEvent> {
    let members = std::mem::take(&mut run.parts);
    if members.len() != usize::from(head.members) || members.len() != run.plan.members.len() {
        let (found, planned) = (members.len(), run.plan.members.len());
        return Err(IllegalEvent::Receipt(format!(
            "{found} members of {} promised, {planned} planned",
            head.members
        )));
    }
    if Receipt::hash(&members) != head.hash {
        return Err(IllegalEvent::Receipt("its members have another hash".to_owned()));
    }
    run.receipt = Some(Arc::new(Receipt {
        group_handle: head.group_handle.clone(),
        group_snapshot: head.group_snapshot.clone(),
        group_content: head.group_content.clone(),
        driver: run.plan.driver.clone(),
        group_class: run.plan.group_class.clone(),
        secret: head.secret.clone(),
        members,
    }));
    run.stage = Stage::VSBound;
    Ok(())
}

/// Replaces the lost objects in the receipt with the rebuilt ones.
fn cleaned(run: &mut GroupRun, rebuilt: &[RebuiltMember]) -> Result<(), IllegalEvent> {
    if !rebuilt.is_sorted_by(|one, next| one.index < next.index) {
        return Err(IllegalEvent::Receipt("its rebuilt members are not in the plan's order".to_owned()));
    }
    for RebuiltMember { index, snapshot, content } in rebuilt {
        let members = run.receipt.as_mut().map(|receipt| &mut Arc::make_mut(receipt).members);
        let Some(member) = members.and_then(|members| members.get_mut(usize::from(*index))) else {
            return Err(IllegalEvent::Receipt(format!("it has no member {index} that was rebuilt")));
        };
        (member.snapshot, member.content) = (snapshot.clone(), content.clone());
    }
    run.stage = Stage::Cleaned;
    Ok(())
}

/// Whether the journal has neither a decision nor an effect of the run.
fn is_untouched(run: &GroupRun) -> bool {
    run.stage == Stage::Planned && run.create == CreateFate::Untried && run.timeline.is_empty()
}

/// Only a uid proves that a create left an object. A reconstructed run without a uid has no group object, and
/// must never create one.
fn reconstructed(run: &mut GroupRun, found: &Reconstructed, record: &Timed) -> Result<(), IllegalEvent> {
    if run.stage == Stage::Completed && found.standing == Standing::Released {
        released_again(run, record.at);
        return Ok(());
    }
    if !is_untouched(run) {
        return Err(out_of_place(run, &record.event));
    }
    (run.attempt, run.attempt_at, run.released_at) = (found.attempt, record.at, record.at);
    (run.group_uid, run.create) = (found.group_uid.clone(), CreateFate::Refused);
    if let Some(head) = &found.receipt {
        close_receipt(run, head)?;
        run.cut = Some((head.group_handle.clone(), record.at));
    }
    let message = "the journal that knew this run was lost before every member carried its receipt";
    let reason = Reason { code: Code::JournalLost, message: message.to_owned(), transient: false };
    run.stage = match found.standing {
        Standing::Bound | Standing::Released if run.receipt.is_none() => {
            return Err(IllegalEvent::Receipt("it goes on without one".to_owned()));
        }
        Standing::Bound => Stage::VSBound,
        Standing::Released => Stage::Releasing,
        Standing::Completed => Stage::Completed,
        Standing::Undo | Standing::Failed => {
            (run.reason, run.undone_at) = (Some(reason), record.at);
            if found.standing == Standing::Undo { Stage::Unwinding } else { Stage::Failed }
        }
    };
    Ok(())
}

/// The cluster state went back in time and has group objects of the completed run again. Its members are
/// released once more.
fn released_again(run: &mut GroupRun, at: Timestamp) {
    (run.tries, run.open_intent, run.stuck) = (RetryState::default(), None, None);
    (run.stage, run.released_at) = (Stage::Releasing, at);
}

fn retry(run: &mut GroupRun, at: Timestamp) {
    let (timeline, reason) = (std::mem::take(&mut run.timeline), run.reason.take());
    let (attempt, answered) = (run.attempt + 1, run.answered.take());
    *run = GroupRun { attempt, timeline, reason, answered, ..GroupRun::new(run.plan.clone(), at) };
}

fn out_of_place(run: &GroupRun, event: &Event) -> IllegalEvent {
    IllegalEvent::OutOfPlace { stage: run.stage, event: name(event) }
}

fn name(event: &Event) -> String {
    match event {
        Event::Planned(_) => "planned".to_owned(),
        Event::Intended { step, .. } => format!("intent to {}", step.name()),
        Event::StepCompleted { step, .. } => format!("outcome of {}", step.name()),
        Event::ReceiptPart { first, .. } => format!("receipt part {first}"),
        Event::Reconstructed(found) => format!("reconstructed as {}", found.standing.name()),
        Event::MilestoneReached { milestone, .. } => milestone.name().to_owned(),
        Event::RequestReceived(asked) => format!("request to {}", asked.ask.name()),
    }
}
