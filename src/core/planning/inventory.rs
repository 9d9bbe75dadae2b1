//! What planning is given: the request of one Backup, and plain facts about the cluster at one time.
//!
//! All of it is data that somebody else read. Maps are ordered, absent maps are empty, absent strings are empty
//! where Kubernetes means the same by both.

use std::collections::BTreeMap;

use crate::domain::atomicity::Demand;
use crate::domain::ids::Uid;
use crate::domain::labels;
use crate::domain::plan::BackupRef;
use crate::domain::time::Millis;

/// What one Backup asks for, with every default already put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The Backup.
    pub backup: BackupRef,
    /// Label key that groups claims, see [`label_key`].
    pub label_key: String,
    /// The Backup itself names the key. A key that was asked for so and that no PVC carries fails the Backup.
    pub label_key_explicit: bool,
    /// Fields that are set and have no effect, one sentence each.
    pub warnings: Vec<String>,
    /// Names of the namespaces, each once. Empty, or `*` alone, means all of them.
    pub included_namespaces: Vec<String>,
    /// Annotations of the Backup; some choose a class.
    pub annotations: BTreeMap<String, String>,
    /// `csiSnapshotTimeout`: until the cut.
    pub cut_timeout: Millis,
    /// `itemOperationTimeout`: until all members are ready.
    pub ready_timeout: Millis,
    /// How far apart the members of a group may be cut, and what follows if they are.
    pub atomicity: Demand,
    /// Put the name of the group back into the released members (for Velero).
    pub keep_group_name: bool,
}

impl Request {
    /// Whether the request is for all namespaces: none named, or `*` alone, as `velero backup create` writes it.
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

/// The label key of a Backup: its spec, else the server's flag, else [`labels::DEFAULT_GROUP_KEY`]. An empty string
/// counts as absent (Velero, `backup_controller.go`).
pub fn label_key(spec: Option<&str>, flag: Option<&str>) -> String {
    let given = [spec, flag].into_iter().flatten().find(|key| !key.is_empty());
    given.unwrap_or(labels::DEFAULT_GROUP_KEY).to_owned()
}

/// What is known of the cluster. The order of the lists does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// Namespaces.
    pub namespaces: Vec<NamespaceInfo>,
    /// PersistentVolumeClaims of at least the included namespaces; others are ignored.
    pub claims: Vec<PvcInfo>,
    /// PersistentVolumes.
    pub volumes: Vec<PvInfo>,
    /// VolumeGroupSnapshotClasses.
    pub group_classes: Vec<GroupClassInfo>,
    /// VolumeSnapshotClasses.
    pub snapshot_classes: Vec<SnapshotClassInfo>,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Name.
    pub name: String,
    /// It is being deleted: nothing can be created in it.
    pub terminating: bool,
    /// It carries the label `velero.io/exclude-from-backup=true`.
    pub excluded: bool,
}

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PvcInfo {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: Uid,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `status.phase`: `Pending`, `Bound` or `Lost`.
    pub phase: String,
    /// `spec.volumeName`; empty while there is none.
    pub volume: String,
    /// It carries a deletion timestamp.
    pub terminating: bool,
    /// `spec.storageClassName`.
    pub storage_class: Option<String>,
}

impl PvcInfo {
    /// Whether it carries the label `velero.io/exclude-from-backup=true`.
    pub fn is_excluded(&self) -> bool {
        labels::is_excluded(&self.labels)
    }
}

/// A PersistentVolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PvInfo {
    /// Name.
    pub name: String,
    /// Its CSI source; `None` for a volume of another kind.
    pub csi: Option<CsiVolume>,
    /// The claim that it is bound to.
    pub claim: Option<ClaimRef>,
    /// `spec.storageClassName`.
    pub storage_class: Option<String>,
}

/// CSI source of a PersistentVolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsiVolume {
    /// Driver.
    pub driver: String,
    /// Volume handle.
    pub handle: String,
}

/// `spec.claimRef` of a PersistentVolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid; empty on a volume that was reserved for a claim and is not bound yet.
    pub uid: Uid,
}

/// A VolumeGroupSnapshotClass or VolumeSnapshotClass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassInfo {
    /// Name.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A VolumeGroupSnapshotClass.
pub type GroupClassInfo = ClassInfo;
/// A VolumeSnapshotClass.
pub type SnapshotClassInfo = ClassInfo;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_key_is_that_of_the_spec_then_of_the_flag_then_veleros() {
        let check = |spec, flag, expected: &str| assert_eq!(label_key(spec, flag), expected);
        check(Some("a/spec"), Some("a/flag"), "a/spec");
        check(None, Some("a/flag"), "a/flag");
        check(Some(""), Some("a/flag"), "a/flag");
        check(Some(""), Some(""), "velero.io/volume-group");
        check(None, None, "velero.io/volume-group");
    }
}
