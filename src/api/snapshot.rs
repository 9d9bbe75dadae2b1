//! `snapshot.storage.k8s.io/v1`: the fields that Stillpoint reads.
//!
//! Source: external-snapshotter, `client/apis/volumesnapshot/v1/types.go`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use serde::Deserialize;

use super::resource::resource;

/// The last error that a controller or a driver reported.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ErrorStatus {
    /// What went wrong.
    pub message: Option<String>,
    /// When it was first seen.
    pub time: Option<Time>,
}

/// Reference to the object on the other side of a binding.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Reference {
    /// Namespace.
    #[serde(default)]
    pub namespace: String,
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Uid; missing until the controller has bound the two.
    pub uid: Option<String>,
}

/// A snapshot of one claim.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct VolumeSnapshot {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is asked for.
    #[serde(default)]
    pub spec: VolumeSnapshotSpec,
    /// What there is.
    pub status: Option<VolumeSnapshotStatus>,
}

/// What a VolumeSnapshot asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotSpec {
    /// Where it comes from.
    #[serde(default)]
    pub source: VolumeSnapshotSource,
    /// VolumeSnapshotClass.
    pub volume_snapshot_class_name: Option<String>,
}

/// Where a VolumeSnapshot comes from: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotSource {
    /// A claim. Empty for a member whose volume vanished while the group was cut.
    pub persistent_volume_claim_name: Option<String>,
    /// A content that exists already.
    pub volume_snapshot_content_name: Option<String>,
}

/// What there is of a VolumeSnapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotStatus {
    /// Its content.
    pub bound_volume_snapshot_content_name: Option<String>,
    /// When it was cut (whole seconds).
    pub creation_time: Option<Time>,
    /// Whether it can be restored from.
    pub ready_to_use: Option<bool>,
    /// The last error.
    pub error: Option<ErrorStatus>,
    /// The VolumeGroupSnapshot that it is a member of.
    pub volume_group_snapshot_name: Option<String>,
}

/// The storage behind a VolumeSnapshot.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct VolumeSnapshotContent {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: VolumeSnapshotContentSpec,
    /// What there is.
    pub status: Option<VolumeSnapshotContentStatus>,
}

/// What a VolumeSnapshotContent asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotContentSpec {
    /// Its VolumeSnapshot.
    pub volume_snapshot_ref: Reference,
    /// `Delete` or `Retain`.
    pub deletion_policy: String,
    /// CSI driver.
    #[serde(default)]
    pub driver: String,
    /// VolumeSnapshotClass.
    pub volume_snapshot_class_name: Option<String>,
    /// Where it comes from.
    #[serde(default)]
    pub source: VolumeSnapshotContentSource,
    /// `Filesystem` or `Block`.
    pub source_volume_mode: Option<String>,
}

/// Where a VolumeSnapshotContent comes from: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotContentSource {
    /// CSI volume handle.
    pub volume_handle: Option<String>,
    /// CSI snapshot handle of a snapshot that exists already.
    pub snapshot_handle: Option<String>,
}

/// What there is of a VolumeSnapshotContent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotContentStatus {
    /// CSI snapshot handle.
    pub snapshot_handle: Option<String>,
    /// When it was cut: nanoseconds since 1970.
    pub creation_time: Option<i64>,
    /// Bytes.
    pub restore_size: Option<i64>,
    /// Whether it can be restored from.
    pub ready_to_use: Option<bool>,
    /// The last error.
    pub error: Option<ErrorStatus>,
    /// CSI handle of the group snapshot.
    pub volume_group_snapshot_handle: Option<String>,
}

/// How VolumeSnapshots of a driver are made.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotClass {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// CSI driver.
    pub driver: String,
    /// `Delete` or `Retain`.
    pub deletion_policy: String,
}

resource!(VolumeSnapshot, NamespaceResourceScope, "snapshot.storage.k8s.io", "volumesnapshots", (), |_| "v1");
resource!(
    VolumeSnapshotContent,
    ClusterResourceScope,
    "snapshot.storage.k8s.io",
    "volumesnapshotcontents",
    (),
    |_| "v1"
);
resource!(
    VolumeSnapshotClass,
    ClusterResourceScope,
    "snapshot.storage.k8s.io",
    "volumesnapshotclasses",
    (),
    |_| "v1"
);
