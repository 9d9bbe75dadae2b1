//! Converts payloads of a group stream to the machine's events, and back.

use uuid::Uuid;

use super::columns;
use super::group::{
    Ended, Grounds, Intended, Mark, Outcome, Planned, PlannedMember, Reason, ReceiptHead, ReceiptMember,
    ReceiptPart,
};
use super::ordinals::Ordinal;
use crate::domain::atomicity::Demand;
use crate::domain::ids::{StreamId, Uid};
use crate::domain::plan::{self, Plan};
use crate::domain::problem::Code;
use crate::domain::receipt::{self, SecretRef};
use crate::domain::time::{Millis, Timestamp};
use crate::machine::group::Event;
use crate::machine::group::Step;
use crate::machine::group::effect;
use crate::machine::group::effect::EffectKind;
use crate::machine::group::event;
use crate::machine::kit::{self, View};
use crate::records::WireError;

impl From<&Plan> for Planned {
    fn from(plan: &Plan) -> Self {
        Self {
            run: plan.run.0.into_bytes(),
            backup: (&plan.backup).into(),
            namespace: plan.namespace.clone(),
            label_key: plan.label_key.clone(),
            group: plan.group.clone(),
            members: plan.members.iter().map(PlannedMember::from).collect(),
            driver: plan.driver.clone(),
            group_class: plan.group_class.clone(),
            snapshot_class: plan.snapshot_class.clone(),
            selector: plan.selector.clone().into_iter().collect(),
            keep_group_name: plan.keep_group_name,
            max_attempts: plan.max_attempts,
            cut_timeout_ms: plan.cut_timeout.0,
            ready_timeout_ms: plan.ready_timeout.0,
            planned_at_ns: plan.planned_at.0,
            warnings: plan.warnings.clone(),
        }
    }
}

impl From<Planned> for Plan {
    fn from(wire: Planned) -> Self {
        Self {
            run: StreamId(Uuid::from_bytes(wire.run)),
            backup: wire.backup.into(),
            namespace: wire.namespace,
            label_key: wire.label_key,
            group: wire.group,
            members: wire.members.into_iter().map(Into::into).collect(),
            driver: wire.driver,
            group_class: wire.group_class,
            class: None,
            snapshot_class: wire.snapshot_class,
            selector: wire.selector.into_iter().collect(),
            keep_group_name: wire.keep_group_name,
            max_attempts: wire.max_attempts,
            cut_timeout: Millis(wire.cut_timeout_ms),
            ready_timeout: Millis(wire.ready_timeout_ms),
            atomicity: Demand::UNRECORDED,
            planned_at: Timestamp(wire.planned_at_ns),
            warnings: wire.warnings,
        }
    }
}

impl From<&plan::PlannedMember> for PlannedMember {
    fn from(member: &plan::PlannedMember) -> Self {
        Self {
            claim: member.claim.clone(),
            claim_uid: member.claim_uid.0.clone(),
            volume: member.volume.clone(),
            volume_handle: member.volume_handle.clone(),
        }
    }
}

impl From<PlannedMember> for plan::PlannedMember {
    fn from(PlannedMember { claim, claim_uid, volume, volume_handle }: PlannedMember) -> Self {
        Self { claim, claim_uid: Uid(claim_uid), volume, volume_handle, spec: None }
    }
}

impl Intended {
    /// From the fields of the machine's event.
    ///
    /// # Errors
    /// The view has another shape than the machine's.
    pub fn new(
        grounds: &kit::DecisionRecord,
        step: Step,
        marks: &[effect::EffectRef],
    ) -> Result<Self, WireError> {
        let mark = |mark: &effect::EffectRef| Mark { kind: mark.kind.number(), member: mark.member };
        let marks = marks.iter().map(mark).collect();
        Ok(Self { grounds: grounds.try_into()?, step: step.number(), marks })
    }
}

impl TryFrom<Intended> for Event {
    type Error = WireError;

    fn try_from(wire: Intended) -> Result<Self, WireError> {
        let mark =
            |mark: Mark| Ok(effect::EffectRef { kind: EffectKind::of(mark.kind)?, member: mark.member });
        Ok(Self::Intended {
            grounds: wire.grounds.try_into()?,
            step: Step::of(wire.step)?,
            marks: wire.marks.into_iter().map(mark).collect::<Result<_, WireError>>()?,
        })
    }
}

impl Ended {
    /// From the fields of the machine's event.
    pub fn new(step: Step, outcomes: &[kit::Outcome]) -> Self {
        Self { step: step.number(), outcomes: outcomes.iter().map(Outcome::from).collect() }
    }
}

impl TryFrom<Ended> for Event {
    type Error = WireError;

