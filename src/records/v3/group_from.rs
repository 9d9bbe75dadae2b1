//! Converts kinds 1 and 5 in version 3 to the machine's events, and back.

use super::super::v2::group as v2;
use super::group::{ClaimSpec, GroupClass, Planned, Provenance, Reached, Secret};
use crate::domain::ids::Uid;
use crate::domain::plan::{self, Plan};
use crate::domain::receipt::{self, SecretRef};
use crate::domain::time::Timestamp;
use crate::machine::group::Event;
use crate::machine::group::event;
use crate::machine::kit;
use crate::records::WireError;

impl From<&Plan> for Planned {
    fn from(plan: &Plan) -> Self {
        Self {
            plan: plan.into(),
            class: plan.class.as_ref().map(GroupClass::from),
            claims: plan.members.iter().map(|member| member.spec.as_ref().map(ClaimSpec::from)).collect(),
        }
    }
}

impl From<Planned> for Plan {
    fn from(Planned { plan, class, claims }: Planned) -> Self {
        let mut plan = Self { class: class.map(Into::into), ..plan.into() };
        for (member, claim) in plan.members.iter_mut().zip(claims) {
            member.spec = claim.map(Into::into);
        }
        plan
    }
}

impl From<&plan::GroupClass> for GroupClass {
    fn from(class: &plan::GroupClass) -> Self {
        Self { uid: class.uid.0.clone(), get_secret: class.get_secret.as_ref().map(Secret::from) }
    }
}

impl From<GroupClass> for plan::GroupClass {
    fn from(GroupClass { uid, get_secret }: GroupClass) -> Self {
        Self { uid: Uid(uid), get_secret: get_secret.map(Into::into) }
    }
}

impl From<&SecretRef> for Secret {
    fn from(secret: &SecretRef) -> Self {
        Self { namespace: secret.namespace.clone(), name: secret.name.clone() }
    }
}

impl From<Secret> for SecretRef {
    fn from(Secret { namespace, name }: Secret) -> Self {
        Self { namespace, name }
    }
}

impl From<&plan::ClaimSpec> for ClaimSpec {
    fn from(claim: &plan::ClaimSpec) -> Self {
        let plan::ClaimSpec { storage_class, requested, access_modes, volume_mode, labels } = claim.clone();
        Self { storage_class, requested, access_modes, volume_mode, labels: labels.into_iter().collect() }
    }
}

impl From<ClaimSpec> for plan::ClaimSpec {
    fn from(claim: ClaimSpec) -> Self {
        let ClaimSpec { storage_class, requested, access_modes, volume_mode, labels } = claim;
        Self { storage_class, requested, access_modes, volume_mode, labels: labels.into_iter().collect() }
    }
}

impl Reached {
    /// From the fields of the machine's event.
    ///
    /// # Errors
    /// The view has another shape than the machine's.
    pub fn new(grounds: &kit::DecisionRecord, reached: &event::Reached) -> Result<Self, WireError> {
        let provenance = match reached {
            event::Reached::VsBound(head) => head.provenance.as_ref().map(Provenance::from),
            _ => None,
        };
        Ok(Self { reached: v2::Reached::new(grounds, reached)?, provenance })
    }
}

impl TryFrom<Reached> for Event {
    type Error = WireError;

    fn try_from(Reached { reached, provenance }: Reached) -> Result<Self, WireError> {
        let mut event = Self::try_from(reached)?;
        if let Self::MilestoneReached { reached: event::Reached::VsBound(head), .. } = &mut event {
            head.provenance = provenance.map(Into::into);
        }
        Ok(event)
    }
}

impl From<&receipt::Provenance> for Provenance {
    fn from(from: &receipt::Provenance) -> Self {
        Self {
            class_uid: from.class_uid.as_ref().map(|uid| uid.0.clone()),
            get_secret: from.get_secret.as_ref().map(Secret::from),
            created_at_ns: from.created_at.map(|at| at.0),
            journal: from.journal.clone(),
            cluster: from.cluster.clone(),
        }
    }
}

impl From<Provenance> for receipt::Provenance {
    fn from(wire: Provenance) -> Self {
        Self {
            class_uid: wire.class_uid.map(Uid),
            get_secret: wire.get_secret.map(Into::into),
            created_at: wire.created_at_ns.map(Timestamp),
            journal: wire.journal,
            cluster: wire.cluster,
        }
    }
}
