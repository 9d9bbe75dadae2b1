//! The records that go with a milestone: facts, reason, receipt.

use crate::domain::limits;
use crate::domain::observed::Observation;
use crate::domain::problem::Code;
use crate::domain::receipt::{Receipt, ReceiptMember, SecretRef};
use crate::machine::group::decide::Decision;
use crate::machine::group::event::{Event, Facts, Grounds, Milestone, Reason, RebuiltMember, ReceiptHead};
use crate::machine::group::own::{self, own_content, own_group};
use crate::machine::group::row::Action;
use crate::machine::group::state::GroupRun;
use crate::machine::group::table::RULES;
use crate::machine::group::view::View;

/// A milestone was decided on grounds that the observation does not have: a defect of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{milestone} was decided without {missing}")]
pub struct Groundless {
    milestone: &'static str,
    missing: &'static str,
}

/// The grounds of a decision, as they are recorded.
pub fn grounds(decision: &Decision, view: &View) -> Grounds {
    Grounds { row: decision.row.id.to_owned(), rules: RULES, view: view.clone() }
}

/// The records of a decision that advances, unwinds or sticks; nothing for any other.
pub fn advance(
    run: &GroupRun,
    observation: &Observation,
    view: &View,
    decision: &Decision,
) -> Result<Vec<Event>, Groundless> {
    let reached = |milestone, facts| Event::Reached { grounds: grounds(decision, view), milestone, facts };
    Ok(match decision.row.then {
        Action::Unwind { code, transient } => {
            let reason =
                Reason { code, message: message(run, observation, code, decision.row.why), transient };
            vec![reached(Milestone::Unwinding, Facts::Reason(reason))]
        }
        Action::Stick { code, advice } => {
            let text = format!("{}: {advice}", message(run, observation, code, decision.row.why));
            let reason = Reason { code, message: limits::clip(&text), transient: false };
            vec![reached(Milestone::Stuck, Facts::Reason(reason))]
        }
        Action::Advance(Milestone::Created) => {
            let group = own_group(run, observation);
            let group = group.ok_or(Groundless { milestone: "created", missing: "a VolumeGroupSnapshot" })?;
            vec![reached(Milestone::Created, Facts::Created { uid: group.id.uid.clone() })]
        }
        Action::Advance(Milestone::Cut) => {
            let handle = own_content(run, observation).and_then(|content| content.group_handle.clone());
            let group_handle = handle.ok_or(Groundless { milestone: "cut", missing: "a group handle" })?;
            vec![reached(Milestone::Cut, Facts::Cut { group_handle })]
        }
        Action::Advance(Milestone::VsBound) => {
            let (head, members) = receipt(run, observation)?;
            let parts = members.chunks(limits::RECEIPT_PART_MEMBERS).enumerate().map(|(part, members)| {
                let first = (part * limits::RECEIPT_PART_MEMBERS) as u16;
                Event::ReceiptPart { first, members: members.to_vec() }
            });
            parts.chain([reached(Milestone::VsBound, Facts::Receipt(Box::new(head)))]).collect()
        }
        Action::Advance(Milestone::Cleaned) => {
            vec![reached(Milestone::Cleaned, Facts::Rebuilt(rebuilt(run, observation)?))]
        }
        Action::Advance(milestone) => vec![reached(milestone, Facts::Nothing)],
        Action::Act(_) | Action::Look | Action::Wait(_) | Action::Yield | Action::Rest => Vec::new(),
    })
}

/// Members whose recorded objects were lost, with those that stand in their place.
fn rebuilt(run: &GroupRun, observation: &Observation) -> Result<Vec<RebuiltMember>, Groundless> {
    let lacks = |missing| Groundless { milestone: "cleaned", missing };
    let rebuilt = own::members(run, observation).into_iter().filter(|member| member.rebuilt);
    rebuilt
        .map(|member| {
            let snapshot = member.snapshot.ok_or(lacks("a rebuilt VolumeSnapshot"))?.id.clone();
            let content = member.content.ok_or(lacks("a rebuilt VolumeSnapshotContent"))?.id.clone();
            Ok(RebuiltMember { index: member.index as u16, snapshot, content })
        })
        .collect()
}

