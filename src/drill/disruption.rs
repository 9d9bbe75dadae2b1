//! Who interferes: other people, other programs, other controllers. Each acts once, at a point of the run.
//!
//! What they do to objects is in [`crate::drill::disruptions`]. How a run may end that is interfered with is said in
//! `expect`, for each rival and part of the run.

use crate::drill::disruptions;
use crate::drill::scenario::named;
use crate::machine::group::Ask;
use crate::sim::Cluster;

named! {
    /// One kind of interference.
    Disruption {
        /// A controller puts the group's name and ownership back onto the members.
        OwnershipBack = "ownership-back",
        /// Somebody deletes the VolumeGroupSnapshot.
        DeleteGroup = "delete-vgs",
        /// Somebody deletes the VolumeGroupSnapshotContent.
        DeleteGroupContent = "delete-vgsc",
        /// Somebody deletes the VolumeSnapshot of a member.
        DeleteMember = "delete-vs",
        /// Somebody deletes the VolumeSnapshots of all members.
        DeleteMembers = "delete-all-vs",
        /// Somebody deletes the VolumeSnapshotContent of a member.
        DeleteContent = "delete-vsc",
        /// Somebody deletes a claim of the group.
        DeleteClaim = "delete-pvc",
        /// Somebody takes the group's label off one claim and puts it onto another one.
        SwapClaim = "swap-pvc",
        /// Somebody deletes the VolumeGroupSnapshotClass.
        DeleteGroupClass = "delete-vgs-class",
        /// Somebody deletes the namespace.
        DeleteNamespace = "delete-namespace",
        /// Somebody deletes the namespace, and something in it takes some seconds to go.
        DeleteHeldNamespace = "delete-held-namespace",
        /// Somebody takes all labels and annotations off a member.
        Unlabel = "remove-labels",
        /// Somebody sets the content of the group to Delete.
        Unretain = "vgsc-to-delete",
        /// Somebody sets the content of a member to Delete.
        UnretainMember = "vsc-to-delete",
        /// The VolumeGroupSnapshot is torn out and another one has its name.
        ReplaceGroup = "replace-vgs",
        /// The VolumeSnapshot of a member is torn out and another one has its name.
        ReplaceMember = "replace-vs",
        /// The snapshot-controller is killed and starts with empty caches.
        RestartController = "restart-snapshot-controller",
        /// The csi-snapshotter is killed and starts with empty caches.
        RestartSidecar = "restart-csi-snapshotter",
        /// The snapshot-controller stands still for five minutes and goes on from the caches it had.
        FreezeController = "freeze-snapshot-controller",
        /// The same, right behind its next write: what it made then lacks everything that belongs to it.
        StallController = "stall-snapshot-controller",
        /// Somebody tears the VolumeGroupSnapshotContent out, finalizers and all.
        TearGroupContent = "tear-vgsc",
        /// Another tool releases all members, as Velero's plugin does with a group of its own.
        ReleaseMembers = "release-members",
        /// Another tool takes owners and finalizers off all members, and leaves them the group's name.
        DisownMembers = "disown-members",
        /// Another daemon, which is gone by now, was at rebuilding members and left its stub content.
        LeaveStub = "leave-stub",
        /// A content stands that names the group before there is one, left by a life that no journal knows of.
        ForgetContent = "forgotten-vgsc",
        /// Somebody imports a group snapshot under the name of the group: a content that names it, and no uid.
        ImportContent = "imported-vgsc",
        /// Somebody asks for the run to be abandoned.
        Abandon = "abandon",
        /// For three minutes the API server refuses every write of the daemon, as an admission webhook can.
        RefuseWrites = "refuse-writes",
        /// An older life of the daemon goes on beside the newer one, on a copy of the journal.
        OlderEpoch = "older-epoch",
    }
}

impl Disruption {
    /// Whether what was cut may be rebuilt, or cut again, because of it: members keep their uids under all others.
    /// Ownership that comes back after the last look takes its member along with the group.
    pub fn destroys(self) -> bool {
        !matches!(
            self,
            Self::Unlabel
                | Self::Unretain
                | Self::UnretainMember
                | Self::RestartController
                | Self::RestartSidecar
                | Self::FreezeController
                | Self::StallController
                | Self::RefuseWrites
                | Self::LeaveStub
                | Self::ImportContent
                | Self::DeleteGroupClass
        )
    }

    /// Acts. The older epoch is no deed but a daemon: it is started by whoever plays the case.
    pub fn act(self, cluster: &Cluster) {
        match self {
            Self::OwnershipBack => disruptions::own_again(cluster),
            Self::DeleteGroup => disruptions::delete_first(cluster, "volumegroupsnapshots"),
            Self::DeleteGroupContent => disruptions::delete_first(cluster, "volumegroupsnapshotcontents"),
            Self::DeleteMember => disruptions::delete_first(cluster, "volumesnapshots"),
            Self::DeleteMembers => disruptions::delete_all(cluster, "volumesnapshots"),
            Self::DeleteContent => disruptions::delete_first(cluster, "volumesnapshotcontents"),
            Self::DeleteClaim => disruptions::delete_first(cluster, "persistentvolumeclaims"),
            Self::SwapClaim => disruptions::swap_claim(cluster),
            Self::DeleteGroupClass => disruptions::delete_first(cluster, "volumegroupsnapshotclasses"),
            Self::DeleteNamespace => disruptions::delete_namespace(cluster, "shop"),
            Self::DeleteHeldNamespace => disruptions::delete_held_namespace(cluster, "shop"),
            Self::Unlabel => disruptions::unlabel_member(cluster),
            Self::Unretain => disruptions::unretain(cluster),
            Self::UnretainMember => disruptions::unretain_member(cluster),
            Self::ReplaceGroup => disruptions::replace_first(cluster, "volumegroupsnapshots"),
            Self::ReplaceMember => disruptions::replace_first(cluster, "volumesnapshots"),
            Self::RestartController => cluster.restart("snapshot-controller"),
            Self::RestartSidecar => cluster.restart("csi-snapshotter"),
            Self::FreezeController => disruptions::freeze(cluster, "snapshot-controller"),
            Self::StallController => disruptions::freeze_behind_write(cluster, "snapshot-controller"),
            Self::TearGroupContent => disruptions::tear_group_content(cluster),
            Self::ReleaseMembers => disruptions::release_members(cluster, false),
            Self::DisownMembers => disruptions::release_members(cluster, true),
            Self::LeaveStub => disruptions::leave_stub(cluster),
            Self::ForgetContent => disruptions::name_the_group(cluster, true),
            Self::ImportContent => disruptions::name_the_group(cluster, false),
            Self::Abandon => disruptions::ask(cluster, Ask::Abandon, "abandoned"),
            Self::RefuseWrites => disruptions::refuse_writes(cluster),
            Self::OlderEpoch => {}
        }
    }
}
