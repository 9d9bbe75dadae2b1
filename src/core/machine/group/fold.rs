//! Defines how the records of a group change its run. The kit folds what all machines have in common.

use std::sync::Arc;

use crate::domain::ids::Uid;
use crate::domain::limits;
use crate::domain::problem::Code;
use crate::domain::receipt::Receipt;
use crate::domain::time::Timestamp;
use crate::machine::group::columns::{Content, Marked, Retaining, Space};
use crate::machine::group::event::{Milestone, Reached, RebuiltMember, ReceiptHead, ReceiptPart, Step};
use crate::machine::group::reconstruct::{Reconstructed, Standing};
use crate::machine::group::state::{CreateFate, GroupRun, Stage, StorageFate};
use crate::machine::kit::{
    Ask, IllegalEvent, OperatorRequest, Outcome, Reason, RetryState, Stage as _, View,
};

pub(super) fn intended(run: &mut GroupRun, step: Step, view: &View) {
    match step {
        Step::Create | Step::UndoCreate if run.state.create == CreateFate::Untried => {
            run.state.create = CreateFate::Unknown
        }
        // The pivot: after this record the run only goes forward.
        Step::ClearNames if run.stage == Stage::Retained => run.stage = Stage::Releasing,
        _ => {}
    }
    run.state.freed = freed_by(run.state.freed, step, view);
}