fn receipt(
    run: &GroupRun,
    observation: &Observation,
) -> Result<(ReceiptHead, Vec<ReceiptMember>), Groundless> {
    let lacks = |missing| Groundless { milestone: "vs-bound", missing };
    let group = own_group(run, observation).ok_or(lacks("a VolumeGroupSnapshot"))?;
    let content = own_content(run, observation).ok_or(lacks("a VolumeGroupSnapshotContent"))?;
    let members = own::members(run, observation)
        .into_iter()
        .map(|member| {
            let planned = &run.plan.members[member.index];
            let snapshot = member.snapshot.ok_or(lacks("a VolumeSnapshot"))?;
            let own = member.content.ok_or(lacks("a VolumeSnapshotContent"))?;
            let cut = content.cuts.iter().find(|cut| cut.volume_handle == planned.volume_handle);
            Ok(ReceiptMember {
                claim: planned.claim.clone(),
                volume_handle: planned.volume_handle.clone(),
                snapshot_handle: own::snapshot_handle(run, observation, member)
                    .ok_or(lacks("a snapshot handle"))?
                    .to_owned(),
                snapshot: snapshot.id.clone(),
                content: own.id.clone(),
                created_at: cut.and_then(|cut| cut.created_at).or(own.created_at).or(snapshot.created_at),
                restore_size: own.restore_size.or(cut.and_then(|cut| cut.restore_size)),
                volume_mode: own.volume_mode.clone(),
            })
        })
        .collect::<Result<Vec<_>, Groundless>>()?;
    let head = ReceiptHead {
        group_handle: content.group_handle.clone().ok_or(lacks("a group handle"))?,
        group_snapshot: group.id.clone(),
        group_content: content.id.clone(),
        secret: content.secret.clone().map(|(namespace, name)| SecretRef { namespace, name }),
        members: members.len() as u16,
        hash: Receipt::hash(&members),
    };
    Ok((head, members))
}

/// What was observed and what was expected, for people.
fn message(run: &GroupRun, observation: &Observation, code: Code, why: &str) -> String {
    let name = format!("{}/{}", run.plan.namespace, run.group_name());
    let content = own_content(run, observation);
    let text = match code {
        Code::MembersDiffer => {
            let frozen = content.map(|content| content.volume_handles.join(", ")).unwrap_or_default();
            let planned: Vec<&str> = run.plan.members.iter().map(|m| m.volume_handle.as_str()).collect();
            format!(
                "VolumeGroupSnapshot {name} froze volumes [{frozen}], planned were [{}]",
                planned.join(", ")
            )
        }
        Code::DriverCannot | Code::DriverFailed | Code::CutTimeout | Code::ReadyTimeout => {
            let error = content.and_then(|c| c.error.as_deref());
            let error = error.or_else(|| own_group(run, observation).and_then(|g| g.error.as_deref()));
            match (error, code) {
                (Some(error), _) => format!("VolumeGroupSnapshot {name}: {why}; last error: {error}"),
                (None, Code::ReadyTimeout) => {
                    format!("VolumeGroupSnapshot {name}: {why}; not ready: {}", unready(run, observation))
                }
                (None, _) => format!("VolumeGroupSnapshot {name}: {why}; no error was reported"),
            }
        }
        Code::Refused => {
            let error = run.tries.error.as_deref().unwrap_or("no error is recorded");
            format!("VolumeGroupSnapshot {name}: {why}; last answer: {error}")
        }
        Code::PlanOutdated => {
            let gone = run.plan.members.iter().filter(|member| {
                !observation.claims.iter().any(|claim| claim.id.uid == member.claim_uid && !claim.terminating)
            });
            let gone: Vec<&str> = gone.map(|member| member.claim.as_str()).collect();
            format!("{why}: [{}] in namespace {}", gone.join(", "), run.plan.namespace)
        }
        _ => format!("VolumeGroupSnapshot {name}: {why}"),
    };
    match way_out(code) {
        "" => limits::clip(&text),
        way_out => limits::clip(&format!("{text}; {way_out}")),
    }
}

/// What a person can do about a group that is undone; nothing where the reason says it all.
fn way_out(code: Code) -> &'static str {
    match code {
        Code::MembersDiffer => {
            "do not label or create claims of the group while a Backup begins, and run it again"
        }
        Code::DriverCannot => "use a driver with a group controller, or take the group label off the claims",
        Code::DriverFailed => "mend what the driver names and run the Backup again",
        Code::CutTimeout => {
            "look at the snapshot-controller and the driver, or raise spec.csiSnapshotTimeout"
        }
        Code::ReadyTimeout => {
            "look at the driver and the snapshot-controller's rate limit, or raise spec.itemOperationTimeout"
        }
        Code::DeletedByOther => "find out who deletes objects labelled stillpoint.dev/run",
        Code::PlanOutdated => "run the Backup again",
        Code::ForeignObject => "delete the object of that name, or find out who made it",
        Code::Refused => "check Stillpoint's rights and the admission webhooks",
        _ => "",
    }
}

fn unready(run: &GroupRun, observation: &Observation) -> String {
    let unready = own::members(run, observation).into_iter().filter(|m| !m.snapshot.is_some_and(|s| s.ready));
    unready.map(|m| run.plan.members[m.index].claim.clone()).collect::<Vec<_>>().join(", ")
}
