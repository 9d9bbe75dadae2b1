//! Defines effects: calls that change the cluster, as data, with all arguments of the call.
//!
//! Every effect except a create has the uid of the object and the old value of each replaced field. A call
//! that arrives late, twice, or from an overtaken daemon therefore fails without damage. `resource_version`
//! is added only if an unrelated change of another client must stop the call: for deletes of the group
//! objects, and for policies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::ids::ObjectId;
use crate::domain::observed::{DeletionPolicy, Owner};
use crate::domain::problem::About;
use crate::domain::receipt::SecretRef;
use crate::machine::kit::{EffectReference, Entry};

/// A VolumeGroupSnapshotContent made from the handles of a cut. No VolumeGroupSnapshot binds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbound {
    /// Computed name.
    pub name: String,
    pub driver: String,
    pub class: String,
    pub group_handle: String,
    /// CSI snapshot handles of all members.
    pub snapshot_handles: Vec<String>,
    /// Namespace of the VolumeGroupSnapshot in its reference. No such object requests this content.
    pub group_namespace: String,
    /// Name of the VolumeGroupSnapshot in its reference.
    pub group_name: String,
    pub labels: BTreeMap<String, String>,
}

/// One call that changes the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    CreateGroup {
        namespace: String,
        /// Computed name.
        name: String,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        class: String,
        /// `spec.source.selector.matchLabels`.
        selector: BTreeMap<String, String>,
    },
    /// Claim a VolumeGroupSnapshot of an older epoch: test the old epoch, write the new one.
    ClaimGroup {
        group: ObjectId,
        /// Epoch annotation as observed; `None` if it is missing.
        old: Option<String>,
        /// Epoch of this daemon.
        new: u64,
    },
    /// Write labels and receipt to a member VolumeSnapshot in one patch.
    LabelMember {
        snapshot: ObjectId,
        labels: Entry,
        annotations: Entry,
    },
    /// Set the deletion policy of the VolumeGroupSnapshotContent, with run label and receipt.
    SetGroupContentPolicy {
        content: ObjectId,
        /// A change by another client makes the call fail.
        resource_version: String,
        /// Policy as observed.
        old: DeletionPolicy,
        /// Policy to write.
        new: DeletionPolicy,
        labels: Entry,
        annotations: Entry,
    },
    /// Set the deletion policy of a member's VolumeSnapshotContent, with run label and receipt.
    SetContentPolicy {
        content: ObjectId,
        resource_version: String,
        /// Policy as observed.
        old: DeletionPolicy,
        /// Policy to write.
        new: DeletionPolicy,
        labels: Entry,
        annotations: Entry,
    },
    /// Write `status.volumeGroupSnapshotName` of a member (status subresource): clear or restore it.
    SetGroupName {
        snapshot: ObjectId,
        /// Value as observed.
        old: Option<String>,
        /// Value to write; `None` clears it.
        new: Option<String>,
    },
    /// Release a member in one patch: remove owner reference, in-group and as-source finalizers, and set the
    /// class. The patch tests readiness, group name, owners, finalizers and class as observed. For a member
    /// that is being deleted, only the in-group finalizer is removed.
    DetachMember {
        snapshot: ObjectId,
        /// Whether the patch requires the member to be ready: for a member that stays.
        ready: bool,
        /// Group name as observed. It must be empty while the group exists.
        group_name: Option<String>,
        /// Owners as observed.
        old_owners: Vec<Owner>,
        /// Owners after the patch.
        new_owners: Vec<Owner>,
        /// Finalizers as observed.
        old_finalizers: Vec<String>,
        /// Finalizers after the patch.
        new_finalizers: Vec<String>,
        /// Class as observed.
        old_class: Option<String>,
        /// Class after the patch.
        new_class: Option<String>,
    },
    DeleteGroup {
        group: ObjectId,
        resource_version: String,
    },
    /// Write the being-deleted annotation if the controller omitted it. Without it the sidecar never removes
    /// its finalizer.
    MarkGroupContent {
        content: ObjectId,
        annotations: Entry,
    },
    /// Delete the VolumeGroupSnapshotContent (or the stub, or the import).
    DeleteGroupContent {
        content: ObjectId,
        /// Version of the object; `None` for the stub.
        resource_version: Option<String>,
    },
    /// Create a VolumeSnapshotContent from a snapshot handle, for a lost member.
    CreateContent {
        /// Computed name.
        name: String,
        driver: String,
        /// CSI snapshot handle.
        snapshot_handle: String,
        /// VolumeSnapshotClass.
        class: String,
        /// `Filesystem` or `Block`.
        volume_mode: Option<String>,
        /// Namespace of the VolumeSnapshot that will bind it.
        snapshot_namespace: String,
        /// Name of the VolumeSnapshot that will bind it.
        snapshot_name: String,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    },
    /// Create a VolumeSnapshot that binds this content.
    CreateSnapshot {
        namespace: String,
        /// Computed name.
        name: String,
        /// Name of the content.
        content: String,
        class: String,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    },
    /// Create the unbound VolumeGroupSnapshotContent with the group handle for the time that members are
    /// rebuilt.
    CreateStub(Unbound),
    /// Create the unbound VolumeGroupSnapshotContent whose deletion makes the csi-snapshotter free the group.
    CreateImport {
        content: Unbound,
        /// Secret that the driver needs for the deletion.
        secret: Option<SecretRef>,
    },
    /// Delete a VolumeSnapshot of a member during a rollback.
    DeleteSnapshot {
        snapshot: ObjectId,
    },
    /// Delete a VolumeSnapshotContent that is no longer needed. Its being-deleted annotation is written
    /// first.
    DeleteContent {
        content: ObjectId,
        /// Version of the object, if storage depends on it: the call fails if another client has set it to
        /// Delete.
        resource_version: Option<String>,
        annotations: Entry,
    },
}

