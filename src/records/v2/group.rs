//! Kinds 1 and 5 in version 2.

use bincode::{Decode, Encode};

use super::super::v1::common::Object;
use super::super::v1::group as v1;
use super::super::v1::group::{Grounds, Reason, ReceiptHead};

/// Kind 1: everything that is settled before the first effect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Planned {
    /// What version 1 says.
    pub plan: v1::Planned,
    /// How far apart the members may be cut, in milliseconds.
    pub max_skew_ms: u64,
    /// Whether a cut that is further apart is rolled back.
    pub require_atomic: bool,
}

/// Kind 5: something became true.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Reached {
    /// Why.
    pub grounds: Grounds,
    /// Milestone, by its number.
    pub milestone: u16,
    /// With which facts.
    pub facts: Facts,
}

/// What is recorded with a milestone.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Facts {
    /// Nothing.
    Nothing,
    /// Uid of the VolumeGroupSnapshot.
    Created {
        /// Uid.
        uid: String,
    },
    /// Group handle at the cut.
    Cut {
        /// Handle.
        group_handle: String,
    },
    /// The closing record of the receipt.
    Receipt(Box<ReceiptHead>),
    /// Why.
    Reason(Reason),
    /// The members that were rebuilt, in the order of the plan.
    Rebuilt(Vec<RebuiltMember>),
}

/// A member that stands under new objects since the old ones were lost.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RebuiltMember {
    /// Index in the plan.
    pub index: u16,
    /// VolumeSnapshot.
    pub snapshot: Object,
    /// VolumeSnapshotContent.
    pub content: Object,
}
