//! Defines what a waiting group run waits for.

use crate::machine::kit::{Actor, Wait};

/// Condition that a waiting run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The snapshot-controller has not frozen the volumes, or the driver has not cut them.
    Cut,
    /// The members are not ready.
    Ready,
    /// The driver reports a transient error.
    DriverGrace,
    /// The snapshot-controller has not restored the as-source finalizer.
    Acknowledgement,
    /// The VolumeGroupSnapshot is being deleted.
    GroupGone,
    /// The VolumeGroupSnapshotContent was deleted by another client, and the snapshot-controller has not
    /// created it again.
    ContentAgain,
    /// The VolumeGroupSnapshotContent is being deleted.
    ContentGone,
    /// The driver has not freed the storage of the group.
    StorageFreed,
    /// The driver has reported an error that does not say whether it cut the group.
    DriverAnswer,
    /// A rebuilt member is not ready.
    Rebuilt,
    /// A bound-protection finalizer is missing.
    Protection,
    /// The VolumeSnapshots and VolumeSnapshotContents of the members are being deleted.
    ShellsGone,
    /// The controller may still create a content.
    LateContent,
    /// A cache of a controller may still have the group.
    Echo,
}

impl Wait for Waiting {
    fn text(self) -> &'static str {
        match self {
            Self::Cut => "the snapshot-controller and the driver to cut the group",
            Self::Ready => "the members to become ready",
            Self::DriverGrace => "the driver's error to pass",
            Self::Acknowledgement => "the snapshot-controller to see the released members",
            Self::GroupGone => "the snapshot-controller to let the VolumeGroupSnapshot go",
            Self::ContentAgain => {
                "the snapshot-controller to make the VolumeGroupSnapshotContent again, which was deleted"
            }
            Self::ContentGone => "the csi-snapshotter to let the VolumeGroupSnapshotContent go",
            Self::StorageFreed => "the csi-snapshotter and the driver to free the storage of the group",
            Self::DriverAnswer => {
                "the driver to say whether it cut the group; before that the csi-snapshotter lets nothing go"
            }
            Self::Rebuilt => "the rebuilt members to become ready",
            Self::Protection => "the bound-protection finalizers of the group, before which a delete leaks",
            Self::ShellsGone => "the VolumeSnapshots and VolumeSnapshotContents to go",
            Self::LateContent => "a VolumeGroupSnapshotContent that may still come late",
            Self::Echo => {
                "the caches of the snapshot-controller to forget the group, before its name is put back"
            }
        }
    }

    fn actor(self) -> Actor {
        match self {
            Self::Cut
            | Self::Ready
            | Self::Acknowledgement
            | Self::GroupGone
            | Self::ContentAgain
            | Self::Rebuilt
            | Self::Protection
            | Self::ShellsGone => Actor::Controller,
            Self::ContentGone | Self::StorageFreed | Self::DriverAnswer => Actor::Driver,
            Self::DriverGrace | Self::LateContent | Self::Echo => Actor::Clock,
        }
    }
}
