//! The plan of one group run: everything that is settled before the first effect. It is what `Planned` records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::atomicity::Demand;
use crate::domain::ids::{StreamId, Uid};
use crate::domain::limits;
use crate::domain::names;
use crate::domain::time::{Millis, Timestamp};

/// The Backup that asked for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRef {
    /// Namespace of the Backup: Stillpoint's own.
    pub namespace: String,
    /// Name of the Backup.
    pub name: String,
    /// Uid of the Backup.
    pub uid: Uid,
}

/// One PersistentVolumeClaim of the group with its volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMember {
    /// Name of the claim.
    pub claim: String,
    /// Uid of the claim.
    pub claim_uid: Uid,
    /// Name of the PersistentVolume.
    pub volume: String,
    /// CSI volume handle. Members are matched by it, never by a name.
    pub volume_handle: String,
}

/// What one run is going to do, and with which objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The run: id of its journal stream.
    pub run: StreamId,
    /// Who asked.
    pub backup: BackupRef,
    /// Namespace of the claims.
    pub namespace: String,
    /// Label key that groups the claims.
    pub label_key: String,
    /// Label value: the name of the group.
    pub group: String,
    /// Members, in the order of their claims' names.
    pub members: Vec<PlannedMember>,
    /// CSI driver of all members.
    pub driver: String,
    /// VolumeGroupSnapshotClass of the cut.
    pub group_class: String,
    /// VolumeSnapshotClass that the release writes into the members.
    pub snapshot_class: String,
    /// `matchLabels` of the VolumeGroupSnapshot. Never empty: the controller takes every claim for an empty one.
    pub selector: BTreeMap<String, String>,
    /// Put the name of the group back into the released members (for Velero).
    pub keep_group_name: bool,
    /// Attempts, at most.
    pub max_attempts: u32,
    /// `csiSnapshotTimeout`: until the cut.
    pub cut_timeout: Millis,
    /// `itemOperationTimeout`: until all members are ready.
    pub ready_timeout: Millis,
    /// How far apart the members may be cut, and what follows if they are.
    #[serde(default = "unrecorded", skip_serializing_if = "Demand::is_unrecorded")]
    pub atomicity: Demand,
    /// When it was planned.
    pub planned_at: Timestamp,
    /// What the operator should know although the group goes on.
    pub warnings: Vec<String>,
}

fn unrecorded() -> Demand {
    Demand::UNRECORDED
}

impl Plan {
    /// Name of the VolumeGroupSnapshot of this attempt.
    pub fn group_snapshot_name(&self, attempt: u32) -> String {
        names::group_snapshot(&self.group, self.run, attempt)
    }

    /// Time until all members are ready, predicted from the controller's default rate limit.
    pub fn predicted(&self) -> Millis {
        Millis(limits::PREDICTED_PER_MEMBER.0 * self.members.len() as u64)
    }
}
