//! Builds the records of a milestone: evidence, reason, receipt.

use crate::domain::ids::ObjectId;
use crate::domain::limits;
use crate::domain::observed::{GroupContentSeen, Observation};
use crate::domain::problem::Code;
use crate::domain::receipt::{Provenance, Receipt, ReceiptMember, SecretRef};
use crate::machine::group::GroupMachine;
use crate::machine::group::event::{Milestone, Reached, RebuiltMember, ReceiptHead, ReceiptPart};
use crate::machine::group::matching::{self, own_content, own_group};
use crate::machine::group::state::GroupRun;
use crate::machine::group::waiting;
use crate::machine::kit::{self, Action, MissingEvidence, Reason, Row};

/// Builds a milestone with its evidence, and the parts of the receipt that precede it.
pub(super) fn evidence(
    run: &GroupRun,
    observation: &Observation,
    milestone: Milestone,
) -> Result<(Vec<ReceiptPart>, Reached), MissingEvidence> {
    let lacks = |missing| MissingEvidence { milestone: milestone.name(), missing };
    let reached = match milestone {
        Milestone::Created => {
            let group = own_group(run, observation).ok_or(lacks("a VolumeGroupSnapshot"))?;
            Reached::Created { uid: group.id.uid.clone() }
        }
        Milestone::Cut => {
            let handle = own_content(run, observation).and_then(|content| content.group_handle.clone());
            Reached::Cut { group_handle: handle.ok_or(lacks("a group handle"))? }
        }
        Milestone::VsBound => {
            let (head, members) = receipt(run, observation)?;
            let parts = members.chunks(limits::RECEIPT_PART_MEMBERS).enumerate().map(|(part, members)| {
                let first = (part * limits::RECEIPT_PART_MEMBERS) as u16;
                ReceiptPart { first, members: members.to_vec() }
            });
            return Ok((parts.collect(), Reached::VsBound(Box::new(head))));
        }
        Milestone::Cleaned => Reached::Cleaned(rebuilt(run, observation)?),
        Milestone::Relabelled => Reached::Relabelled,
        Milestone::Retained => Reached::Retained,
        Milestone::Completed => Reached::Completed,
        Milestone::Retried => Reached::Retried,
        Milestone::Failed => Reached::Failed,
        Milestone::Unwinding | Milestone::Stuck => return Err(lacks("a reason")),
    };
    Ok((Vec::new(), reached))
}

/// The reason of a rollback or of a stuck run. The instruction for the operator of a stuck run is the row's
/// `advice`. It is not part of the record.
pub(super) fn reason(run: &GroupRun, observation: &Observation, row: &Row<GroupMachine>) -> Reason {
    match row.then {
        Action::Unwind { code, transient } => {
            Reason { code, message: message(run, observation, code, row.why), transient }
        }
        Action::Stick { code, .. } => {
            let message = limits::clip(&observed(run, observation, code, row.why));
            Reason { code, message, transient: false }
        }
        _ => Reason { code: Code::Internal, message: row.why.to_owned(), transient: false },
    }
}

