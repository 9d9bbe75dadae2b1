//! What was read back from the cluster about one run, in Stillpoint's own words.
//!
//! `cluster` turns objects of the API into these types; which of them belong to which member is decided by
//! `machine::group::matching`, from volume handles and uids.

use std::collections::BTreeMap;

use crate::domain::ids::{ObjectId, Uid};
use crate::domain::time::Timestamp;

/// Labels or annotations; `None` when the object has no such map (a JSON patch has to tell the two apart).
pub type Entries = Option<BTreeMap<String, String>>;

/// What happens to the storage when a content is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The storage is freed.
    Delete,
    /// The storage stays.
    Retain,
}

/// An owner reference, as it is written on the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Group and version; only the group is ever compared.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: Uid,
    /// `controller`, where it is set.
    pub controller: Option<bool>,
    /// `blockOwnerDeletion`, where it is set.
    pub block_owner_deletion: Option<bool>,
}

impl Owner {
    /// Whether this is the VolumeGroupSnapshot with that uid, in whatever version of its API.
    pub fn is_group(&self, uid: &Uid) -> bool {
        self.is_any_group() && self.uid == *uid
    }

    /// Whether this is a VolumeGroupSnapshot, in whatever version of its API.
    pub fn is_any_group(&self) -> bool {
        let group = self.api_version.split('/').next().unwrap_or_default();
        group == crate::domain::labels::GROUP_SNAPSHOT_API && self.kind == "VolumeGroupSnapshot"
    }
}

/// A VolumeGroupSnapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSnapshotSeen {
    /// Which.
    pub id: ObjectId,
    /// Its version.
    pub resource_version: String,
    /// Value of the run label.
    pub run: Option<String>,
    /// Epoch that claims it; `None` when the annotation is missing or no number.
    pub epoch: Option<u64>,
    /// Journal that it belongs to.
    pub journal: Option<String>,
    /// Name of the bound content.
    pub bound_content: Option<String>,
    /// `status.readyToUse`.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether it carries the bound-protection finalizer.
    pub protected: bool,
    /// Finalizers.
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
    /// Creation time.
    pub created_at: Option<Timestamp>,
    /// Size in bytes.
    pub restore_size: Option<i64>,
}

/// A VolumeGroupSnapshotContent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupContentSeen {
    /// Which.
    pub id: ObjectId,
    /// Its version.
    pub resource_version: String,
    /// Uid of the VolumeGroupSnapshot that it names.
    pub group_uid: Option<Uid>,
    /// Deletion policy.
    pub policy: DeletionPolicy,
    /// Frozen volume handles (empty for a pre-provisioned one).
    pub volume_handles: Vec<String>,
    /// CSI group snapshot handle.
    pub group_handle: Option<String>,
    /// What the driver reported per volume; empty when read as v1beta1.
    pub cuts: Vec<CutSeen>,
    /// `status.error.message`.
    pub error: Option<String>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether it carries the bound-protection finalizer.
    pub protected: bool,
    /// Finalizers.
    pub finalizers: Vec<String>,
    /// Whether it carries the being-deleted annotation, without which the sidecar never lets it go.
    pub marked_deleted: bool,
    /// Secret for the deletion (annotations), namespace and name.
    pub secret: Option<(String, String)>,
    /// Labels.
    pub labels: Entries,
    /// Annotations.
    pub annotations: Entries,
}

/// A VolumeSnapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSeen {
    /// Which.
    pub id: ObjectId,
    /// Its version.
    pub resource_version: String,
    /// Name of the claim; empty or missing in rare cases, so never used for matching.
    pub claim: Option<String>,
    /// Name of the content that it is bound to.
    pub bound_content: Option<String>,
    /// `status.readyToUse`.
    pub ready: bool,
    /// `status.volumeGroupSnapshotName`.
    pub group_name: Option<String>,
    /// `status.error.message`.
    pub error: Option<String>,
    /// `spec.volumeSnapshotClassName`.
    pub class: Option<String>,
    /// Owner references.
    pub owners: Vec<Owner>,
    /// Finalizers.
    pub finalizers: Vec<String>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Labels.
    pub labels: Entries,
    /// Annotations.
    pub annotations: Entries,
    /// `status.creationTime`.
    pub created_at: Option<Timestamp>,
}

/// A VolumeSnapshotContent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentSeen {
    /// Which.
    pub id: ObjectId,
    /// Its version.
    pub resource_version: String,
    /// Deletion policy.
    pub policy: DeletionPolicy,
    /// CSI volume handle (dynamic ones).
    pub volume_handle: Option<String>,
    /// CSI snapshot handle, from the status, else from the source.
    pub snapshot_handle: Option<String>,
    /// CSI group handle, from the status, else from the annotation.
    pub group_handle: Option<String>,
    /// Namespace of the VolumeSnapshot that it names.
    pub snapshot_namespace: String,
    /// Name of the VolumeSnapshot that it names.
    pub snapshot_name: String,
    /// Uid of the VolumeSnapshot that it names.
    pub snapshot_uid: Option<Uid>,
    /// `status.readyToUse`.
    pub ready: bool,
    /// Creation time.
    pub created_at: Option<Timestamp>,
    /// Size in bytes.
    pub restore_size: Option<i64>,
    /// `Filesystem` or `Block`.
    pub volume_mode: Option<String>,
    /// `status.error.message`.
    pub error: Option<String>,
    /// Finalizers.
    pub finalizers: Vec<String>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Labels.
    pub labels: Entries,
    /// Annotations.
    pub annotations: Entries,
}

