//! Reconciles VolumeGroupSnapshots: from the selector to a content with fixed volume handles, then to
//! members.
//!
//! The group gets its finalizer one sync after its status names its content. If a client deletes the group
//! before that, no object owns the content and its storage any more.

use std::sync::Arc;

use serde_json::{Value, json};

use super::class::NoClass;
use super::{Controller, GROUP_REF, may_refer_to, refers_to, update_failure};
use crate::actors::object;
use crate::actors::recorder::Severity;
use crate::actors::strings::{finalizer, plural};
use crate::pointer::At;

/// `groupsnapcontent-<uid>`, the name of the content of a dynamic group.
pub(super) fn content_name(group: &Value) -> String {
    format!("groupsnapcontent-{}", object::uid(group))
}

impl Controller {
    pub(super) async fn sync_group_key(&self, key: &str) -> Result<(), String> {
        let Some(group) = self.groups.cache.get(key) else {
            if let Some(removed) = self.groups.newest.remove(key)
                && let Some(content) = object::text(&removed, "/status/boundVolumeGroupSnapshotContentName")
            {
                self.group_contents.queue.add(content);
            }
            return Ok(());
        };
        let group = match self.with_group_class(group.clone()).await {
            Ok(settled) => settled,
            Err(NoClass::Missing(_)) if object::is_deleting(&group) => group,
            Err(reason) => return Err(reason.message()),
        };
        if !self.groups.newest.update(&group) {
            return Ok(());
        }
        self.sync_group(&group).await
    }

    async fn sync_group(&self, group: &Arc<Value>) -> Result<(), String> {
        if object::is_deleting(group) {
            return self.delete_group(group).await;
        }
        let content = self.content_of_group(group).await?;
        let is_bound = object::text(group, "/status/boundVolumeGroupSnapshotContentName").is_some();
        if is_bound && content.is_some() && !object::has_finalizer(group, finalizer::GROUP_BOUND) {
            self.protect_group(group).await?;
        }
        let is_ready = is_bound && object::flag(group, "/status/readyToUse") == Some(true);
        if is_ready {
            return self.check_ready_group(group).await;
        }
        match (object::text(group, "/spec/source/volumeGroupSnapshotContentName"), content) {
            (Some(wanted), content) => self.bind_static_group(group, wanted, content).await,
            (None, Some(content)) => {
                self.create_members(&content, group).await?;
                self.copy_group_status(group, &content).await
            }
            (None, None) => self.start_group(group).await,
        }
    }

    /// Adds the finalizer by a replacement, which conflicts with any write that the controller has not seen.
    async fn protect_group(&self, group: &Arc<Value>) -> Result<(), String> {
        if !object::items(group, "/metadata/finalizers").is_empty() {
            return self.add_finalizer(&self.groups, group, finalizer::GROUP_BOUND).await.map(drop);
        }
        let mut wanted = Value::clone(group);
        object::set(&mut wanted, &["metadata", "finalizers"], json!([finalizer::GROUP_BOUND]));
        self.update(&self.groups, wanted).await.map(drop)
    }

    /// The content of the group, dynamic or static, if the controller knows a content that refers back to the
    /// group.
    async fn content_of_group(&self, group: &Arc<Value>) -> Result<Option<Arc<Value>>, String> {
        let wanted = object::text(group, "/spec/source/volumeGroupSnapshotContentName");
        let name = wanted.map_or_else(|| content_name(group), str::to_owned);
        let Some(content) = self.group_contents.newest.get(&name) else { return Ok(None) };
        let content_is_static = content.at("/spec/source/groupSnapshotHandles").is_some();
        if content_is_static != wanted.is_some() {
            let message = if content_is_static {
                format!(
                    "VolumeGroupSnapshotContent {name} is pre-provisioned while expecting a dynamically provisioned one"
                )
            } else {
                "VolumeGroupSnapshotContent is dynamically provisioned while expecting a pre-provisioned one"
                    .to_owned()
            };
            self.write_error(&self.groups, group, true, "GroupSnapshotContentMismatch", message.clone())
                .await;
            return Err(message);
        }
        let points_back = match wanted {
            Some(_) => may_refer_to(&content, GROUP_REF, group),
            None => refers_to(&content, GROUP_REF, group),
        };
        if !points_back {
            let message =
                format!("VolumeGroupSnapshotContent [{name}] is bound to a different group snapshot");
            self.write_error(&self.groups, group, true, "GroupSnapshotContentMisbound", message.clone())
                .await;
            return Err(message);
        }
        Ok(Some(content))
    }

    async fn check_ready_group(&self, group: &Arc<Value>) -> Result<(), String> {
        let bound = object::text(group, "/status/boundVolumeGroupSnapshotContentName").unwrap_or_default();
        match self.group_contents.newest.get(bound) {
            None => {
                let message = "VolumeGroupSnapshotContent is missing";
                self.write_error(&self.groups, group, true, "GroupSnapshotContentMissing", message).await;
            }
            Some(content) if !refers_to(&content, GROUP_REF, group) => {
                let message = "VolumeGroupSnapshotContent is not bound to the VolumeGroupSnapshot correctly";
                self.write_error(&self.groups, group, true, "GroupSnapshotMisbound", message).await;
            }
            Some(_) => {}
        }
        Ok(())
    }

