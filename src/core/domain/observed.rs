//! Defines the objects of one run as they were read from the cluster, in Stillpoint's own types.
//!
//! `cluster` converts objects of the API into these types. `machine::group::matching` matches them to
//! members, by volume handles and uids.

use std::collections::BTreeMap;

use crate::domain::ids::{ObjectId, Uid};
use crate::domain::time::Timestamp;

/// Labels or annotations; `None` if the object has no such map (a JSON patch must distinguish the two).
pub type Entries = Option<BTreeMap<String, String>>;

/// Effect of deleting a content on its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The storage is freed.
    Delete,
    /// The storage stays.
    Retain,
}

/// An owner reference of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Group and version; only the group is compared.
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: Uid,
    /// `controller`, if set.
    pub controller: Option<bool>,
    /// `blockOwnerDeletion`, if set.
    pub block_owner_deletion: Option<bool>,
}

impl Owner {
    /// Whether this owner is the VolumeGroupSnapshot with that uid, in any version of its API.
    pub fn is_group(&self, uid: &Uid) -> bool {
        self.is_any_group() && self.uid == *uid
    }

    /// Whether this owner is a VolumeGroupSnapshot, in any version of its API.
    pub fn is_any_group(&self) -> bool {
        let group = self.api_version.split('/').next().unwrap_or_default();
        group == crate::domain::labels::GROUP_SNAPSHOT_API && self.kind == "VolumeGroupSnapshot"
    }
}

/// A VolumeGroupSnapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSnapshotSeen {
    pub id: ObjectId,
    pub resource_version: String,
    /// Value of the run label.
    pub run: Option<String>,
    /// Epoch in the annotation; `None` if the annotation is missing or not a number.
    pub epoch: Option<u64>,
    /// Journal in the label.
    pub journal: Option<String>,
    /// Name of the bound content.
    pub bound_content: Option<String>,
    pub ready: bool,
    pub terminating: bool,
    /// Whether it carries the bound-protection finalizer.
    pub protected: bool,
    pub finalizers: Vec<String>,
    /// `status.error.message`.
    pub error: Option<String>,
}

/// One entry of `status.volumeSnapshotInfoList` of a VolumeGroupSnapshotContent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutSeen {
    /// CSI volume handle.
    pub volume_handle: String,
    /// CSI snapshot handle.
    pub snapshot_handle: String,
    pub created_at: Option<Timestamp>,
    /// In bytes.
    pub restore_size: Option<i64>,
}

/// A VolumeGroupSnapshotContent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupContentSeen {
    pub id: ObjectId,
    pub resource_version: String,
    /// Uid of the VolumeGroupSnapshot that the content names.
    pub group_uid: Option<Uid>,
    pub policy: DeletionPolicy,
    /// Frozen volume handles; empty for a pre-provisioned content.
    pub volume_handles: Vec<String>,
    /// CSI group snapshot handle.
    pub group_handle: Option<String>,
    /// Creation time that the driver reported.
    pub created_at: Option<Timestamp>,
    /// Report of the driver per volume; empty if read as v1beta1.
    pub cuts: Vec<CutSeen>,
    /// `status.error.message`.
    pub error: Option<String>,
    pub terminating: bool,
    /// Whether it carries the bound-protection finalizer.
    pub protected: bool,
    pub finalizers: Vec<String>,
    /// Whether it has the being-deleted annotation. Without it the sidecar never removes its finalizer.
    pub marked_deleted: bool,
    /// Namespace and name of the Secret for the deletion, from the annotations.
    pub secret: Option<(String, String)>,
    pub labels: Entries,
    pub annotations: Entries,
}

/// A VolumeSnapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSeen {
    pub id: ObjectId,
    pub resource_version: String,
    /// Name of the PVC. It is empty or missing in rare cases, and therefore never used for matching.
    pub claim: Option<String>,
    /// Name of the bound content.
    pub bound_content: Option<String>,
    /// `status.readyToUse`.
    pub ready: bool,
    /// `status.volumeGroupSnapshotName`.
    pub group_name: Option<String>,
    /// `status.error.message`.
    pub error: Option<String>,
    /// `spec.volumeSnapshotClassName`.
    pub class: Option<String>,
    pub owners: Vec<Owner>,
    pub finalizers: Vec<String>,
    pub terminating: bool,
    pub labels: Entries,
    pub annotations: Entries,
    /// `status.creationTime`.
    pub created_at: Option<Timestamp>,
}

/// A VolumeSnapshotContent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentSeen {
    pub id: ObjectId,
    pub resource_version: String,
    pub policy: DeletionPolicy,
    /// CSI volume handle; only of a dynamically provisioned content.
    pub volume_handle: Option<String>,
    /// CSI snapshot handle, from the status, else from the source.
    pub snapshot_handle: Option<String>,
    /// CSI group handle, from the status, else from the annotation.
    pub group_handle: Option<String>,
    /// Namespace of the VolumeSnapshot that the content names.
    pub snapshot_namespace: String,
    /// Name of the VolumeSnapshot that the content names.
    pub snapshot_name: String,
    /// Uid of the VolumeSnapshot that the content names.
    pub snapshot_uid: Option<Uid>,
    /// `status.readyToUse`.
    pub ready: bool,
    pub created_at: Option<Timestamp>,
    /// In bytes.
    pub restore_size: Option<i64>,
    /// `Filesystem` or `Block`.
    pub volume_mode: Option<String>,
    /// `status.error.message`.
    pub error: Option<String>,
    pub finalizers: Vec<String>,
    pub terminating: bool,
    pub labels: Entries,
    pub annotations: Entries,
}

