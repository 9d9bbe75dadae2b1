//! The observable differences between releases of the snapshot controllers.
//!
//! | | 8.2 | 8.3 | 8.4, 8.5 | 8.6 | main |
//! |---|---|---|---|---|---|
//! | served versions of the group API | v1beta1 | v1beta1 | v1beta2, v1beta1 | v1, v1beta2, v1beta1 | the same |
//! | version in owner references | v1beta1 | v1beta1 | v1beta2 | v1 | v1 |
//! | names of members: hash over the handle and the uid of | the content | the group | the group | the group | the group |
//! | members in the status of the content | pairs of handles | pairs of handles | list with times, sizes, readiness | | |
//! | content whose driver is not ready | retried by chance or at a resync | | | | retried after a back-off |
//! | default of the feature gate `CSIVolumeGroupSnapshot` | off | off | off | off | on |
//!
//! Source: tags and change logs of external-snapshotter (#1294, #1312, #1457, #1475).
//!
//! Not here: CRDs newer than the controllers, and the fixes of 8.5 to the creation of members under
//! conflicts.

/// A release of external-snapshotter: the snapshot-controller and the sidecar of the same version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    V8_2,
    V8_3,
    /// 8.4 and 8.5.
    V8_4,
    V8_6,
    /// The main branch a little after 8.6.0, the version of the recordings.
    Main,
}

impl Release {
    /// All releases, the oldest first.
    pub const ALL: [Release; 5] = [Release::V8_2, Release::V8_3, Release::V8_4, Release::V8_6, Release::Main];

    /// The version of `groupsnapshot.storage.k8s.io` that the controllers write into owner references. Only
    /// objects whose owner reference has exactly this version count as members.
    pub fn group_version(self) -> &'static str {
        match self {
            Release::V8_2 | Release::V8_3 => "v1beta1",
            Release::V8_4 => "v1beta2",
            Release::V8_6 | Release::Main => "v1",
        }
    }

    /// Returns whether the CRDs of the release have that version of `groupsnapshot.storage.k8s.io`.
    pub fn serves(self, version: &str) -> bool {
        match version {
            "v1" => self >= Release::V8_6,
            "v1beta2" => self >= Release::V8_4,
            _ => version == "v1beta1",
        }
    }

    /// The default of the feature gate `CSIVolumeGroupSnapshot`.
    pub fn handles_groups_by_default(self) -> bool {
        self == Release::Main
    }

    /// Returns whether the names of members contain the uid of the group's content instead of that of the
    /// group.
    pub(crate) fn names_members_by_content(self) -> bool {
        self == Release::V8_2
    }

    /// The field of a content's status that lists the members.
    pub(crate) fn member_list(self) -> &'static str {
        if self.lists_pairs() { "volumeSnapshotHandlePairList" } else { "volumeSnapshotInfoList" }
    }

    /// Returns whether that list contains only pairs of handles.
    pub(crate) fn lists_pairs(self) -> bool {
        self <= Release::V8_3
    }

    /// Returns whether the sidecar retries, after a back-off, a group that the driver reports as not ready.
    pub(crate) fn retries_unready_groups(self) -> bool {
        self == Release::Main
    }
}
