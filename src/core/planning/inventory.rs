//! Defines the inputs of planning: the request of one Backup, and the inventory of the cluster at one time.
//!
//! Both are data that other modules have read. Maps are ordered. Absent maps are empty. Absent strings are
//! empty where Kubernetes treats both the same.

use std::collections::BTreeMap;

use crate::domain::atomicity::Demand;
use crate::domain::ids::Uid;
use crate::domain::labels;
use crate::domain::plan::{BackupRef, ClaimSpec};
use crate::domain::receipt::SecretRef;
use crate::domain::time::Millis;

/// The request of one Backup, with all defaults applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub backup: BackupRef,
    /// Label key that groups PVCs, see [`label_key`].
    pub label_key: String,
    /// Whether the Backup itself names the key. If no PVC has such a key, the Backup fails.
    pub label_key_explicit: bool,
    /// Fields that are set and have no effect, one text each.
    pub warnings: Vec<String>,
    /// Names of the namespaces, each once. Empty, or only `*`, means all namespaces.
    pub included_namespaces: Vec<String>,
    /// Annotations of the Backup. Some select a class.
    pub annotations: BTreeMap<String, String>,
    /// `csiSnapshotTimeout`: deadline of the cut.
    pub cut_timeout: Millis,
    /// `itemOperationTimeout`: deadline for all members to be ready.
    pub ready_timeout: Millis,
    /// Accepted skew of the members, and the consequence of a larger one.
    pub atomicity: Demand,
    /// Whether the name of the group is restored on the released members (for Velero).
    pub keep_group_name: bool,
}

impl Request {
    /// Whether the request is for all namespaces: none named, or only `*`, as `velero backup create` writes
    /// it.
    pub fn all_namespaces(&self) -> bool {
        match self.included_namespaces.as_slice() {
            [] => true,
            [only] => only == "*",
            _ => false,
        }
    }

    /// Whether the request is for this namespace.
    pub fn includes(&self, namespace: &str) -> bool {
        self.all_namespaces() || self.included_namespaces.iter().any(|name| name == namespace)
    }
}

/// The label key of a Backup: its spec, else the server's flag, else [`labels::DEFAULT_GROUP_KEY`]. An empty
/// string counts as absent (Velero, `backup_controller.go`).
pub fn label_key(spec: Option<&str>, flag: Option<&str>) -> String {
    let given = [spec, flag].into_iter().flatten().find(|key| !key.is_empty());
    given.unwrap_or(labels::DEFAULT_GROUP_KEY).to_owned()
}

/// Objects of the cluster. The order of the lists does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    pub namespaces: Vec<NamespaceInfo>,
    /// PersistentVolumeClaims of at least the included namespaces. Others are ignored.
    pub claims: Vec<PvcInfo>,
    pub volumes: Vec<PvInfo>,
    pub group_classes: Vec<GroupClassInfo>,
    pub snapshot_classes: Vec<SnapshotClassInfo>,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceInfo {
    pub name: String,
    /// Whether it is being deleted. Nothing can then be created in it.
    pub terminating: bool,
    /// Whether it has the label `velero.io/exclude-from-backup=true`.
    pub excluded: bool,
}

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PvcInfo {
    pub namespace: String,
    pub name: String,
    pub uid: Uid,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// `status.phase`: `Pending`, `Bound` or `Lost`.
    pub phase: String,
    /// `spec.volumeName`; empty if not set.
    pub volume: String,
    /// Whether it has a deletion timestamp.
    pub terminating: bool,
    /// `spec.storageClassName`.
    pub storage_class: Option<String>,
    /// `spec.resources.requests.storage`.
    pub requested: Option<String>,
    /// `spec.accessModes`.
    pub access_modes: Vec<String>,
    /// `spec.volumeMode`.
    pub volume_mode: Option<String>,
}

impl PvcInfo {
    /// What a restore needs to make it again.
    pub fn spec(&self) -> ClaimSpec {
        ClaimSpec {
            storage_class: self.storage_class.clone(),
            requested: self.requested.clone(),
            access_modes: self.access_modes.clone(),
            volume_mode: self.volume_mode.clone(),
            labels: self.labels.clone(),
        }
    }

    /// Whether it has the label `velero.io/exclude-from-backup=true`.
    pub fn is_excluded(&self) -> bool {
        labels::is_excluded(&self.labels)
    }
}

/// A PersistentVolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PvInfo {
    pub name: String,
    /// Its CSI source; `None` for a volume of another kind.
    pub csi: Option<CsiVolume>,
    /// The PVC that it is bound to.
    pub claim: Option<ClaimRef>,
    /// `spec.storageClassName`.
    pub storage_class: Option<String>,
}

/// CSI source of a PersistentVolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsiVolume {
    pub driver: String,
    pub handle: String,
}

/// `spec.claimRef` of a PersistentVolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRef {
    pub namespace: String,
    pub name: String,
    /// Uid; empty on a volume that is reserved for a PVC and not bound yet.
    pub uid: Uid,
}

/// A VolumeGroupSnapshotClass or VolumeSnapshotClass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassInfo {
    pub name: String,
    pub uid: Uid,
    pub driver: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Secret with which the driver reads a group, from the parameters of a VolumeGroupSnapshotClass.
    pub get_secret: Option<SecretRef>,
}

/// A VolumeGroupSnapshotClass.
pub type GroupClassInfo = ClassInfo;
/// A VolumeSnapshotClass.
pub type SnapshotClassInfo = ClassInfo;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_key_of_spec_precedes_flag_and_default() {
        let check = |spec, flag, expected: &str| assert_eq!(label_key(spec, flag), expected);
        check(Some("a/spec"), Some("a/flag"), "a/spec");
        check(None, Some("a/flag"), "a/flag");
        check(Some(""), Some("a/flag"), "a/flag");
        check(Some(""), Some(""), "velero.io/volume-group");
        check(None, None, "velero.io/volume-group");
    }
}
