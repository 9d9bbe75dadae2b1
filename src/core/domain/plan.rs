//! Defines the plan of one group run: all values that are fixed before the first effect. `Planned` records
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::atomicity::Demand;
use crate::domain::ids::{StreamId, Uid};
use crate::domain::limits;
use crate::domain::names;
use crate::domain::receipt::SecretRef;
use crate::domain::time::{Millis, Timestamp};

/// The Backup that requested a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRef {
    /// Namespace of the Backup: Stillpoint's own.
    pub namespace: String,
    pub name: String,
    pub uid: Uid,
}

/// One PersistentVolumeClaim of the group with its volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMember {
    /// Name of the PVC.
    pub claim: String,
    /// Uid of the PVC.
    pub claim_uid: Uid,
    /// Name of the PersistentVolume.
    pub volume: String,
    /// CSI volume handle. Members are matched by handle, never by name.
    pub volume_handle: String,
    /// What a restore needs to make the PVC again; `None` if it was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<ClaimSpec>,
}

/// A PersistentVolumeClaim as it was planned, for a restore.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClaimSpec {
    /// `spec.storageClassName`.
    pub storage_class: Option<String>,
    /// Requested storage, as a quantity of Kubernetes.
    pub requested: Option<String>,
    /// `spec.accessModes`.
    pub access_modes: Vec<String>,
    /// `spec.volumeMode`.
    pub volume_mode: Option<String>,
    /// Labels; empty if they did not fit into the record of the plan.
    pub labels: BTreeMap<String, String>,
}

/// A VolumeGroupSnapshotClass as it was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupClass {
    pub uid: Uid,
    /// Secret with which the driver reads a group, from the parameters. It may contain templates.
    pub get_secret: Option<SecretRef>,
}

/// Objects and parameters of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The run: id of its journal stream.
    pub run: StreamId,
    /// The Backup that requested the run.
    pub backup: BackupRef,
    /// Namespace of the PVCs.
    pub namespace: String,
    /// Label key that groups the PVCs.
    pub label_key: String,
    /// Label value: the name of the group.
    pub group: String,
    /// Members, sorted by the names of their PVCs.
    pub members: Vec<PlannedMember>,
    /// CSI driver of all members.
    pub driver: String,
    /// VolumeGroupSnapshotClass of the cut.
    pub group_class: String,
    /// That class; `None` if it was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<GroupClass>,
    /// VolumeSnapshotClass that the release sets on the members.
    pub snapshot_class: String,
    /// `matchLabels` of the VolumeGroupSnapshot. Never empty: for an empty selector the controller takes
    /// every PVC.
    pub selector: BTreeMap<String, String>,
    /// Whether the name of the group is restored on the released members (for Velero).
    pub keep_group_name: bool,
    pub max_attempts: u32,
    /// `csiSnapshotTimeout`: deadline of the cut.
    pub cut_timeout: Millis,
    /// `itemOperationTimeout`: deadline for all members to be ready.
    pub ready_timeout: Millis,
    /// Accepted skew of the members, and the consequence of a larger one.
    #[serde(default = "unrecorded", skip_serializing_if = "Demand::is_unrecorded")]
    pub atomicity: Demand,
    pub planned_at: Timestamp,
    /// Problems that the operator should know and that do not stop the group.
    pub warnings: Vec<String>,
}

/// The plan of a run of any machine, for a run that starts another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunPlan {
    Group(Arc<Plan>),
}

impl RunPlan {
    /// Stream of the run.
    pub fn stream(&self) -> StreamId {
        match self {
            Self::Group(plan) => plan.run,
        }
    }
}

impl std::fmt::Display for RunPlan {
    /// The run, for users.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group(plan) => write!(f, "group {}/{}", plan.namespace, plan.group),
        }
    }
}

fn unrecorded() -> Demand {
    Demand::UNRECORDED
}

impl Plan {
    /// Name of the VolumeGroupSnapshot of an attempt.
    pub fn group_snapshot_name(&self, attempt: u32) -> String {
        names::group_snapshot(&self.group, self.run, attempt)
    }

    /// Predicted time until all members are ready, at the controller's default rate limit.
    pub fn predicted(&self) -> Millis {
        Millis(limits::PREDICTED_PER_MEMBER.0 * self.members.len() as u64)
    }
}
