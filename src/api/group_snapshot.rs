//! `groupsnapshot.storage.k8s.io`: the fields that Stillpoint reads, in the versions v1, v1beta2 and v1beta1.
//!
//! Source: external-snapshotter, `client/apis/volumegroupsnapshot`. v1 and v1beta2 are the same; v1beta1 has no
//! `volumeSnapshotInfoList`, which therefore is empty when read through it.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use serde::Deserialize;

use super::resource::resource;
use super::snapshot::{ErrorStatus, Reference};

/// A version of the API group. The first of [`Version::PREFERRED`] that a cluster serves is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// Since external-snapshotter 8.6.
    #[default]
    V1,
    /// Since external-snapshotter 8.4.
    V1beta2,
    /// Since external-snapshotter 8.2.
    V1beta1,
}

impl Version {
    /// All that Stillpoint can use, the best first.
    pub const PREFERRED: [Self; 3] = [Self::V1, Self::V1beta2, Self::V1beta1];

    /// As it stands in a path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta2 => "v1beta2",
            Self::V1beta1 => "v1beta1",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request to snapshot all claims that a selector matches, at one instant.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct VolumeGroupSnapshot {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is asked for.
    #[serde(default)]
    pub spec: VolumeGroupSnapshotSpec,
    /// What there is.
    pub status: Option<VolumeGroupSnapshotStatus>,
}

/// What a VolumeGroupSnapshot asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeGroupSnapshotSpec {
    /// VolumeGroupSnapshotClass.
    pub volume_group_snapshot_class_name: Option<String>,
}

/// What there is of a VolumeGroupSnapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeGroupSnapshotStatus {
    /// Its content.
    pub bound_volume_group_snapshot_content_name: Option<String>,
    /// When it was cut.
    pub creation_time: Option<Time>,
    /// Whether the driver says that it is ready; it says nothing about the members.
    pub ready_to_use: Option<bool>,
    /// The last error.
    pub error: Option<ErrorStatus>,
}

/// The storage behind a VolumeGroupSnapshot.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct VolumeGroupSnapshotContent {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: VolumeGroupSnapshotContentSpec,
    /// What there is.
    pub status: Option<VolumeGroupSnapshotContentStatus>,
}

/// What a VolumeGroupSnapshotContent asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeGroupSnapshotContentSpec {
    /// Its VolumeGroupSnapshot.
    pub volume_group_snapshot_ref: Reference,
    /// `Delete` or `Retain`.
    pub deletion_policy: String,
    /// CSI driver.
    #[serde(default)]
    pub driver: String,
    /// VolumeGroupSnapshotClass.
    pub volume_group_snapshot_class_name: Option<String>,
    /// Where it comes from.
    #[serde(default)]
    pub source: VolumeGroupSnapshotContentSource,
}

/// Where a VolumeGroupSnapshotContent comes from: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeGroupSnapshotContentSource {
    /// CSI volume handles: what the group froze.
    pub volume_handles: Option<Vec<String>>,
    /// CSI handles of a group snapshot that exists already.
    pub group_snapshot_handles: Option<GroupSnapshotHandles>,
}

/// CSI handles of a group snapshot that exists already.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupSnapshotHandles {
    /// Of the group.
    pub volume_group_snapshot_handle: String,
    /// Of the members.
    #[serde(default)]
    pub volume_snapshot_handles: Vec<String>,
}

/// What there is of a VolumeGroupSnapshotContent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeGroupSnapshotContentStatus {
    /// CSI handle of the group snapshot.
    pub volume_group_snapshot_handle: Option<String>,
    /// When it was cut.
    pub creation_time: Option<Time>,
    /// Whether the driver says that it is ready.
    pub ready_to_use: Option<bool>,
    /// The last error.
    pub error: Option<ErrorStatus>,
    /// What the driver reported per volume. Written once; later readiness does not show here.
    pub volume_snapshot_info_list: Option<Vec<VolumeSnapshotInfo>>,
}

/// What the driver reported of one member.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotInfo {
    /// CSI volume handle.
    #[serde(default)]
    pub volume_handle: String,
    /// CSI snapshot handle.
    #[serde(default)]
    pub snapshot_handle: String,
    /// When it was cut: nanoseconds since 1970.
    pub creation_time: Option<i64>,
    /// Whether it was ready then.
    pub ready_to_use: Option<bool>,
    /// Bytes.
    pub restore_size: Option<i64>,
}

/// How VolumeGroupSnapshots of a driver are made.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeGroupSnapshotClass {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// CSI driver.
    pub driver: String,
    /// `Delete` or `Retain`.
    pub deletion_policy: String,
    /// Parameters of the driver.
    pub parameters: Option<BTreeMap<String, String>>,
}

resource!(
    VolumeGroupSnapshot,
    NamespaceResourceScope,
    "groupsnapshot.storage.k8s.io",
    "volumegroupsnapshots",
    Version,
    |version| version.as_str()
);
resource!(
    VolumeGroupSnapshotContent,
    ClusterResourceScope,
    "groupsnapshot.storage.k8s.io",
    "volumegroupsnapshotcontents",
    Version,
    |version| version.as_str()
);
resource!(
    VolumeGroupSnapshotClass,
    ClusterResourceScope,
    "groupsnapshot.storage.k8s.io",
    "volumegroupsnapshotclasses",
    Version,
    |version| version.as_str()
);

#[cfg(test)]
mod tests {
    use super::*;
    use kube::Resource;

    #[test]
    fn one_struct_serves_every_api_version() {
        let paths = Version::PREFERRED.map(|version| VolumeGroupSnapshot::url_path(&version, Some("shop")));
        assert_eq!(
            paths,
            ["v1", "v1beta2", "v1beta1"].map(|version| format!(
                "/apis/groupsnapshot.storage.k8s.io/{version}/namespaces/shop/volumegroupsnapshots"
            ))
        );
    }
}
