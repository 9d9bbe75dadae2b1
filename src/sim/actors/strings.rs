//! Names that the actors write: plurals, finalizers, annotations, defaults.
//!
//! These are deliberate copies. The embedded cluster imports nothing from the rest of the crate, so a
//! misspelt name there fails a test instead of being misspelt in both places. Source: external-snapshotter
//! `pkg/utils`, Kubernetes 1.36 as observed.

/// Plurals of the resources that the actors use.
pub(crate) mod plural {
    pub(crate) const NAMESPACES: &str = "namespaces";
    pub(crate) const PVCS: &str = "persistentvolumeclaims";
    pub(crate) const VOLUMES: &str = "persistentvolumes";
    pub(crate) const PODS: &str = "pods";
    pub(crate) const EVENTS: &str = "events";
    pub(crate) const STORAGE_CLASSES: &str = "storageclasses";
    pub(crate) const SNAPSHOTS: &str = "volumesnapshots";
    pub(crate) const CONTENTS: &str = "volumesnapshotcontents";
    pub(crate) const CLASSES: &str = "volumesnapshotclasses";
    pub(crate) const GROUPS: &str = "volumegroupsnapshots";
    pub(crate) const GROUP_CONTENTS: &str = "volumegroupsnapshotcontents";
    pub(crate) const GROUP_CLASSES: &str = "volumegroupsnapshotclasses";
}

pub(crate) mod finalizer {
    pub(crate) const CONTENT_BOUND: &str =
        "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
    pub(crate) const SNAPSHOT_BOUND: &str = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
    pub(crate) const AS_SOURCE: &str = "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
    pub(crate) const IN_GROUP: &str = "snapshot.storage.kubernetes.io/volumesnapshot-in-group-protection";
    pub(crate) const PVC_AS_SOURCE: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";
    pub(crate) const GROUP_CONTENT_BOUND: &str =
        "groupsnapshot.storage.kubernetes.io/volumegroupsnapshotcontent-bound-protection";
    pub(crate) const GROUP_BOUND: &str =
        "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-bound-protection";
    pub(crate) const PVC: &str = "kubernetes.io/pvc-protection";
    pub(crate) const VOLUME: &str = "kubernetes.io/pv-protection";
    pub(crate) const PROVISIONER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
    pub(crate) const RESTORE_SOURCE: &str =
        "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection";
}

/// Annotations. Those that are switches have the value [`YES`](annotation::YES).
pub(crate) mod annotation {
    pub(crate) const YES: &str = "yes";
    pub(crate) const BEING_CREATED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-created";
    pub(crate) const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
    pub(crate) const GROUP_BEING_CREATED: &str =
        "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-created";
    pub(crate) const GROUP_BEING_DELETED: &str =
        "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-deleted";
    /// On the content of a group member. Note `.k8s.io` where the other annotations have `.kubernetes.io`.
    pub(crate) const GROUP_HANDLE: &str = "groupsnapshot.storage.k8s.io/volumeGroupSnapshotHandle";
    pub(crate) const DEFAULT_CLASS: &str = "snapshot.storage.kubernetes.io/is-default-class";
    pub(crate) const DEFAULT_GROUP_CLASS: &str = "groupsnapshot.storage.kubernetes.io/is-default-class";
    pub(crate) const DEFAULT_STORAGE_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
    pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
    pub(crate) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
    pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
    pub(crate) const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
    pub(crate) const STORAGE_PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
}

/// `deletionPolicy: Delete`.
pub(crate) const DELETE: &str = "Delete";
/// The CSI driver of the embedded cluster.
pub(crate) const DRIVER: &str = "hostpath.csi.k8s.io";
/// The storage class of that driver.
pub(crate) const STORAGE_CLASS: &str = "csi-hostpath-sc";
/// Its default VolumeSnapshotClass.
pub(crate) const SNAPSHOT_CLASS: &str = "csi-hostpath-snapclass";
/// Its default VolumeGroupSnapshotClass.
pub(crate) const GROUP_SNAPSHOT_CLASS: &str = "csi-hostpath-groupsnapclass";
/// API group of VolumeSnapshot.
pub(crate) const SNAPSHOT_GROUP: &str = "snapshot.storage.k8s.io";
/// API group of VolumeGroupSnapshot.
pub(crate) const GROUP_SNAPSHOT_GROUP: &str = "groupsnapshot.storage.k8s.io";
