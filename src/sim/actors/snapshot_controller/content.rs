//! Reconciles VolumeSnapshotContents: adds the bound-protection finalizer and enqueues the snapshot.

use std::sync::Arc;

use serde_json::Value;

use super::snapshot_delete::is_deletion_candidate;
use super::{Controller, SNAPSHOT_REF, referenced_key};
use crate::actors::object;
use crate::actors::strings::{annotation, finalizer};
use crate::pointer::At;

impl Controller {
    pub(super) async fn sync_content_key(&self, key: &str) -> Result<(), String> {
        let Some(content) = self.contents.cache.get(key) else {
            if let Some(removed) = self.contents.newest.remove(key)
                && let Some(snapshot) = referenced_key(&removed, SNAPSHOT_REF)
            {
                self.snapshots.queue.add(&snapshot);
            }
            return Ok(());
        };
        if !self.contents.newest.update(&content) {
            return Ok(());
        }
        self.sync_content(&content).await
    }

    async fn sync_content(&self, content: &Arc<Value>) -> Result<(), String> {
        let Some(uid) = object::text(content, "/spec/volumeSnapshotRef/uid") else {
            // Not bound yet; the reconcile of the snapshot binds it.
            return Ok(());
        };
        if !object::is_deleting(content) && !object::has_finalizer(content, finalizer::CONTENT_BOUND) {
            return self.add_finalizer(&self.contents, content, finalizer::CONTENT_BOUND).await.map(drop);
        }
        let Some(key) = referenced_key(content, SNAPSHOT_REF) else { return Ok(()) };
        let Some(snapshot) = self.snapshots.newest.get(&key).filter(|snapshot| object::uid(snapshot) == uid)
        else {
            // A content without its snapshot is never deleted: it may have been copied from another cluster.
            return Ok(());
        };
        if is_behind(&snapshot, content) {
            self.snapshots.queue.add(&key);
        }
        if is_deletion_candidate(&snapshot) {
            self.annotate(&self.contents, content, annotation::BEING_DELETED).await?;
        }
        Ok(())
    }
}

/// Returns whether the snapshot's status must be updated from its content. Two present values of readiness
/// always count as different, because the real controller compares their addresses.
fn is_behind(snapshot: &Value, content: &Value) -> bool {
    if !object::has_status(content) {
        return false;
    }
    let lacks = |pointer: &str| {
        snapshot.at(pointer).is_none_or(Value::is_null)
            && content.at(pointer).is_some_and(|found| !found.is_null())
    };
    !object::has_status(snapshot)
        || object::text(snapshot, "/status/boundVolumeSnapshotContentName").is_none()
        || lacks("/status/creationTime")
        || lacks("/status/readyToUse")
        || lacks("/status/restoreSize")
        || object::both_present(snapshot, content, "/status/readyToUse")
}