/// Members whose recorded objects were lost, with the objects that replace them.
fn rebuilt(run: &GroupRun, observation: &Observation) -> Result<Vec<RebuiltMember>, MissingEvidence> {
    let lacks = |missing| MissingEvidence { milestone: "cleaned", missing };
    let stays = observation.namespace.as_ref().is_some_and(|namespace| !namespace.terminating);
    // A member that is deleted with its namespace may have only one of the two objects left.
    let whole = |member: &matching::Member<'_>| member.snapshot.is_some() && member.content.is_some();
    let rebuilt = matching::members(run, observation).into_iter();
    let rebuilt = rebuilt.filter(|member| member.rebuilt && (stays || whole(member)));
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
) -> Result<(ReceiptHead, Vec<ReceiptMember>), MissingEvidence> {
    let lacks = |missing| MissingEvidence { milestone: "vs-bound", missing };
    let group = own_group(run, observation).ok_or(lacks("a VolumeGroupSnapshot"))?;
    let content = own_content(run, observation).ok_or(lacks("a VolumeGroupSnapshotContent"))?;
    let members = matching::members(run, observation)
        .into_iter()
        .map(|member| {
            let planned = &run.plan.members[member.index];
            let snapshot = member.snapshot.ok_or(lacks("a VolumeSnapshot"))?;
            let own = member.content.ok_or(lacks("a VolumeSnapshotContent"))?;
            let cut = content.cuts.iter().find(|cut| cut.volume_handle == planned.volume_handle);
            Ok(ReceiptMember {
                claim: planned.claim.clone(),
                volume_handle: planned.volume_handle.clone(),
                snapshot_handle: matching::snapshot_handle(run, observation, member)
                    .ok_or(lacks("a snapshot handle"))?
                    .to_owned(),
                snapshot: snapshot.id.clone(),
                content: own.id.clone(),
                created_at: cut.and_then(|cut| cut.created_at).or(own.created_at).or(snapshot.created_at),
                restore_size: own.restore_size.or(cut.and_then(|cut| cut.restore_size)),
                volume_mode: own.volume_mode.clone(),
            })
        })
        .collect::<Result<Vec<_>, MissingEvidence>>()?;
    let head = ReceiptHead {
        group_handle: content.group_handle.clone().ok_or(lacks("a group handle"))?,
        group_snapshot: group.id.clone(),
        group_content: content.id.clone(),
        secret: content.secret.clone().map(|(namespace, name)| SecretRef { namespace, name }),
        members: members.len() as u16,
        hash: Receipt::hash(&members),
        provenance: Some(provenance(run, observation, &group.id, content)),
    };
    Ok((head, members))
}

/// Where and when the cut was made, as far as it is known.
fn provenance(
    run: &GroupRun,
    observation: &Observation,
    group: &ObjectId,
    content: &GroupContentSeen,
) -> Provenance {
    let class = run.plan.class.as_ref();
    let get_secret = class.and_then(|class| class.get_secret.as_ref());
    Provenance {
        class_uid: class.map(|class| class.uid.clone()),
        get_secret: get_secret.and_then(|secret| secret.resolved(group, &content.id.name)),
        created_at: content.created_at,
        journal: observation.journal.clone(),
        cluster: observation.cluster.clone(),
    }
}

/// Instruction for the operator of a stuck run.
pub fn advice(run: &GroupRun) -> Option<&'static str> {
    let stuck = run.stuck.as_deref()?;
    kit::table::row::<GroupMachine>(stuck).and_then(|row| match row.then {
        Action::Stick { advice, .. } => Some(advice),
        _ => None,
    })
}

/// Reason of a stuck run without the advice. Older releases wrote both into one text and truncated it.
pub fn reason_of<'a>(run: &GroupRun, message: &'a str) -> &'a str {
    let begins: Option<String> = advice(run).map(|advice| advice.chars().take(24).collect());
    let at = begins.and_then(|begins| message.find(&format!(": {begins}")));
    at.map_or(message, |at| &message[..at])
}

/// The observed state and the instruction for the user. The instruction is never truncated.
fn message(run: &GroupRun, observation: &Observation, code: Code, why: &str) -> String {
    let text = observed(run, observation, code, why);
    match way_out(code) {
        "" => limits::clip(&text),
        way_out => {
            let room = limits::MAX_TEXT_BYTES.saturating_sub(way_out.len() + 2);
            format!("{}; {way_out}", limits::clip_to(&text, room))
        }
    }
}

