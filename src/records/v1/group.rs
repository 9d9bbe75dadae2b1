//! Defines the payloads of a group stream.
//!
//! The enums here are encoded by the position of their variants: a new variant goes to the end of a new
//! version, never into these.

use bincode::{Decode, Encode};

use super::columns::Seen;
use super::common::{BackupRef, Object};

/// Kind 1: everything that is fixed before the first effect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Planned {
    pub run: [u8; 16],
    /// The Backup that requested the run.
    pub backup: BackupRef,
    /// Namespace of the PVCs.
    pub namespace: String,
    pub label_key: String,
    /// Label value.
    pub group: String,
    /// Members in the order of the names of their PVCs.
    pub members: Vec<PlannedMember>,
    /// CSI driver.
    pub driver: String,
    /// VolumeGroupSnapshotClass.
    pub group_class: String,
    /// VolumeSnapshotClass of the release.
    pub snapshot_class: String,
    /// `matchLabels`, in the order of keys.
    pub selector: Vec<(String, String)>,
    /// Whether to write the group's name back into the released members.
    pub keep_group_name: bool,
    /// Largest number of attempts.
    pub max_attempts: u32,
    /// `csiSnapshotTimeout` in milliseconds.
    pub cut_timeout_ms: u64,
    /// `itemOperationTimeout` in milliseconds.
    pub ready_timeout_ms: u64,
    /// When it was planned, in nanoseconds.
    pub planned_at_ns: i64,
    pub warnings: Vec<String>,
}

/// One PersistentVolumeClaim of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PlannedMember {
    /// Name of the PVC.
    pub claim: String,
    /// Uid of the PVC.
    pub claim_uid: String,
    /// Name of the PersistentVolume.
    pub volume: String,
    /// CSI volume handle.
    pub volume_handle: String,
}

/// Kind 2: a step is about to be performed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Intended {
    /// The decision and its evidence.
    pub grounds: Grounds,
    /// Step, by its number.
    pub step: u16,
    /// The missing effects.
    pub marks: Vec<Mark>,
}

/// Kind 3: a step was performed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ended {
    /// Step, by its number.
    pub step: u16,
    /// One outcome for each effect of the intent.
    pub outcomes: Vec<Outcome>,
}

/// Kind 4: members of the receipt.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReceiptPart {
    /// Index of the first one.
    pub first: u16,
    pub members: Vec<ReceiptMember>,
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

/// The decision, and the evidence for it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Grounds {
    /// Row of the recovery table.
    pub row: String,
    /// Version of the table.
    pub rules: u16,
    /// Columns.
    pub seen: Vec<Seen>,
    /// Flags of each member.
    pub members: Vec<u16>,
    /// Since when the driver's error has been observed, in nanoseconds.
    pub error_since_ns: Option<i64>,
}

/// One effect of an intent.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Mark {
    /// Kind of effect, by its number.
    pub kind: u16,
    /// Index of the member.
    pub member: Option<u16>,
}

/// How one effect ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It happened.
    Done {
        /// Uid in the answer; empty without one.
        uid: String,
        /// Version in the answer; empty without one.
        resource_version: String,
    },
    /// It certainly did not happen.
    Determinate {
        /// HTTP status.
        code: u16,
        /// Reason and message.
        message: String,
    },
    /// It may have happened.
    Indeterminate {
        /// The known details.
        message: String,
    },
}

/// One member of the receipt.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReceiptMember {
    /// Name of the PVC.
    pub claim: String,
    /// CSI volume handle.
    pub volume_handle: String,
    /// CSI snapshot handle.
    pub snapshot_handle: String,
    /// VolumeSnapshot.
    pub snapshot: Object,
    /// VolumeSnapshotContent.
    pub content: Object,
    /// Creation time in nanoseconds.
    pub created_at_ns: Option<i64>,
    /// Size in bytes.
    pub restore_size: Option<i64>,
    /// `Filesystem` or `Block`.
    pub volume_mode: Option<String>,
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
}

/// Everything of a receipt except the members.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReceiptHead {
    /// CSI group snapshot handle.
    pub group_handle: String,
    /// VolumeGroupSnapshot.
    pub group_snapshot: Object,
    /// VolumeGroupSnapshotContent.
    pub group_content: Object,
    /// Secret for the deletion: namespace and name.
    pub secret: Option<(String, String)>,
    /// Number of members.
    pub members: u16,
    /// Hash over the members.
    pub hash: [u8; 32],
}

/// Why a run is rolled back or stuck.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Reason {
    /// Code, by its number.
    pub code: u16,
    /// Observed and expected state.
    pub message: String,
    /// Whether another attempt may succeed.
    pub transient: bool,
}
