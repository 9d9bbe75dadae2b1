//! Deletes a VolumeSnapshot.
//!
//! The deletion of a member waits while a VolumeGroupSnapshot with the name in its status exists. It is
//! retried by back-off only: the deletion of that group does not trigger it. Then the controller annotates
//! the content, deletes it if its own policy is Delete, and removes the finalizers.

use std::sync::Arc;

use serde_json::Value;

use super::snapshot::content_name;
use super::{Controller, SNAPSHOT_REF, refers_to};
use crate::actors::object;
use crate::actors::recorder::Severity;
use crate::actors::strings::{DELETE, annotation, finalizer, plural};

/// Returns whether the snapshot is being deleted and has a finalizer of the controller.
pub(super) fn is_deletion_candidate(snapshot: &Value) -> bool {
    let ours = [finalizer::AS_SOURCE, finalizer::SNAPSHOT_BOUND, finalizer::IN_GROUP];
    object::is_deleting(snapshot) && ours.iter().any(|name| object::has_finalizer(snapshot, name))
}

impl Controller {
    pub(super) async fn delete_snapshot(&self, snapshot: &Arc<Value>) -> Result<(), String> {
        if !is_deletion_candidate(snapshot) {
            return Ok(());
        }
        let content = self.bound_content(snapshot);
        if content.is_some() && self.is_being_restored(snapshot) {
            let message = "Snapshot is being used to restore a PVC";
            self.recorder.event(snapshot, Severity::Warning, "SnapshotDeletePending", message);
            return Err(message.to_owned());
        }
        let group = object::text(snapshot, "/status/volumeGroupSnapshotName");
        if let Some(group) = group {
            self.check_group_is_gone(snapshot, group)?;
        }
        let mut content_goes = false;
        if let Some(content) = content {
            content_goes = object::text(&content, "/spec/deletionPolicy") == Some(DELETE);
            self.annotate(&self.contents, &content, annotation::BEING_DELETED).await?;
            if content_goes {
                self.delete_content(snapshot, object::name(&content)).await?;
            }
        }
        let mut removed = vec![finalizer::AS_SOURCE];
        if !content_goes {
            removed.push(finalizer::SNAPSHOT_BOUND);
        }
        if group.is_some() {
            removed.push(finalizer::IN_GROUP);
        }
        self.unprotect(snapshot, &removed).await
    }

    /// The content that the snapshot is bound to, if it refers back to the snapshot.
    fn bound_content(&self, snapshot: &Value) -> Option<Arc<Value>> {
        let bound = object::text(snapshot, "/status/boundVolumeSnapshotContentName").map(str::to_owned);
        let is_dynamic = object::text(snapshot, "/spec/source/persistentVolumeClaimName").is_some();
        let name = bound.or_else(|| is_dynamic.then(|| content_name(snapshot)))?;
        self.contents.newest.get(&name).filter(|content| refers_to(content, SNAPSHOT_REF, snapshot))
    }

    fn check_group_is_gone(&self, snapshot: &Value, group: &str) -> Result<(), String> {
        let group_key = object::join(object::namespace(snapshot), group);
        if !self.handles_groups || self.groups.cache.get(&group_key).is_none() {
            return Ok(());
        }
        let message = format!(
            "deletion of the individual volume snapshot {} is not allowed as it belongs to group snapshot \
             {group_key}. Deleting the group snapshot will trigger the deletion of all the individual volume \
             snapshots that are part of the group.",
            object::key(snapshot)
        );
        self.recorder.event(snapshot, Severity::Warning, "SnapshotDeletePending", message.clone());
        Err(message)
    }

    async fn delete_content(&self, snapshot: &Value, name: &str) -> Result<(), String> {
        self.client.delete(plural::CONTENTS, None, name).await.map_err(|status| {
            let message = "Failed to delete snapshot content API object";
            self.recorder.event(snapshot, Severity::Warning, "SnapshotContentObjectDeleteError", message);
            format!("failed to delete VolumeSnapshotContent {name} from API server: {:?}", status.message)
        })
    }

    async fn unprotect(&self, snapshot: &Value, finalizers: &[&str]) -> Result<(), String> {
        self.release_pvc(snapshot, true).await?;
        let mut wanted = snapshot.clone();
        let left = object::without_finalizers(snapshot, finalizers);
        object::set(&mut wanted, &["metadata", "finalizers"], left);
        self.update(&self.snapshots, wanted).await.map(drop)
    }
}