/// A PersistentVolumeClaim of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimSeen {
    pub id: ObjectId,
    /// Name of its PersistentVolume.
    pub volume: Option<String>,
    pub terminating: bool,
}

/// The namespace of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamespaceSeen {
    pub terminating: bool,
    /// Finalizers of metadata and spec.
    pub finalizers: Vec<String>,
}

/// A PersistentVolumeClaim with a member as data source that is not bound yet. It blocks the deletion of the
/// group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreSeen {
    /// The PVC.
    pub claim: ObjectId,
    /// Name of the VolumeSnapshot that is its data source.
    pub snapshot: String,
}

/// A volume that the group froze and that the plan does not contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnplannedVolume {
    /// CSI volume handle.
    pub volume_handle: String,
    /// Name of the PVC that its PersistentVolume is bound to, if known.
    pub claim: Option<String>,
}

/// All objects that were read for one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// Epoch of the daemon that observes.
    pub epoch: u64,
    /// Id of the journal of that daemon, which its objects carry; `None` if no binding is used.
    pub journal: Option<String>,
    /// Uid of the cluster; `None` if no binding is used.
    pub cluster: Option<String>,
    /// Whether a newer epoch has claimed the run's VolumeGroupSnapshot (deleted ones included) or its Backup.
    pub overtaken: bool,
    /// Whether every object was read from the API server after Stillpoint's last write, instead of from a
    /// cache.
    pub fresh: bool,
    /// The object with the name of this attempt's VolumeGroupSnapshot.
    pub group: Option<GroupSnapshotSeen>,
    /// The VolumeGroupSnapshotContent that names it.
    pub content: Option<GroupContentSeen>,
    /// The stub content of the run, if it exists.
    pub stub: Option<ObjectId>,
    /// The import of the run's cut. Only read for a rollback that needs one.
    pub import: Option<GroupContentSeen>,
    /// Whether a content of another owner names a handle of the run's receipt. Only read for a rollback.
    pub taken: bool,
    /// VolumeSnapshots that may belong to the run: named by one of `contents`, owned by the group, naming the
    /// group, or with a name that the run computes.
    pub snapshots: Vec<SnapshotSeen>,
    /// VolumeSnapshotContents that may belong to the run: of a planned volume, or with a name that the run
    /// computes.
    pub contents: Vec<ContentSeen>,
    /// The PVCs of the plan that exist.
    pub claims: Vec<ClaimSeen>,
    /// Whether the VolumeSnapshotClass of the release exists.
    pub class_exists: bool,
    pub group_class_missing: bool,
    /// When this incarnation of the daemon first observed the driver's present error.
    pub error_since: Option<Timestamp>,
    /// The namespace of the plan; `None` if it is deleted. From the caches.
    pub namespace: Option<NamespaceSeen>,
    /// PVCs with a member as data source that are not bound yet. From the caches.
    pub restores: Vec<RestoreSeen>,
    /// Volumes that the group froze and the plan does not contain. From the caches.
    pub unplanned: Vec<UnplannedVolume>,
    /// When this incarnation of the daemon first observed the present number of existing and ready members.
    pub progress_since: Option<Timestamp>,
}

/// Names and handles, from plan and journal, of the objects to read for one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Value of the run label.
    pub run: String,
    /// Uid of the Backup of the run.
    pub backup: Uid,
    /// Namespace of the PVCs.
    pub namespace: String,
    /// Name of the VolumeGroupSnapshot of the current attempt.
    pub group_name: String,
    /// Uid of the VolumeGroupSnapshot, if known.
    pub group_uid: Option<Uid>,
    /// Name of the VolumeGroupSnapshotContent, if recorded.
    pub group_content: Option<String>,
    pub stub: String,
    /// Name of the import; only during a rollback.
    pub import: Option<String>,
    /// CSI handles of the group and its members from the receipt; only during a rollback.
    pub handles: Vec<String>,
    pub group_class: String,
    /// VolumeSnapshotClass that the release sets.
    pub snapshot_class: String,
    /// The members in the plan's order.
    pub members: Vec<ScopeMember>,
    /// Whether snapshots and contents have the run label already. Their names are then in the receipt and do
    /// not change.
    pub labelled: bool,
}

/// One member of a [`Scope`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeMember {
    /// Name of the PVC.
    pub claim: String,
    /// CSI volume handle.
    pub volume_handle: String,
    /// Recorded name of the VolumeSnapshot.
    pub snapshot: Option<String>,
    /// Recorded uid of the VolumeSnapshot.
    pub snapshot_uid: Option<Uid>,
    /// Recorded name of the VolumeSnapshotContent.
    pub content: Option<String>,
    /// Name of VolumeSnapshot and VolumeSnapshotContent if they are rebuilt.
    pub rebuilt: String,
}
