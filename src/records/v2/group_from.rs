//! Converts kinds 1 and 5 in version 2 to the machine's events, and back.

use super::super::v1::ordinals::Ordinal;
use super::group::{Facts, Planned, Reached, RebuiltMember};
use crate::domain::atomicity::Demand;
use crate::domain::ids::Uid;
use crate::domain::plan::Plan;
use crate::domain::time::Millis;
use crate::machine::group::Event;
use crate::machine::group::Milestone;
use crate::machine::group::event;
use crate::machine::kit;
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
    pub fn new(grounds: &kit::DecisionRecord, reached: &event::Reached) -> Result<Self, WireError> {
        let milestone = kit::Reached::milestone(reached).number();
        Ok(Self { grounds: grounds.try_into()?, milestone, facts: reached.into() })
    }
}

impl TryFrom<Reached> for Event {
    type Error = WireError;

    fn try_from(Reached { grounds, milestone, facts }: Reached) -> Result<Self, WireError> {
        let reached = reached(Milestone::of(milestone)?, facts)?;
        Ok(Self::MilestoneReached { grounds: grounds.try_into()?, reached })
    }
}

impl From<&event::Reached> for Facts {
    fn from(reached: &event::Reached) -> Self {
        use event::Reached as R;
        match reached {
            R::Created { uid } => Self::Created { uid: uid.0.clone() },
            R::Cut { group_handle } => Self::Cut { group_handle: group_handle.clone() },
            R::VsBound(head) => Self::Receipt(Box::new((&**head).into())),
            R::Unwinding(reason) | R::Stuck(reason) => Self::Reason(reason.into()),
            R::Cleaned(members) => Self::Rebuilt(members.iter().map(RebuiltMember::from).collect()),
            R::Relabelled | R::Retained | R::Completed | R::Retried | R::Failed => Self::Nothing,
        }
    }
}

/// A milestone with its evidence.
///
/// # Errors
/// The evidence belongs to another milestone: no release writes that.
fn reached(milestone: Milestone, facts: Facts) -> Result<event::Reached, WireError> {
    use event::Reached as R;
    Ok(match (milestone, facts) {
        (Milestone::Created, Facts::Created { uid }) => R::Created { uid: Uid(uid) },
        (Milestone::Cut, Facts::Cut { group_handle }) => R::Cut { group_handle },
        (Milestone::VsBound, Facts::Receipt(head)) => R::VsBound(Box::new((*head).into())),
        (Milestone::Relabelled, Facts::Nothing) => R::Relabelled,
        (Milestone::Retained, Facts::Nothing) => R::Retained,
        (Milestone::Cleaned, Facts::Rebuilt(members)) => {
            R::Cleaned(members.into_iter().map(Into::into).collect())
        }
        (Milestone::Completed, Facts::Nothing) => R::Completed,
        (Milestone::Unwinding, Facts::Reason(reason)) => R::Unwinding(reason.try_into()?),
        (Milestone::Retried, Facts::Nothing) => R::Retried,
        (Milestone::Failed, Facts::Nothing) => R::Failed,
        (Milestone::Stuck, Facts::Reason(reason)) => R::Stuck(reason.try_into()?),
        (milestone, _) => return Err(WireError::Evidence { milestone: milestone.name() }),
    })
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
