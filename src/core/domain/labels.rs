//! Names of labels, annotations and finalizers: Stillpoint's, Velero's, and those of the snapshot
//! controllers.
//!
//! Sources: Velero `pkg/apis/velero/v1/labels_annotations.go`; external-snapshotter `pkg/utils/util.go`.

/// Run (stream id) of an object; on VolumeGroupSnapshot, its content, member snapshots and contents.
pub const RUN: &str = "stillpoint.dev/run";
/// Epoch of the daemon that may write to the run of this VolumeGroupSnapshot (annotation).
pub const EPOCH: &str = "stillpoint.dev/epoch";
/// Journal of an object (label; on a Backup an annotation).
pub const JOURNAL: &str = "stillpoint.dev/journal";
/// Receipt of the finished cut (annotation, JSON).
pub const RECEIPT: &str = "stillpoint.dev/receipt";
/// PersistentVolumeClaim of a member snapshot (label, shortened as Velero does).
pub const PVC: &str = "stillpoint.dev/pvc";
/// Operator request for a run: `resume` or `abandon` (label on its GroupSnapshot).
pub const REQUEST: &str = "stillpoint.dev/request";
/// Id of that request, so that it is processed once (annotation).
pub const REQUEST_ID: &str = "stillpoint.dev/request-id";
/// Author of that request, unverified (annotation).
pub const REQUEST_BY: &str = "stillpoint.dev/request-by";

/// Reasons why groups of a Backup were refused or failed, one per line (annotation of the Backup).
pub const ERRORS: &str = "stillpoint.dev/errors";
/// Warnings of a Backup, one per line (annotation of the Backup).
pub const WARNINGS: &str = "stillpoint.dev/warnings";

/// Name of the Backup (label, shortened as Velero does).
pub const BACKUP_NAME: &str = "velero.io/backup-name";
/// Uid of the Backup (label).
pub const BACKUP_UID: &str = "velero.io/backup-uid";
/// Excludes an object from Velero's own backups (label, `"true"`).
pub const EXCLUDE_FROM_BACKUP: &str = "velero.io/exclude-from-backup";
/// Whether these labels exclude an object from a Backup. Only the value `true` does.
pub fn is_excluded(labels: &std::collections::BTreeMap<String, String>) -> bool {
    labels.get(EXCLUDE_FROM_BACKUP).is_some_and(|value| value == "true")
}
/// Label key that groups PersistentVolumeClaims when neither Backup nor flag names one.
pub const DEFAULT_GROUP_KEY: &str = "velero.io/volume-group";
/// Handle of the group snapshot (annotation on a member).
pub const GROUP_HANDLE: &str = "velero.io/csi-volumegroupsnapshot-handle";
/// Handle of the member snapshot (annotation on a member).
pub const SNAPSHOT_HANDLE: &str = "velero.io/csi-volumesnapshot-handle";
/// CSI driver (annotation on a member).
pub const DRIVER_NAME: &str = "velero.io/csi-driver-name";
/// Default VolumeGroupSnapshotClass of its driver, for Velero (label, `"true"`).
pub const GROUP_CLASS_DEFAULT: &str = "velero.io/csi-volumegroupsnapshot-class";
/// VolumeGroupSnapshotClass that a PersistentVolumeClaim requests (annotation).
pub const GROUP_CLASS_OF_PVC: &str = "velero.io/csi-volume-group-snapshot-class";
/// VolumeGroupSnapshotClass that a Backup requests; the driver follows (annotation prefix).
pub const GROUP_CLASS_OF_BACKUP_PREFIX: &str = "velero.io/csi-volumegroupsnapshot-class_";
/// Default VolumeSnapshotClass of its driver, for Velero (label, present).
pub const CLASS_DEFAULT: &str = "velero.io/csi-volumesnapshot-class";
/// VolumeSnapshotClass that a PersistentVolumeClaim requests (annotation).
pub const CLASS_OF_PVC: &str = "velero.io/csi-volumesnapshot-class";
/// VolumeSnapshotClass that a Backup requests; the driver follows (annotation prefix).
pub const CLASS_OF_BACKUP_PREFIX: &str = "velero.io/csi-volumesnapshot-class_";
/// Default VolumeSnapshotClass of its driver, for Kubernetes (annotation, `"true"`).
pub const CLASS_IS_DEFAULT: &str = "snapshot.storage.kubernetes.io/is-default-class";

/// API group of VolumeGroupSnapshot. Owner references are matched by group and uid, never by version.
pub const GROUP_SNAPSHOT_API: &str = "groupsnapshot.storage.k8s.io";
/// Finalizer of a member snapshot. The controller sets it once and never again.
pub const IN_GROUP_PROTECTION: &str = "snapshot.storage.kubernetes.io/volumesnapshot-in-group-protection";
/// Finalizer of a snapshot. The controller always restores it: its return proves that the controller has read
/// the object.
pub const AS_SOURCE_PROTECTION: &str = "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
/// Finalizer of a VolumeGroupSnapshot. A delete before the finalizer exists leaks storage.
pub const GROUP_BOUND_PROTECTION: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-bound-protection";
/// Finalizer of a VolumeGroupSnapshotContent. A delete before the finalizer exists leaks storage.
pub const GROUP_CONTENT_BOUND_PROTECTION: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshotcontent-bound-protection";
/// Annotation of a VolumeGroupSnapshotContent: name of the Secret that the driver needs to delete the group.
pub const DELETION_SECRET_NAME: &str = "groupsnapshot.storage.kubernetes.io/deletion-secret-name";
/// Annotation of a VolumeGroupSnapshotContent: namespace of that Secret.
pub const DELETION_SECRET_NAMESPACE: &str = "groupsnapshot.storage.kubernetes.io/deletion-secret-namespace";
/// Annotation of a VolumeGroupSnapshotContent that is being deleted. Without it the sidecar never removes its
/// finalizer.
pub const GROUP_BEING_DELETED: &str = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-deleted";
/// Annotation on a member's VolumeSnapshotContent with the handle of its group.
pub const CONTENT_GROUP_HANDLE: &str = "groupsnapshot.storage.k8s.io/volumeGroupSnapshotHandle";
/// Annotation of a VolumeSnapshotContent that is being deleted. Without it the sidecar never removes its
/// finalizer.
pub const CONTENT_BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