/// The fate of the storage once a step of a rollback is intended. A delete of group or content frees the
/// storage only if all contents are under Delete and the group's content is not yet being deleted. If it is,
/// the csi-snapshotter may have read its policy earlier.
fn freed_by(freed: StorageFate, step: Step, view: &View) -> StorageFate {
    let frees = view.is(Content::Delete) && view.is(Retaining::None);
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

pub(super) fn completed(run: &mut GroupRun, step: Step, outcomes: &[Outcome], at: Timestamp) {
    if run.state.freed == StorageFate::Intended {
        let met = !outcomes.is_empty() && outcomes.iter().all(is_held);
        run.state.freed = if met { StorageFate::Settled } else { StorageFate::Unknown };
        run.state.taken_along |= met && step == Step::UndoDeleteGroup;
    }
    if run.stage == Stage::Unwinding {
        run.state.undone_at = at;
    }
    if run.stage == Stage::Releasing && step != Step::RestoreNames {
        run.state.released_at = at;
    }
    if run.state.group_uid.is_none() {
        run.state.group_uid = uid_answered(run.stage, step, outcomes);
    }
    // Without a create there is no content. The create need not be repeated, because a known object exists to
    // delete.
    if step == Step::UndoDeleteContent && run.state.create == CreateFate::Unknown {
        run.state.create = CreateFate::Happened;
    }
    // A create that was intended only once, and refused permanently, certainly left no object behind.
    if step == Step::Create
        && run.tries.intents == 1
        && matches!(outcomes, [Outcome::Determinate { code, .. }] if is_permanent(*code))
    {
        run.state.create = CreateFate::Refused;
    }
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

/// Refusals of a create that a retry does not change. 409 and 429 are not among them.
fn is_permanent(code: u16) -> bool {
    matches!(code, 400 | 401 | 403 | 404 | 405 | 413 | 415 | 422)
}

pub(super) fn receipt_part(run: &mut GroupRun, part: &ReceiptPart) -> Result<(), IllegalEvent> {
    if run.stage != Stage::Created && !is_untouched(run) {
        return Err(IllegalEvent::out_of_place(run, part_name(part)));
    }
    if part.first == 0 {
        run.state.parts.clear();
    }
    if usize::from(part.first) != run.state.parts.len() {
        return Err(IllegalEvent::Receipt(format!(
            "a part begins at {} after {} members",
            part.first,
            run.state.parts.len()
        )));
    }
    run.state.parts.extend_from_slice(&part.members);
    Ok(())
}

pub(super) fn part_name(part: &ReceiptPart) -> String {
    format!("receipt part {}", part.first)
}

pub(super) fn reconstructed_name(found: &Reconstructed) -> String {
    format!("reconstructed as {}", found.standing.name())
}

pub(super) fn allows(run: &GroupRun, milestone: Milestone) -> bool {
    use Milestone as M;
    match milestone {
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
    }
}

pub(super) fn reached(
    run: &mut GroupRun,
    reached: &Reached,
    view: &View,
    at: Timestamp,
) -> Result<(), IllegalEvent> {
    match reached {
        Reached::Created { uid } => {
            run.state.group_uid = Some(uid.clone());
            run.stage = Stage::Created;
        }
        Reached::Cut { group_handle } => run.state.cut = Some((group_handle.clone(), at)),
        Reached::VsBound(head) => close_receipt(run, head)?,
        Reached::Relabelled => run.stage = Stage::Relabelled,
        Reached::Retained => run.stage = Stage::Retained,
        Reached::Cleaned(rebuilt) => {
            cleaned(run, rebuilt)?;
            run.state.space_went |= !view.is(Space::Stands);
        }
        Reached::Completed => run.stage = Stage::Completed,
        Reached::Failed => {
            if run.stage == Stage::Abandoned && run.state.given_up.is_some() {
                run.reason = run.state.given_up.take();
            }
            run.stage = Stage::Failed;
        }
        Reached::Retried => run.begin_next_attempt(at),
        Reached::Unwinding(reason) => {
            run.reason = Some(reason.clone());
            run.stage = Stage::Unwinding;
            run.state.undone_at = at;
        }
        Reached::Stuck(reason) => {
            if run.stage == Stage::Abandoned && run.state.given_up.is_none() {
                run.state.given_up = run.reason.take();
            }
            run.reason = Some(reason.clone());
        }
    }
    Ok(())
}

/// Only a run that is to end as it is ends here.
pub(super) fn requested(run: &mut GroupRun, request: &OperatorRequest, at: Timestamp) {
    match request.ask {
        Ask::Resume => {}
        Ask::Abandon => abandoned(run, request, at),
        Ask::Keep => kept(run, request, at),
    }
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
                (run.stage, run.state.undone_at) = (Stage::Unwinding, at);
                run.note(Milestone::Unwinding, at);
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
            run.note(Milestone::Failed, at);
        }
        stage => {
            run.reason = reason(match (stage, &run.state.receipt) {
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
    let members = std::mem::take(&mut run.state.parts);
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
    run.state.receipt = Some(Arc::new(Receipt {
        group_handle: head.group_handle.clone(),
        group_snapshot: head.group_snapshot.clone(),
        group_content: head.group_content.clone(),
        driver: run.plan.driver.clone(),
        group_class: run.plan.group_class.clone(),
        secret: head.secret.clone(),
        members,
        provenance: head.provenance.clone(),
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
        let members = run.state.receipt.as_mut().map(|receipt| &mut Arc::make_mut(receipt).members);
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
    run.stage == Stage::Planned && run.state.create == CreateFate::Untried && run.timeline.is_empty()
}

/// Only a uid proves that a create left an object. A reconstructed run without a uid has no group object, and
/// must never create one.
pub(super) fn reconstructed(
    run: &mut GroupRun,
    found: &Reconstructed,
    at: Timestamp,
) -> Result<(), IllegalEvent> {
    if run.stage == Stage::Completed && found.standing == Standing::Released {
        released_again(run, at);
        return Ok(());
    }
    if !is_untouched(run) {
        return Err(IllegalEvent::out_of_place(run, reconstructed_name(found)));
    }
    (run.attempt, run.attempt_at, run.state.released_at) = (found.attempt, at, at);
    (run.state.group_uid, run.state.create) = (found.group_uid.clone(), CreateFate::Refused);
    if let Some(head) = &found.receipt {
        close_receipt(run, head)?;
        run.state.cut = Some((head.group_handle.clone(), at));
    }
    let message = "the journal that knew this run was lost before every member carried its receipt";
    let reason = Reason { code: Code::JournalLost, message: message.to_owned(), transient: false };
    run.stage = match found.standing {
        Standing::Bound | Standing::Released if run.state.receipt.is_none() => {
            return Err(IllegalEvent::Receipt("it goes on without one".to_owned()));
        }
        Standing::Bound => Stage::VSBound,
        Standing::Released => Stage::Releasing,
        Standing::Completed => Stage::Completed,
        Standing::Undo | Standing::Failed => {
            (run.reason, run.state.undone_at) = (Some(reason), at);
            if found.standing == Standing::Undo { Stage::Unwinding } else { Stage::Failed }
        }
    };
    Ok(())
}

/// The cluster state went back in time and has group objects of the completed run again. Its members are
/// released once more.
fn released_again(run: &mut GroupRun, at: Timestamp) {
    (run.tries, run.open_intent, run.stuck) = (RetryState::default(), None, None);
    (run.stage, run.state.released_at) = (Stage::Releasing, at);
}
