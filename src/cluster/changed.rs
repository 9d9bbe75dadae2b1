//! What a call brought back: an object that enters the caches at once, before the watch delivers it.

use std::sync::Arc;

use kube::Resource;
use serde::de::DeserializeOwned;

use crate::api::{
    Backup, VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeSnapshot, VolumeSnapshotContent,
};
use crate::domain::ids::ObjectId;

/// The kinds that effects touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// VolumeGroupSnapshot.
    Group,
    /// VolumeGroupSnapshotContent.
    GroupContent,
    /// VolumeSnapshot.
    Snapshot,
    /// VolumeSnapshotContent.
    Content,
}

impl Kind {
    /// Whether it belongs to `groupsnapshot.storage.k8s.io`.
    pub fn is_of_group_api(self) -> bool {
        matches!(self, Self::Group | Self::GroupContent)
    }
}

/// An object as it was after a call.
#[derive(Debug, Clone)]
pub enum ObjectChange {
    /// A VolumeGroupSnapshot.
    Group(Arc<VolumeGroupSnapshot>),
    /// A VolumeGroupSnapshotContent.
    GroupContent(Arc<VolumeGroupSnapshotContent>),
    /// A VolumeSnapshot.
    Snapshot(Arc<VolumeSnapshot>),
    /// A VolumeSnapshotContent.
    Content(Arc<VolumeSnapshotContent>),
    /// A Backup.
    Backup(Arc<Backup>),
    /// This object does not exist any more. A uid never comes back, whatever takes its name.
    Gone(Kind, ObjectId),
}

impl ObjectChange {
    /// Reads the object of an answer.
    pub(super) fn read(kind: Kind, answer: &str) -> Result<Self, serde_json::Error> {
        match kind {
            Kind::Group => object(kind, answer, Self::Group),
            Kind::GroupContent => object(kind, answer, Self::GroupContent),
            Kind::Snapshot => object(kind, answer, Self::Snapshot),
            Kind::Content => object(kind, answer, Self::Content),
        }
    }
}

/// SUBTLE: the API server answers a patch which takes the last finalizer off an object that is being deleted with the
/// object, and removes it in the same breath. What is terminating and has no finalizer is therefore gone.
fn object<K: Resource + DeserializeOwned>(
    kind: Kind,
    answer: &str,
    wrap: fn(Arc<K>) -> ObjectChange,
) -> Result<ObjectChange, serde_json::Error> {
    let mut object: K = serde_json::from_str(answer)?;
    object.meta_mut().managed_fields = None;
    let meta = object.meta();
    let held = meta.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty());
    if meta.deletion_timestamp.is_some() && !held {
        return Ok(ObjectChange::Gone(kind, super::observe::id(meta)));
    }
    Ok(wrap(Arc::new(object)))
}