/// A PersistentVolumeClaim of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimSeen {
    /// Which.
    pub id: ObjectId,
    /// Name of its volume.
    pub volume: Option<String>,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// The namespace of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamespaceSeen {
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Finalizers, those of the metadata and those of the spec.
    pub finalizers: Vec<String>,
}

/// A PersistentVolumeClaim that is made from a member and is not bound yet: it holds the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreSeen {
    /// Namespace and name of the claim.
    pub claim: ObjectId,
    /// Name of the VolumeSnapshot that it is made from.
    pub snapshot: String,
}

/// A volume that the group froze and that the plan does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnplannedVolume {
    /// CSI volume handle.
    pub volume_handle: String,
    /// Name of the claim that its PersistentVolume is bound to, where that is known.
    pub claim: Option<String>,
}

/// Everything that was read about one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// Epoch of the daemon that looks.
    pub epoch: u64,
    /// Id of the journal of the daemon that looks, which its objects carry; `None` where no binding is used.
    pub journal: Option<String>,
    /// Whether a newer epoch claimed the run's VolumeGroupSnapshot, also one that is gone by now, or its Backup.
    pub overtaken: bool,
    /// Whether every object was read from the API server itself after our last write, rather than from a cache.
    pub fresh: bool,
    /// The object under the name of this attempt's VolumeGroupSnapshot.
    pub group: Option<GroupSnapshotSeen>,
    /// The VolumeGroupSnapshotContent that names it.
    pub content: Option<GroupContentSeen>,
    /// Whether the stub content of the run exists.
    pub stub: Option<ObjectId>,
    /// The import of the run's cut, where an undo looks for one.
    pub import: Option<GroupContentSeen>,
    /// Whether a content that is not the run's names a handle of its receipt, where an undo looks for one.
    pub taken: bool,
    /// VolumeSnapshots that may belong to the run: named by one of `contents`, owned by the group, naming the group,
    /// or under a name that the run computes.
    pub snapshots: Vec<SnapshotSeen>,
    /// VolumeSnapshotContents that may belong to the run: of a planned volume, or under a name that the run computes.
    pub contents: Vec<ContentSeen>,
    /// The claims of the plan that exist.
    pub claims: Vec<ClaimSeen>,
    /// Whether the VolumeSnapshotClass of the release exists.
    pub class_exists: bool,
    /// Whether the VolumeGroupSnapshotClass does not exist.
    pub group_class_missing: bool,
    /// Since when, in this life of the daemon, the driver's present error has been seen.
    pub error_since: Option<Timestamp>,
    /// The namespace of the plan; `None` when it is gone. From the caches.
    pub namespace: Option<NamespaceSeen>,
    /// Claims that are made from members and are not bound yet. From the caches.
    pub restores: Vec<RestoreSeen>,
    /// Volumes that the group froze and the plan does not have. From the caches.
    pub unplanned: Vec<UnplannedVolume>,
    /// Since when, in this life of the daemon, as many members have existed and been ready as now.
    pub progress_since: Option<Timestamp>,
}

/// What to look for when one run is observed: names and handles from the plan and the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Value of the run label.
    pub run: String,
    /// Uid of the Backup that asks for it.
    pub backup: Uid,
    /// Namespace of the claims.
    pub namespace: String,
    /// Name of the VolumeGroupSnapshot of the present attempt.
    pub group_name: String,
    /// Uid of the VolumeGroupSnapshot, once it is known.
    pub group_uid: Option<Uid>,
    /// Name of the VolumeGroupSnapshotContent, once it is recorded.
    pub group_content: Option<String>,
    /// Name of the stub content.
    pub stub: String,
    /// Name of the import; of a run that is undone.
    pub import: Option<String>,
    /// CSI handles of the receipt, of the group and of its members; of a run that is undone.
    pub handles: Vec<String>,
    /// VolumeGroupSnapshotClass.
    pub group_class: String,
    /// VolumeSnapshotClass of the release.
    pub snapshot_class: String,
    /// The members in the plan's order.
    pub members: Vec<ScopeMember>,
    /// Whether snapshots and contents carry the run label already, so that their names are in the receipt and do not
    /// change any more.
    pub labelled: bool,
}

/// One member of a [`Scope`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeMember {
    /// Name of the claim.
    pub claim: String,
    /// CSI volume handle.
    pub volume_handle: String,
    /// Recorded name of the VolumeSnapshot.
    pub snapshot: Option<String>,
    /// Recorded uid of the VolumeSnapshot.
    pub snapshot_uid: Option<Uid>,
    /// Recorded name of the VolumeSnapshotContent.
    pub content: Option<String>,
    /// Name of VolumeSnapshot and VolumeSnapshotContent, should they be rebuilt.
    pub rebuilt: String,
}
