//! Kinds of concurrent changes by users, other programs and other controllers.
//!
//! Each disruption acts once, at a point of the run. [`crate::drill::disruptions`] contains the changes to
//! objects. [`crate::drill::expectations`] defines how a disturbed run may end, for each disruption and part
//! of the run.

use crate::cluster::plural;
use crate::drill::disruptions;
use crate::drill::scenario::named;
use crate::machine::kit::{Ask, Kind};
use crate::sim::Cluster;

named! {
    /// One kind of concurrent change.
    Disruption {
        /// A controller writes the group's name and ownership back to the members.
        OwnershipBack = "ownership-back",
        /// A user deletes the VolumeGroupSnapshot.
        DeleteGroup = "delete-vgs",
        /// A user deletes the VolumeGroupSnapshotContent.
        DeleteGroupContent = "delete-vgsc",
        /// A user deletes the VolumeSnapshot of a member.
        DeleteMember = "delete-vs",
        /// A user deletes the VolumeSnapshots of all members.
        DeleteMembers = "delete-all-vs",
        /// A user deletes the VolumeSnapshotContent of a member.
        DeleteContent = "delete-vsc",
        /// A user deletes a PVC of the group.
        DeleteClaim = "delete-pvc",
        /// A user moves the group's label from one PVC to another one.
        SwapClaim = "swap-pvc",
        /// A user deletes the VolumeGroupSnapshotClass.
        DeleteGroupClass = "delete-vgs-class",
        /// A user deletes the namespace.
        DeleteNamespace = "delete-namespace",
        /// A user deletes the namespace, and an object in it stays Terminating for some seconds.
        DeleteHeldNamespace = "delete-held-namespace",
        /// A user removes all labels and annotations from a member.
        Unlabel = "remove-labels",
        /// A user sets the deletionPolicy of the group's content to Delete.
        Unretain = "vgsc-to-delete",
        /// A user sets the deletionPolicy of a member's content to Delete.
        UnretainMember = "vsc-to-delete",
        /// The VolumeGroupSnapshot is deleted with its finalizers removed, and another one takes its name.
        ReplaceGroup = "replace-vgs",
        /// The VolumeSnapshot of a member is deleted with its finalizers removed, and another one takes its
        /// name.
        ReplaceMember = "replace-vs",
        /// The snapshot-controller is killed and starts with empty caches.
        RestartController = "restart-snapshot-controller",
        /// The csi-snapshotter is killed and starts with empty caches.
        RestartSidecar = "restart-csi-snapshotter",
        /// The snapshot-controller is paused for five minutes and resumes with its old caches.
        FreezeController = "freeze-snapshot-controller",
        /// As `FreezeController`, directly after its next write: the written object lacks everything that
        /// belongs to it.
        StallController = "stall-snapshot-controller",
        /// A user removes the finalizers of the VolumeGroupSnapshotContent and deletes it.
        TearGroupContent = "tear-vgsc",
        /// Another tool releases all members, as Velero's plugin does with its own group.
        ReleaseMembers = "release-members",
        /// Another tool removes owners and finalizers from all members, and leaves the group's name on them.
        DisownMembers = "disown-members",
        /// Another daemon, which no longer runs, was rebuilding members and left its stub content.
        LeaveStub = "leave-stub",
        /// A content names the group before the group exists. An incarnation that no journal records left it.
        ForgetContent = "forgotten-vgsc",
        /// A user imports a group snapshot under the name of the group: a content with that name and without a
        /// uid.
        ImportContent = "imported-vgsc",
        /// A user requests that the run be abandoned.
        Abandon = "abandon",
        /// The API server refuses every write of the daemon for three minutes, as an admission webhook can.
        RefuseWrites = "refuse-writes",
        /// An older incarnation of the daemon continues beside the newer one, on a copy of the journal.
        OlderEpoch = "older-epoch",
    }
}

impl Disruption {
    /// Whether members may be rebuilt, or cut again, because of this disruption. Members keep their uids under
    /// all other disruptions. Ownership that is restored after the last fresh read deletes its member together
    /// with the group.
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

    /// Applies the disruption. `OlderEpoch` changes no object: it is a daemon, and the runner starts it.
    pub fn act(self, cluster: &Cluster) {
        if let Some((kind, act)) = self.of_kind() {
            return act(cluster, &plural(kind));
        }
        match self {
            Self::OwnershipBack => disruptions::own_again(cluster),
            Self::DeleteMembers => disruptions::delete_all(cluster, "volumesnapshots"),
            Self::DeleteClaim => disruptions::delete_first(cluster, "persistentvolumeclaims"),
            Self::SwapClaim => disruptions::swap_claim(cluster),
            Self::DeleteGroupClass => disruptions::delete_first(cluster, "volumegroupsnapshotclasses"),
            Self::DeleteNamespace => disruptions::delete_namespace(cluster, "shop"),
            Self::DeleteHeldNamespace => disruptions::delete_held_namespace(cluster, "shop"),
            Self::Unlabel => disruptions::unlabel_member(cluster),
            Self::Unretain => disruptions::unretain(cluster),
            Self::UnretainMember => disruptions::unretain_member(cluster),
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
            Self::DeleteGroup
            | Self::DeleteGroupContent
            | Self::DeleteMember
            | Self::DeleteContent
            | Self::ReplaceGroup
            | Self::ReplaceMember
            | Self::OlderEpoch => {}
        }
    }

    /// The kind of which the disruption deletes or replaces the first object, and how. A kind that effects delete
    /// has one that deletes it.
    fn of_kind(self) -> Option<(Kind, ActOnFirst)> {
        Some(match self {
            Self::DeleteGroup => (Kind::VolumeGroupSnapshot, disruptions::delete_first),
            Self::DeleteGroupContent => (Kind::VolumeGroupSnapshotContent, disruptions::delete_first),
            Self::DeleteMember => (Kind::VolumeSnapshot, disruptions::delete_first),
            Self::DeleteContent => (Kind::VolumeSnapshotContent, disruptions::delete_first),
            Self::ReplaceGroup => (Kind::VolumeGroupSnapshot, disruptions::replace_first),
            Self::ReplaceMember => (Kind::VolumeSnapshot, disruptions::replace_first),
            _ => return None,
        })
    }
}

type ActOnFirst = fn(&Cluster, &str);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::access::grants;

    #[test]
    fn every_kind_that_effects_delete_is_deleted_by_a_disruption() {
        for kind in Kind::ALL {
            let plural = plural(*kind);
            let deletes = grants().any(|grant| grant.resource == plural && grant.verbs.contains(&"delete"));
            let is_deleted = Disruption::ALL.iter().any(|disruption| {
                disruption.of_kind().is_some_and(|(of, _)| of == *kind)
                    && disruption.name().starts_with("delete-")
            });
            assert_eq!(deletes, is_deleted, "{plural}");
        }
    }
}
