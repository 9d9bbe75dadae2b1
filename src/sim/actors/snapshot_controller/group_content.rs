//! Reconciles VolumeGroupSnapshotContents: adds the bound-protection finalizer and enqueues the group.

use std::sync::Arc;

use serde_json::Value;

use super::{Controller, GROUP_REF, referenced_key};
use crate::actors::object;
use crate::actors::strings::finalizer;
use crate::pointer::At;

impl Controller {
    pub(super) async fn sync_group_content_key(&self, key: &str) -> Result<(), String> {
        let Some(content) = self.group_contents.cache.get(key) else {
            if let Some(removed) = self.group_contents.newest.remove(key)
                && let Some(group) = referenced_key(&removed, GROUP_REF)
            {
                self.groups.queue.add(&group);
            }
            return Ok(());
        };
        if !self.group_contents.newest.update(&content) {
            return Ok(());
        }
        self.sync_group_content(&content).await
    }

    async fn sync_group_content(&self, content: &Arc<Value>) -> Result<(), String> {
        let Some(uid) = object::text(content, "/spec/volumeGroupSnapshotRef/uid") else {
            // Static and not bound yet; the reconcile of the group binds it.
            return Ok(());
        };
        if !object::is_deleting(content) && !object::has_finalizer(content, finalizer::GROUP_CONTENT_BOUND) {
            let added = self.add_finalizer(&self.group_contents, content, finalizer::GROUP_CONTENT_BOUND);
            return added.await.map(drop);
        }
        let Some(key) = referenced_key(content, GROUP_REF) else { return Ok(()) };
        let group = self.groups.newest.get(&key).filter(|group| object::uid(group) == uid);
        if group.is_some_and(|group| is_behind(&group, content)) {
            self.groups.queue.add(&key);
        }
        Ok(())
    }
}

/// Returns whether the group's status must be updated from its content. Two present values of readiness
/// always count as different, because the real controller compares their addresses.
fn is_behind(group: &Value, content: &Value) -> bool {
    if !object::has_status(content) {
        return false;
    }
    let lacks = |pointer: &str| {
        group.at(pointer).is_none_or(Value::is_null)
            && content.at(pointer).is_some_and(|found| !found.is_null())
    };
    !object::has_status(group)
        || object::text(group, "/status/boundVolumeGroupSnapshotContentName").is_none()
        || lacks("/status/creationTime")
        || lacks("/status/readyToUse")
        || object::both_present(group, content, "/status/readyToUse")
}