/// Observed and expected state, for users.
fn observed(run: &GroupRun, observation: &Observation, code: Code, why: &str) -> String {
    let name = format!("{}/{}", run.plan.namespace, run.group_name());
    match code {
        Code::MembersDiffer => format!("VolumeGroupSnapshot {name} {}", difference(run, observation)),
        Code::DriverCannot | Code::DriverFailed | Code::CutTimeout | Code::ReadyTimeout => {
            match (waiting::reported_error(run, observation), code) {
                (Some(error), _) => format!("VolumeGroupSnapshot {name}: {why}; {error}"),
                (None, Code::ReadyTimeout) => {
                    let members = waiting::unready_members(run, observation);
                    format!("VolumeGroupSnapshot {name}: {why}; {members}")
                }
                (None, _) => format!("VolumeGroupSnapshot {name}: {why}; no error was reported"),
            }
        }
        Code::NotAtomic => {
            let grade = run.atomicity().map(|grade| grade.message(run.plan.atomicity.max_skew));
            format!("VolumeGroupSnapshot {name}: {}", grade.as_deref().unwrap_or(why))
        }
        Code::Refused => {
            let step = run.tries.step.map_or("none", |step| step.name());
            match waiting::last_failure(run, observation) {
                Some(error) => {
                    format!("VolumeGroupSnapshot {name}: {why}; step {step}, last answer: {error}")
                }
                None => format!(
                    "VolumeGroupSnapshot {name}: {why}; step {step} was done {} times, and reverted by another client each time",
                    run.tries.intents
                ),
            }
        }
        Code::NamespaceMissing => format!("Namespace {}: {why}", run.plan.namespace),
        Code::GroupClass => {
            format!("VolumeGroupSnapshotClass {} of {name}: {why}", run.plan.group_class)
        }
        Code::PlanOutdated => {
            let gone = run.plan.members.iter().filter(|member| {
                !observation.claims.iter().any(|claim| claim.id.uid == member.claim_uid && !claim.terminating)
            });
            let gone: Vec<&str> = gone.map(|member| member.claim.as_str()).collect();
            format!("{why}: [{}] in namespace {}", gone.join(", "), run.plan.namespace)
        }
        _ => format!("VolumeGroupSnapshot {name}: {why}"),
    }
}

/// Volumes that were frozen and not planned, or planned and not frozen, with their PVCs.
fn difference(run: &GroupRun, observation: &Observation) -> String {
    let frozen = own_content(run, observation).map(|content| content.volume_handles.as_slice());
    let (frozen, planned) = (frozen.unwrap_or_default(), &run.plan.members);
    let volume = |claim: Option<&str>, handle: &str| match claim {
        Some(claim) => format!("PersistentVolumeClaim {claim} (volume {handle})"),
        None => format!("volume {handle} of an unknown PersistentVolumeClaim"),
    };
    let claim_of = |handle: &String| {
        let known = observation.unplanned.iter().find(|unplanned| unplanned.volume_handle == *handle);
        known.and_then(|unplanned| unplanned.claim.as_deref())
    };
    let added = frozen.iter().filter(|handle| !planned.iter().any(|member| member.volume_handle == **handle));
    let added: Vec<String> = added.map(|handle| volume(claim_of(handle), handle)).collect();
    let missing = planned.iter().filter(|member| !frozen.contains(&member.volume_handle));
    let missing: Vec<String> =
        missing.map(|member| volume(Some(&member.claim), &member.volume_handle)).collect();
    let part = |what: &str, volumes: Vec<String>| match volumes.is_empty() {
        true => String::new(),
        false => format!("; {what}: {}", limits::listed(volumes)),
    };
    let (was, were) = (frozen.len(), planned.len());
    let (added, missing) = (part("not planned", added), part("planned and not frozen", missing));
    format!("froze {was} volumes, planned were {were}{added}{missing}")
}

/// Instruction for the user of a group that is rolled back; empty if the reason needs none.
fn way_out(code: Code) -> &'static str {
    match code {
        Code::MembersDiffer => {
            "do not label or create claims of the group while a Backup begins, and run it again"
        }
        Code::DriverCannot => "use a driver with a group controller, or take the group label off the claims",
        Code::NotAtomic => {
            "use a driver that cuts a group at one moment and reports when, or run the daemon with a longer --max-skew \
             or without --require-atomic"
        }
        Code::DriverFailed => "fix the error that the driver reports and run the Backup again",
        Code::CutTimeout => {
            "look at the snapshot-controller and the driver, or raise spec.csiSnapshotTimeout"
        }
        Code::ReadyTimeout => {
            "see the logs of driver, csi-snapshotter and snapshot-controller (its rate limit, quotas, webhooks), or raise \
             spec.itemOperationTimeout"
        }
        Code::DeletedByOther => "find out who deletes objects labelled stillpoint.dev/run",
        Code::PlanOutdated => "run the Backup again",
        Code::GroupClass => "create the class again and run the Backup again",
        Code::ForeignObject => "delete the object of that name, or find out who made it",
        Code::Refused => {
            "compare Stillpoint's permissions with deploy/rbac.yaml, and see webhooks and policies"
        }
        _ => "",
    }
}
