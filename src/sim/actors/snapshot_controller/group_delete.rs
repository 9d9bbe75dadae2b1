//! Deletes a VolumeGroupSnapshot.
//!
//! - The controller annotates the content as being deleted under both policies, and deletes it under the
//!   policy Delete.
//! - It deletes every member under both policies.
//! - It removes the finalizer at once under Retain, and together with the content under Delete.
//!
//! All of these decisions use the controller's view, which may be stale.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Controller, GROUP_REF, refers_to};
use crate::actors::object;
use crate::actors::recorder::Severity;
use crate::actors::strings::{DELETE, annotation, finalizer, plural};

impl Controller {
    /// The owner reference of a member, without `controller` and `blockOwnerDeletion`.
    pub(super) fn owner_reference(&self, group: &Value) -> Value {
        json!({
            "apiVersion": self.group_api_version,
            "kind": "VolumeGroupSnapshot",
            "name": object::name(group),
            "uid": object::uid(group),
        })
    }

    /// Returns whether the snapshot has an owner reference of that kind and of exactly the version of the
    /// controller.
    pub(super) fn is_member(&self, snapshot: &Value) -> bool {
        self.owner_name(snapshot).is_some()
    }

    fn owner_name<'a>(&self, snapshot: &'a Value) -> Option<&'a str> {
        let owners = object::items(snapshot, "/metadata/ownerReferences").iter();
        owners
            .filter(|owner| object::text(owner, "/kind") == Some("VolumeGroupSnapshot"))
            .find(|owner| object::text(owner, "/apiVersion") == Some(self.group_api_version.as_str()))
            .and_then(|owner| object::text(owner, "/name"))
    }

    pub(super) async fn delete_group(&self, group: &Arc<Value>) -> Result<(), String> {
        // The controller never computes the name of a content that is not yet in the status: the condition
        // for that in the real controller is never true.
        let content = object::text(group, "/status/boundVolumeGroupSnapshotContentName")
            .and_then(|name| self.group_contents.newest.get(name))
            .filter(|content| refers_to(content, GROUP_REF, group));
        if !object::has_finalizer(group, finalizer::GROUP_BOUND) {
            return Ok(());
        }
        let members = self.members_in_cache(group);
        for member in &members {
            if self.is_being_restored(member) {
                return self.wait_for_restore(group, member);
            }
        }
        let mut content_goes = false;
        if let Some(content) = content {
            content_goes = object::text(&content, "/spec/deletionPolicy") == Some(DELETE);
            let marked =
                self.annotate(&self.group_contents, &content, annotation::GROUP_BEING_DELETED).await?;
            if content_goes {
                self.delete_group_content(group, &marked).await?;
            }
        }
        self.delete_members(group, &members).await?;
        if content_goes {
            return Ok(());
        }
        let mut wanted = Value::clone(group);
        let left = object::without_finalizers(group, &[finalizer::GROUP_BOUND]);
        object::set(&mut wanted, &["metadata", "finalizers"], left);
        self.update(&self.groups, wanted).await.map(drop)
    }

    /// The snapshots in the cache whose owner reference has the name of the group.
    fn members_in_cache(&self, group: &Value) -> Vec<Arc<Value>> {
        let namespace = object::namespace(group).unwrap_or_default();
        let named = |snapshot: &Value| self.owner_name(snapshot) == Some(object::name(group));
        self.snapshots.cache.select_in(namespace, named)
    }

    fn wait_for_restore(&self, group: &Value, member: &Value) -> Result<(), String> {
        let message = format!(
            "Snapshot {} belonging to VolumeGroupSnapshot {} is being used to restore a PVC",
            object::key(member),
            object::key(group)
        );
        self.recorder.event(group, Severity::Warning, "SnapshotDeletePending", message.clone());
        Err(message)
    }

    async fn delete_group_content(&self, group: &Value, content: &Value) -> Result<(), String> {
        let name = object::name(content);
        self.client.delete(plural::GROUP_CONTENTS, None, name).await.map_err(|status| {
            // This Event also occurs in successful deletions, if the cache still has a content that is
            // gone.
            let message = "Failed to delete group snapshot content API object";
            self.recorder.event(group, Severity::Warning, "GroupSnapshotContentObjectDeleteError", message);
            format!(
                "failed to delete VolumeGroupSnapshotContent {name} from API server: {:?}",
                status.message
            )
        })
    }

    async fn delete_members(&self, group: &Value, members: &[Arc<Value>]) -> Result<(), String> {
        for member in members {
            let (namespace, name) = (object::namespace(member), object::name(member));
            let deleted = self.client.delete(plural::SNAPSHOTS, namespace, name).await;
            if let Err(status) =
                deleted.or_else(|status| if status.is_not_found() { Ok(()) } else { Err(status) })
            {
                let message = format!(
                    "failed to delete snapshot API object {} part of group snapshot {}: {}",
                    object::key(member),
                    object::key(group),
                    status.message
                );
                self.recorder.event(group, Severity::Warning, "SnapshotDeleteError", message.clone());
                return Err(message);
            }
        }
        Ok(())
    }
}
