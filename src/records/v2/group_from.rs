//! Converts kinds 1 and 5 in version 2 to the machine's events, and back.

use super::super::v1::ordinals::Ordinal;
use super::group::{Facts, Planned, Reached, RebuiltMember};
use crate::domain::atomicity::Demand;
use crate::domain::ids::Uid;
use crate::domain::plan::Plan;
use crate::domain::time::Millis;
use crate::machine::group::event;
use crate::machine::group::{Event, Milestone};
use crate::records::WireError;

impl From<&Plan> for Planned {
    fn from(plan: &Plan) -> Self {
        let Demand { max_skew, required } = plan.atomicity;
        Self { plan: plan.into(), max_skew_ms: max_skew.0, require_atomic: required }
    }
}

impl From<Planned> for Plan {
    fn from(wire: Planned) -> Self {
        let atomicity = Demand { max_skew: Millis(wire.max_skew_ms), required: wire.require_atomic };
        Self { atomicity, ..wire.plan.into() }
    }
}

impl Reached {
    /// From the fields of the machine's event.
    ///
    /// # Errors
    /// The view has another shape than the machine's.
    pub fn new(
        grounds: &event::DecisionRecord,
        milestone: Milestone,
        facts: &event::Evidence,
    ) -> Result<Self, WireError> {
        Ok(Self { grounds: grounds.try_into()?, milestone: milestone.number(), facts: facts.into() })
    }
}

impl TryFrom<Reached> for Event {
    type Error = WireError;

    fn try_from(wire: Reached) -> Result<Self, WireError> {
        Ok(Self::MilestoneReached {
            grounds: wire.grounds.try_into()?,
            milestone: Milestone::of(wire.milestone)?,
            facts: wire.facts.try_into()?,
        })
    }
}

impl From<&event::Evidence> for Facts {
    fn from(facts: &event::Evidence) -> Self {
        match facts {
            event::Evidence::Nothing => Self::Nothing,
            event::Evidence::Created { uid } => Self::Created { uid: uid.0.clone() },
            event::Evidence::Cut { group_handle } => Self::Cut { group_handle: group_handle.clone() },
            event::Evidence::Receipt(head) => Self::Receipt(Box::new((&**head).into())),
            event::Evidence::Reason(reason) => Self::Reason(reason.into()),
            event::Evidence::Rebuilt(members) => {
                Self::Rebuilt(members.iter().map(RebuiltMember::from).collect())
            }
        }
    }
}

impl TryFrom<Facts> for event::Evidence {
    type Error = WireError;

    fn try_from(wire: Facts) -> Result<Self, WireError> {
        Ok(match wire {
            Facts::Nothing => Self::Nothing,
            Facts::Created { uid } => Self::Created { uid: Uid(uid) },
            Facts::Cut { group_handle } => Self::Cut { group_handle },
            Facts::Receipt(head) => Self::Receipt(Box::new((*head).into())),
            Facts::Reason(reason) => Self::Reason(reason.try_into()?),
            Facts::Rebuilt(members) => Self::Rebuilt(members.into_iter().map(Into::into).collect()),
        })
    }
}

impl From<&event::RebuiltMember> for RebuiltMember {
    fn from(member: &event::RebuiltMember) -> Self {
        Self { index: member.index, snapshot: (&member.snapshot).into(), content: (&member.content).into() }
    }
}

impl From<RebuiltMember> for event::RebuiltMember {
    fn from(RebuiltMember { index, snapshot, content }: RebuiltMember) -> Self {
        Self { index, snapshot: snapshot.into(), content: content.into() }
    }
}
