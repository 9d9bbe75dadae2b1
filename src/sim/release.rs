//! Releases of the snapshot controllers, where they differ by something that can be observed.

/// A release of external-snapshotter: the snapshot-controller and the sidecar of the same version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 8.2 and 8.3.
    V8_2,
    /// 8.4 and 8.5.
    V8_4,
    /// 8.6.
    V8_6,
    /// The main branch a little after 8.6.0, as the recordings were made with.
    Main,
}

impl Release {
    /// The version of `groupsnapshot.storage.k8s.io` that the controllers write into owner references. They count as
    /// members only what is owned under exactly this one.
    pub fn group_version(self) -> &'static str {
        match self {
            Release::V8_2 => "v1beta1",
            Release::V8_4 => "v1beta2",
            Release::V8_6 | Release::Main => "v1",
        }
    }

    /// Whether the feature gate `CSIVolumeGroupSnapshot` is on when nobody sets it.
    pub fn handles_groups_by_default(self) -> bool {
        self == Release::Main
    }
}
