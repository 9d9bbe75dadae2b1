//! Carries the result of a call: an object that is applied to the caches at once, before the watch delivers
//! it.

use std::sync::Arc;

use kube::Resource;
use serde::de::DeserializeOwned;

use crate::api::{
    Backup, VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeSnapshot, VolumeSnapshotContent,
};
use crate::domain::ids::ObjectId;
use crate::machine::kit::Kind;

/// An object as it was after a call.
#[derive(Debug, Clone)]
pub enum ObjectChange {
    Group(Arc<VolumeGroupSnapshot>),
    GroupContent(Arc<VolumeGroupSnapshotContent>),
    Snapshot(Arc<VolumeSnapshot>),
    Content(Arc<VolumeSnapshotContent>),
    Backup(Arc<Backup>),
    /// A kind without a cache.
    Uncached,
    /// This object does not exist any more. A uid is never reused, whatever object takes its name.
    Gone(Kind, ObjectId),
}

/// SUBTLE: when a patch removes the last finalizer of a terminating object, the API server returns the object
/// in its answer and removes it in the same operation. An object that is terminating and has no finalizer is
/// therefore gone.
pub(super) fn object<K: Resource + DeserializeOwned>(
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
