//! Effects: calls that change the cluster, as data, with everything that the call needs.
//!
//! Every effect but a create names the uid of the object and the old value of whatever it replaces, so that a call
//! which comes late, twice, or from a daemon that was overtaken fails instead of doing harm. `resource_version` is
//! added only where another writer's unrelated change must stop us: deletes of the group objects, and policies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::ids::ObjectId;
use crate::domain::observed::{DeletionPolicy, Entries, Owner};
use crate::domain::problem::About;
use crate::domain::receipt::SecretRef;

/// Entries to be written into the labels or annotations of an object, and what the object has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole map as it was seen; `None` when the object has none.
    pub seen: Entries,
    /// Keys and values to be written.
    pub write: BTreeMap<String, String>,
}

/// A VolumeGroupSnapshotContent made from the handles of a cut, which no VolumeGroupSnapshot binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbound {
    /// Computed name.
    pub name: String,
    /// CSI driver.
    pub driver: String,
    /// VolumeGroupSnapshotClass.
    pub class: String,
    /// CSI group handle.
    pub group_handle: String,
    /// CSI snapshot handles of all members.
    pub snapshot_handles: Vec<String>,
    /// Namespace of the VolumeGroupSnapshot that it names; none asks for this content.
    pub group_namespace: String,
    /// Name of the VolumeGroupSnapshot that it names.
    pub group_name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// One call that changes the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Create the VolumeGroupSnapshot.
    CreateGroup {
        /// Namespace.
        namespace: String,
        /// Computed name.
        name: String,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Annotations.
        annotations: BTreeMap<String, String>,
        /// VolumeGroupSnapshotClass.
        class: String,
        /// `spec.source.selector.matchLabels`.
        selector: BTreeMap<String, String>,
    },
    /// Take over a VolumeGroupSnapshot from an older epoch: test the old, write the new.
    ClaimGroup {
        /// The VolumeGroupSnapshot.
        group: ObjectId,
        /// Epoch annotation as seen; `None` when it is missing.
        old: Option<String>,
        /// Our epoch.
        new: u64,
    },
    /// Write labels and receipt into a member VolumeSnapshot: one patch.
    LabelMember {
        /// The VolumeSnapshot.
        snapshot: ObjectId,
        /// Labels.
        labels: Entry,
        /// Annotations.
        annotations: Entry,
    },
    /// Set the deletion policy of the VolumeGroupSnapshotContent, with run label and receipt.
    SetGroupContentPolicy {
        /// The VolumeGroupSnapshotContent.
        content: ObjectId,
        /// Its version: whoever changed it meanwhile stops us.
        resource_version: String,
        /// Policy as seen.
        old: DeletionPolicy,
        /// Policy to be written.
        new: DeletionPolicy,
        /// Labels.
        labels: Entry,
        /// Annotations.
        annotations: Entry,
    },
    /// Set the deletion policy of a member's VolumeSnapshotContent, with run label and receipt.
    SetContentPolicy {
        /// The VolumeSnapshotContent.
        content: ObjectId,
        /// Its version.
        resource_version: String,
        /// Policy as seen.
        old: DeletionPolicy,
        /// Policy to be written.
        new: DeletionPolicy,
        /// Labels.
        labels: Entry,
        /// Annotations.
        annotations: Entry,
    },
    /// Write `status.volumeGroupSnapshotName` of a member (status subresource): clear it, or put it back.
    SetGroupName {
        /// The VolumeSnapshot.
        snapshot: ObjectId,
        /// Value as seen.
        old: Option<String>,
        /// Value to be written; `None` clears it.
        new: Option<String>,
    },
    /// Release a member: owner reference, in-group and as-source finalizers out, class in, in one patch that tests
    /// readiness, group name, owners, finalizers and class as seen. Of a member that goes, only the in-group finalizer.
    DetachMember {
        /// The VolumeSnapshot.
        snapshot: ObjectId,
        /// Whether it has to be ready: a member that stays.
        ready: bool,
        /// Group name as seen; it has to be clear while the group lives.
        group_name: Option<String>,
        /// Owners as seen.
        old_owners: Vec<Owner>,
        /// Owners to be left.
        new_owners: Vec<Owner>,
        /// Finalizers as seen.
        old_finalizers: Vec<String>,
        /// Finalizers to be left.
        new_finalizers: Vec<String>,
        /// Class as seen.
        old_class: Option<String>,
        /// Class to be left.
        new_class: Option<String>,
    },
    /// Delete the VolumeGroupSnapshot.
    DeleteGroup {
        /// The VolumeGroupSnapshot.
        group: ObjectId,
        /// Its version.
        resource_version: String,
    },
    /// Write the being-deleted annotation where the controller left it out: without it the sidecar never lets go.
    MarkGroupContent {
        /// The VolumeGroupSnapshotContent.
        content: ObjectId,
        /// Annotations.
        annotations: Entry,
    },
    /// Delete the VolumeGroupSnapshotContent (or the stub, or the import).
    DeleteGroupContent {
        /// The VolumeGroupSnapshotContent.
        content: ObjectId,
        /// Its version; `None` right after our own mark, or for the stub.
        resource_version: Option<String>,
    },
    /// Create a VolumeSnapshotContent from a snapshot handle, for a lost member.
    CreateContent {
        /// Computed name.
        name: String,
        /// CSI driver.
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
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Annotations.
        annotations: BTreeMap<String, String>,
    },
    /// Create a VolumeSnapshot bound to that content.
    CreateSnapshot {
        /// Namespace.
        namespace: String,
        /// Computed name.
        name: String,
        /// Name of the content.
        content: String,
        /// VolumeSnapshotClass.
        class: String,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Annotations.
        annotations: BTreeMap<String, String>,
    },
    /// Create the unbound VolumeGroupSnapshotContent that carries the group handle while members are rebuilt.
    CreateStub(Unbound),
    /// Create the unbound VolumeGroupSnapshotContent by whose deletion the csi-snapshotter frees the group.
    CreateImport {
        /// The content.
        content: Unbound,
        /// Secret that the driver needs for the deletion.
        secret: Option<SecretRef>,
    },
    /// Delete a VolumeSnapshot that is only a shell any more.
    DeleteSnapshot {
        /// The VolumeSnapshot.
        snapshot: ObjectId,
    },
    /// Delete a VolumeSnapshotContent that is only a shell any more; its being-deleted annotation is written first.
    DeleteContent {
        /// The VolumeSnapshotContent.
        content: ObjectId,
        /// Its version, where storage stands behind it: whoever set it to Delete meanwhile stops us.
        resource_version: Option<String>,
        /// Annotations.
        annotations: Entry,
    },
}

/// What kind of call an effect is, for the journal and for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectRef {
    /// Kind of effect.
    pub kind: EffectKind,
    /// Index of the member in the plan; `None` for an effect on the group.
    pub member: Option<u16>,
}

/// The kinds of [`Effect`], without their arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)] // each is the variant of `Effect` with the same name
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
    /// What the call does.
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

    /// Kind of the object that the call is about.
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
    /// The object that the call is about.
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

    /// The kind of this effect.
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

/// How one effect ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It happened; the uid and version that came back, where the answer had an object.
    Done {
        /// Uid of the object; empty when the answer had none.
        uid: String,
        /// Its version after the call; empty when the answer had none.
        resource_version: String,
    },
    /// It certainly did not happen.
    Determinate {
        /// HTTP status.
        code: u16,
        /// Reason and message, clipped.
        message: String,
    },
    /// It may have happened.
    Indeterminate {
        /// What is known, clipped.
        message: String,
    },
}

/// The intent of one step: what is recorded, durably, before the effects. The journal turns it into the token
/// that `cluster::perform` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The missing effects, each with its mark.
    pub effects: Vec<(EffectRef, Effect)>,
}
