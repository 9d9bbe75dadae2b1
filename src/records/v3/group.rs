//! Defines kinds 1 and 5 in version 3.

use bincode::{Decode, Encode};

use super::super::v2::group as v2;

/// Kind 1: everything that is fixed before the first effect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Planned {
    /// The content of version 2.
    pub plan: v2::Planned,
    /// The VolumeGroupSnapshotClass; none in a plan of an earlier release.
    pub class: Option<GroupClass>,
    /// The PVCs, in the order of the members; empty in a plan of an earlier release.
    pub claims: Vec<Option<ClaimSpec>>,
}

/// A VolumeGroupSnapshotClass.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct GroupClass {
    pub uid: String,
    /// Secret with which the driver reads a group.
    pub get_secret: Option<Secret>,
}

/// Reference to a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Secret {
    pub namespace: String,
    pub name: String,
}

/// A PersistentVolumeClaim, for a restore.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ClaimSpec {
    pub storage_class: Option<String>,
    /// Requested storage, as a quantity.
    pub requested: Option<String>,
    pub access_modes: Vec<String>,
    pub volume_mode: Option<String>,
    /// In the order of keys.
    pub labels: Vec<(String, String)>,
}

/// Kind 5: a milestone was reached.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Reached {
    /// The content of version 2.
    pub reached: v2::Reached,
    /// Where and when the cut was made; none if the milestone closes no receipt.
    pub provenance: Option<Provenance>,
}

/// Where and when a cut was made.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Provenance {
    /// Uid of the VolumeGroupSnapshotClass.
    pub class_uid: Option<String>,
    /// Secret with which the driver reads the group, as resolved.
    pub get_secret: Option<Secret>,
    /// Creation time of the group, in nanoseconds.
    pub created_at_ns: Option<i64>,
    /// Id of the journal.
    pub journal: Option<String>,
    /// Uid of the cluster.
    pub cluster: Option<String>,
}
