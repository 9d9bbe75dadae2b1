//! Defines kinds 1 and 5 in version 2.

use bincode::{Decode, Encode};

use super::super::v1::common::Object;
use super::super::v1::group as v1;
use super::super::v1::group::{Grounds, Reason, ReceiptHead};

/// Kind 1: everything that is fixed before the first effect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Planned {
    /// The content of version 1.
    pub plan: v1::Planned,
    /// Largest allowed difference between the cut times of the members, in milliseconds.
    pub max_skew_ms: u64,
    /// Whether a cut with a larger difference is rolled back.
    pub require_atomic: bool,
}

/// Kind 5: a milestone was reached.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Reached {
    /// The decision and its evidence.
    pub grounds: Grounds,
    /// Milestone, by its number.
    pub milestone: u16,
    /// Its evidence.
    pub facts: Facts,
}

/// The evidence that is recorded with a milestone.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Facts {
    Nothing,
    /// The VolumeGroupSnapshot was created.
    Created {
        /// Uid of the VolumeGroupSnapshot.
        uid: String,
    },
    /// Group handle at the cut.
    Cut {
        group_handle: String,
    },
    /// The closing record of the receipt.
    Receipt(Box<ReceiptHead>),
    Reason(Reason),
    /// The members that were rebuilt, in the order of the plan.
    Rebuilt(Vec<RebuiltMember>),
}

/// A member with new objects since the old ones were lost.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RebuiltMember {
    /// Index in the plan.
    pub index: u16,
    /// VolumeSnapshot.
    pub snapshot: Object,
    /// VolumeSnapshotContent.
    pub content: Object,
}