    fn try_from(wire: Ended) -> Result<Self, WireError> {
        let outcomes = wire.outcomes.into_iter().map(Into::into).collect();
        Ok(Self::StepCompleted { step: Step::of(wire.step)?, outcomes })
    }
}

impl ReceiptPart {
    /// From the fields of the machine's event.
    pub fn new(part: &event::ReceiptPart) -> Self {
        Self { first: part.first, members: part.members.iter().map(ReceiptMember::from).collect() }
    }
}

impl From<ReceiptPart> for Event {
    fn from(wire: ReceiptPart) -> Self {
        Self::Part(event::ReceiptPart {
            first: wire.first,
            members: wire.members.into_iter().map(Into::into).collect(),
        })
    }
}

impl TryFrom<&kit::DecisionRecord> for Grounds {
    type Error = WireError;

    fn try_from(grounds: &kit::DecisionRecord) -> Result<Self, WireError> {
        Ok(Self {
            row: grounds.row.clone(),
            rules: grounds.rules,
            seen: columns::encode(&grounds.view)?,
            members: grounds.view.members.clone(),
            error_since_ns: grounds.view.error_since.map(|since| since.0),
        })
    }
}

impl TryFrom<Grounds> for kit::DecisionRecord {
    type Error = WireError;

    fn try_from(wire: Grounds) -> Result<Self, WireError> {
        let seen = columns::decode(&wire.seen)?;
        let error_since = wire.error_since_ns.map(Timestamp);
        let view = View { seen, members: wire.members, error_since };
        Ok(Self { row: wire.row, rules: wire.rules, view })
    }
}

impl From<&kit::Outcome> for Outcome {
    fn from(outcome: &kit::Outcome) -> Self {
        match outcome.clone() {
            kit::Outcome::Done { uid, resource_version } => Self::Done { uid, resource_version },
            kit::Outcome::Determinate { code, message } => Self::Determinate { code, message },
            kit::Outcome::Indeterminate { message } => Self::Indeterminate { message },
        }
    }
}

impl From<Outcome> for kit::Outcome {
    fn from(wire: Outcome) -> Self {
        match wire {
            Outcome::Done { uid, resource_version } => Self::Done { uid, resource_version },
            Outcome::Determinate { code, message } => Self::Determinate { code, message },
            Outcome::Indeterminate { message } => Self::Indeterminate { message },
        }
    }
}

impl From<&receipt::ReceiptMember> for ReceiptMember {
    fn from(member: &receipt::ReceiptMember) -> Self {
        Self {
            claim: member.claim.clone(),
            volume_handle: member.volume_handle.clone(),
            snapshot_handle: member.snapshot_handle.clone(),
            snapshot: (&member.snapshot).into(),
            content: (&member.content).into(),
            created_at_ns: member.created_at.map(|at| at.0),
            restore_size: member.restore_size,
            volume_mode: member.volume_mode.clone(),
        }
    }
}

impl From<ReceiptMember> for receipt::ReceiptMember {
    fn from(wire: ReceiptMember) -> Self {
        Self {
            claim: wire.claim,
            volume_handle: wire.volume_handle,
            snapshot_handle: wire.snapshot_handle,
            snapshot: wire.snapshot.into(),
            content: wire.content.into(),
            created_at: wire.created_at_ns.map(Timestamp),
            restore_size: wire.restore_size,
            volume_mode: wire.volume_mode,
        }
    }
}

impl From<&kit::Reason> for Reason {
    fn from(reason: &kit::Reason) -> Self {
        let kit::Reason { code, ref message, transient } = *reason;
        Self { code: code.number(), message: message.clone(), transient }
    }
}

impl TryFrom<Reason> for kit::Reason {
    type Error = WireError;

    fn try_from(Reason { code, message, transient }: Reason) -> Result<Self, WireError> {
        Ok(Self { code: Code::of(code)?, message, transient })
    }
}

impl From<&event::ReceiptHead> for ReceiptHead {
    fn from(head: &event::ReceiptHead) -> Self {
        Self {
            group_handle: head.group_handle.clone(),
            group_snapshot: (&head.group_snapshot).into(),
            group_content: (&head.group_content).into(),
            secret: head.secret.clone().map(|secret| (secret.namespace, secret.name)),
            members: head.members,
            hash: head.hash,
        }
    }
}

impl From<ReceiptHead> for event::ReceiptHead {
    fn from(wire: ReceiptHead) -> Self {
        Self {
            group_handle: wire.group_handle,
            group_snapshot: wire.group_snapshot.into(),
            group_content: wire.group_content.into(),
            secret: wire.secret.map(|(namespace, name)| SecretRef { namespace, name }),
            members: wire.members,
            hash: wire.hash,
            provenance: None,
        }
    }
}