    async fn bind_static_group(
        &self,
        group: &Arc<Value>,
        wanted: &str,
        content: Option<Arc<Value>>,
    ) -> Result<(), String> {
        let Some(content) = content else {
            let message = "VolumeGroupSnapshotContent is missing";
            self.write_error(&self.groups, group, true, "GroupSnapshotContentMissing", message).await;
            let key = object::key(group);
            return Err(format!(
                "group snapshot {key} requests an non-existing group snapshot content {wanted}"
            ));
        };
        let bound = self.bind_group_content(group, content).await?;
        self.copy_group_status(group, &bound).await
    }

    /// Writes the uid of the group, and its class if it has one, into a static content.
    async fn bind_group_content(&self, group: &Value, content: Arc<Value>) -> Result<Arc<Value>, String> {
        let is_bound = object::text(&content, "/spec/volumeGroupSnapshotRef/uid").is_some();
        if is_bound && object::text(&content, "/spec/volumeGroupSnapshotClassName").is_some() {
            return Ok(content);
        }
        let uid = object::uid(group);
        let mut operations =
            vec![json!({"op": "replace", "path": "/spec/volumeGroupSnapshotRef/uid", "value": uid})];
        if let Some(class) = object::text(group, "/spec/volumeGroupSnapshotClassName") {
            let path = "/spec/volumeGroupSnapshotClassName";
            operations.push(json!({"op": "replace", "path": path, "value": class}));
        }
        self.patch(&self.group_contents, &content, Value::Array(operations)).await
    }

    async fn start_group(&self, group: &Arc<Value>) -> Result<(), String> {
        match self.create_group_content(group).await {
            Ok(content) => self.copy_group_status(group, &content).await,
            Err(error) => {
                let message = format!("failed to create group snapshot content with error {error}");
                self.write_error(&self.groups, group, true, "GroupSnapshotContentCreationFailed", message)
                    .await;
                Err(error)
            }
        }
    }

    async fn create_group_content(&self, group: &Value) -> Result<Arc<Value>, String> {
        let (name, key) = (object::name(group), object::key(group));
        let wrong_input = |error: String| {
            format!("failed to get input parameters to create group snapshot {name}: {error:?}")
        };
        let class_name = object::text(group, "/spec/volumeGroupSnapshotClassName").unwrap_or_default();
        let class = self.group_classes.get(class_name).ok_or_else(|| {
            wrong_input(format!("failed to take group snapshot {name} without a group snapshot class"))
        })?;
        let volumes = self.volumes_of_group(group).await.map_err(wrong_input)?;
        let handles = self.check_volumes(group, &class, &volumes)?;
        let body = self.group_content_body(group, &class, &handles);
        let created = match self.client.create(plural::GROUP_CONTENTS, body.clone()).await {
            Ok(created) => created,
            Err(status) if status.is_already_exists() => Arc::new(body),
            Err(status) => {
                let error = update_failure(group, &status.message);
                let message = format!(
                    "Error creating volume group snapshot content object for group snapshot {key}: {}.",
                    status.message
                );
                self.recorder.event(group, Severity::Warning, "CreateGroupSnapshotContentFailed", message);
                return Err(error);
            }
        };
        let message = format!("Waiting for a group snapshot {key} to be created by the CSI driver.");
        self.recorder.event(group, Severity::Normal, "CreatingGroupSnapshot", message);
        self.group_contents.newest.update(&created);
        Ok(created)
    }

    /// Returns the handles of the volumes if all of them belong to the driver of the class.
    fn check_volumes(&self, group: &Value, class: &Value, volumes: &[Value]) -> Result<Vec<String>, String> {
        const REASON: &str = "CreateGroupSnapshotContentFailed";
        let key = object::key(group);
        let wanted = object::text(class, "/driver").unwrap_or_default();
        let mut handles = Vec::with_capacity(volumes.len());
        for volume in volumes {
            let name = object::name(volume);
            let Some(driver) = object::text(volume, "/spec/csi/driver") else {
                let message = format!("Cannot snapshot a non-CSI volume: {name}");
                self.recorder.event(group, Severity::Warning, REASON, message);
                return Err(format!("cannot snapshot a non-CSI volume for group snapshot {key}: {name}"));
            };
            if driver != wanted {
                let message = format!(
                    "Volume CSI driver ({driver}) mismatch with VolumeGroupSnapshotClass ({wanted}) {key}: {name}"
                );
                self.recorder.event(group, Severity::Warning, REASON, message.clone());
                return Err(update_failure(group, &message));
            }
            handles.push(object::text(volume, "/spec/csi/volumeHandle").unwrap_or_default().to_owned());
        }
        Ok(handles)
    }

    /// Builds a content without owner and without finalizer. Its reference also has the resourceVersion.
    fn group_content_body(&self, group: &Value, class: &Value, handles: &[String]) -> Value {
        json!({
            "apiVersion": self.group_api_version,
            "kind": "VolumeGroupSnapshotContent",
            "metadata": {"name": content_name(group)},
            "spec": {
                "deletionPolicy": class["deletionPolicy"],
                "driver": class["driver"],
                "source": {"volumeHandles": handles},
                "volumeGroupSnapshotClassName": object::name(class),
                "volumeGroupSnapshotRef": {
                    "apiVersion": self.group_api_version,
                    "kind": "VolumeGroupSnapshot",
                    "name": object::name(group),
                    "namespace": object::namespace(group),
                    "resourceVersion": group["metadata"]["resourceVersion"],
                    "uid": object::uid(group),
                },
            },
        })
    }
}