/// Kind and member of an effect, for the journal and for users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectRef {
    pub kind: EffectKind,
    /// Index of the member in the plan; `None` for an effect on the group.
    pub member: Option<u16>,
}

/// The kinds of [`Effect`], without their arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)] // Each is the variant of `Effect` with the same name.
#[serde(rename_all = "camelCase")]
pub enum EffectKind {
    CreateGroup,
    ClaimGroup,
    LabelMember,
    SetGroupContentPolicy,
    SetContentPolicy,
    SetGroupName,
    DetachMember,
    DeleteGroup,
    MarkGroupContent,
    DeleteGroupContent,
    CreateContent,
    CreateSnapshot,
    CreateStub,
    DeleteSnapshot,
    DeleteContent,
    CreateImport,
}

impl EffectKind {
    /// Verb of the call, for users.
    pub fn verb(self) -> &'static str {
        match self {
            Self::CreateGroup
            | Self::CreateContent
            | Self::CreateSnapshot
            | Self::CreateStub
            | Self::CreateImport => "create",
            Self::DeleteGroup | Self::DeleteGroupContent | Self::DeleteSnapshot | Self::DeleteContent => {
                "delete"
            }
            Self::SetGroupName => "patch status of",
            Self::ClaimGroup
            | Self::LabelMember
            | Self::SetGroupContentPolicy
            | Self::SetContentPolicy
            | Self::DetachMember
            | Self::MarkGroupContent => "patch",
        }
    }

    /// Kind of the object that the call changes.
    pub fn object(self) -> &'static str {
        match self {
            Self::CreateGroup | Self::ClaimGroup | Self::DeleteGroup => "VolumeGroupSnapshot",
            Self::SetGroupContentPolicy
            | Self::MarkGroupContent
            | Self::DeleteGroupContent
            | Self::CreateStub
            | Self::CreateImport => "VolumeGroupSnapshotContent",
            Self::LabelMember
            | Self::SetGroupName
            | Self::DetachMember
            | Self::CreateSnapshot
            | Self::DeleteSnapshot => "VolumeSnapshot",
            Self::SetContentPolicy | Self::CreateContent | Self::DeleteContent => "VolumeSnapshotContent",
        }
    }
}

impl Effect {
    /// The object that the call changes.
    pub fn about(&self) -> About {
        let (namespace, name) = match self {
            Self::CreateGroup { namespace, name, .. } | Self::CreateSnapshot { namespace, name, .. } => {
                (namespace.as_str(), name)
            }
            Self::CreateContent { name, .. } => ("", name),
            Self::CreateStub(content) | Self::CreateImport { content, .. } => ("", &content.name),
            Self::ClaimGroup { group: id, .. }
            | Self::DeleteGroup { group: id, .. }
            | Self::LabelMember { snapshot: id, .. }
            | Self::SetGroupName { snapshot: id, .. }
            | Self::DetachMember { snapshot: id, .. }
            | Self::DeleteSnapshot { snapshot: id }
            | Self::SetGroupContentPolicy { content: id, .. }
            | Self::SetContentPolicy { content: id, .. }
            | Self::MarkGroupContent { content: id, .. }
            | Self::DeleteGroupContent { content: id, .. }
            | Self::DeleteContent { content: id, .. } => (id.namespace.as_str(), &id.name),
        };
        About::new(self.kind().object(), namespace, name)
    }

    pub fn kind(&self) -> EffectKind {
        match self {
            Self::CreateGroup { .. } => EffectKind::CreateGroup,
            Self::ClaimGroup { .. } => EffectKind::ClaimGroup,
            Self::LabelMember { .. } => EffectKind::LabelMember,
            Self::SetGroupContentPolicy { .. } => EffectKind::SetGroupContentPolicy,
            Self::SetContentPolicy { .. } => EffectKind::SetContentPolicy,
            Self::SetGroupName { .. } => EffectKind::SetGroupName,
            Self::DetachMember { .. } => EffectKind::DetachMember,
            Self::DeleteGroup { .. } => EffectKind::DeleteGroup,
            Self::MarkGroupContent { .. } => EffectKind::MarkGroupContent,
            Self::DeleteGroupContent { .. } => EffectKind::DeleteGroupContent,
            Self::CreateContent { .. } => EffectKind::CreateContent,
            Self::CreateSnapshot { .. } => EffectKind::CreateSnapshot,
            Self::CreateStub(_) => EffectKind::CreateStub,
            Self::CreateImport { .. } => EffectKind::CreateImport,
            Self::DeleteSnapshot { .. } => EffectKind::DeleteSnapshot,
            Self::DeleteContent { .. } => EffectKind::DeleteContent,
        }
    }
}

impl EffectReference for EffectRef {
    /// As in the records: the variant in camelCase.
    fn kind(self) -> &'static str {
        match self.kind {
            EffectKind::CreateGroup => "createGroup",
            EffectKind::ClaimGroup => "claimGroup",
            EffectKind::LabelMember => "labelMember",
            EffectKind::SetGroupContentPolicy => "setGroupContentPolicy",
            EffectKind::SetContentPolicy => "setContentPolicy",
            EffectKind::SetGroupName => "setGroupName",
            EffectKind::DetachMember => "detachMember",
            EffectKind::DeleteGroup => "deleteGroup",
            EffectKind::MarkGroupContent => "markGroupContent",
            EffectKind::DeleteGroupContent => "deleteGroupContent",
            EffectKind::CreateContent => "createContent",
            EffectKind::CreateSnapshot => "createSnapshot",
            EffectKind::CreateStub => "createStub",
            EffectKind::DeleteSnapshot => "deleteSnapshot",
            EffectKind::DeleteContent => "deleteContent",
            EffectKind::CreateImport => "createImport",
        }
    }

    fn member(self) -> Option<u16> {
        self.member
    }
}
