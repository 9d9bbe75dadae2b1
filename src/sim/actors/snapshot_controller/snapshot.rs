//! Reconciles VolumeSnapshots: finalizers, binding, and the ownership of group members.

use std::sync::Arc;

use serde_json::{Value, json};

use super::class::NoClass;
use super::{Controller, SNAPSHOT_REF, may_refer_to, refers_to, update_failure};
use crate::actors::object;
use crate::actors::recorder::Severity;
use crate::actors::strings::{DELETE, finalizer, plural};

/// `snapcontent-<uid>`, the name of the content of a single dynamic snapshot.
pub(super) fn content_name(snapshot: &Value) -> String {
    format!("snapcontent-{}", object::uid(snapshot))
}

fn static_source(snapshot: &Value) -> Option<&str> {
    object::text(snapshot, "/spec/source/volumeSnapshotContentName")
}

impl Controller {
    pub(super) async fn sync_snapshot_key(&self, key: &str) -> Result<(), String> {
        let Some(snapshot) = self.snapshots.cache.get(key) else {
            if let Some(removed) = self.snapshots.newest.remove(key)
                && let Some(content) = object::text(&removed, "/status/boundVolumeSnapshotContentName")
            {
                self.contents.queue.add(content);
            }
            return Ok(());
        };
        let snapshot = match self.with_class(snapshot.clone()).await {
            Ok(settled) => settled,
            Err(NoClass::Missing(_)) if object::is_deleting(&snapshot) => snapshot,
            Err(reason) => return Err(reason.message()),
        };
        if !self.snapshots.newest.update(&snapshot) {
            return Ok(());
        }
        self.sync_snapshot(&snapshot).await
    }

    async fn sync_snapshot(&self, snapshot: &Arc<Value>) -> Result<(), String> {
        if self.release_pvc(snapshot, false).await.is_err() {
            let message = "Error check and remove PVC Finalizer for VolumeSnapshot";
            self.recorder.event(snapshot, Severity::Warning, "ErrorPVCFinalizer", message);
        }
        if object::is_deleting(snapshot) && !self.protects_its_pvc(snapshot) {
            return self.delete_snapshot(snapshot).await;
        }
        let content = self.content_of_snapshot(snapshot).await?;
        self.protect_snapshot(snapshot, content.as_deref()).await?;
        let is_ready = object::flag(snapshot, "/status/readyToUse") == Some(true)
            && object::text(snapshot, "/status/boundVolumeSnapshotContentName").is_some();
        if is_ready { self.check_ready(snapshot).await } else { self.bind(snapshot, content).await }
    }

    fn protects_its_pvc(&self, snapshot: &Value) -> bool {
        object::flag(snapshot, "/status/readyToUse") != Some(true)
            && self
                .pvc_of_snapshot(snapshot)
                .is_ok_and(|pvc| object::has_finalizer(&pvc, finalizer::PVC_AS_SOURCE))
    }

    /// The content of a static snapshot or of a single dynamic one. It does not find the content of a group
    /// member, which has a different name.
    async fn content_of_snapshot(&self, snapshot: &Arc<Value>) -> Result<Option<Arc<Value>>, String> {
        let wanted = static_source(snapshot);
        let name = wanted.map_or_else(|| content_name(snapshot), str::to_owned);
        let Some(content) = self.contents.newest.get(&name) else { return Ok(None) };
        let content_is_static = object::text(&content, "/spec/source/snapshotHandle").is_some();
        if content_is_static != wanted.is_some() {
            let message = if content_is_static {
                format!(
                    "VolumeSnapshotContent {name} is pre-provisioned while expecting a dynamically provisioned one"
                )
            } else {
                "VolumeSnapshotContent is dynamically provisioned while expecting a pre-provisioned one"
                    .to_owned()
            };
            self.write_error(&self.snapshots, snapshot, true, "SnapshotContentMismatch", message.clone())
                .await;
            return Err(message);
        }
        let points_back = match wanted {
            Some(_) => may_refer_to(&content, SNAPSHOT_REF, snapshot),
            None => refers_to(&content, SNAPSHOT_REF, snapshot),
        };
        if !points_back {
            let message = format!("VolumeSnapshotContent [{name}] is bound to a different snapshot");
            self.write_error(&self.snapshots, snapshot, true, "SnapshotContentMisbound", message.clone())
                .await;
            return Err(message);
        }
        Ok(Some(content))
    }

    /// Adds the missing finalizers: as-source always; bound if the status names a known content with the
    /// policy Delete. No code here restores the in-group finalizer.
    async fn protect_snapshot(&self, snapshot: &Value, content: Option<&Value>) -> Result<(), String> {
        let content_goes = object::text(snapshot, "/status/boundVolumeSnapshotContentName").is_some()
            && content.is_some_and(|content| object::text(content, "/spec/deletionPolicy") == Some(DELETE));
        let wanted = [(finalizer::AS_SOURCE, true), (finalizer::SNAPSHOT_BOUND, content_goes)];
        let missing: Vec<&str> = wanted
            .into_iter()
            .filter(|(name, wanted)| *wanted && !object::has_finalizer(snapshot, name))
            .map(|(name, _)| name)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let present = object::items(snapshot, "/metadata/finalizers");
        if present.is_empty() {
            // A replacement conflicts with any write that the controller has not seen.
            let mut updated = snapshot.clone();
            object::set(&mut updated, &["metadata", "finalizers"], json!(missing));
            return self.update(&self.snapshots, updated).await.map(drop);
        }
        let operations = missing
            .iter()
            .map(|name| json!({"op": "add", "path": "/metadata/finalizers/-", "value": name}))
            .collect();
        self.patch(&self.snapshots, snapshot, operations).await.map(drop)
    }

    /// Checks the binding of a ready snapshot, and restores the owner reference to the group that its status
    /// names.
    async fn check_ready(&self, snapshot: &Arc<Value>) -> Result<(), String> {
        let bound = object::text(snapshot, "/status/boundVolumeSnapshotContentName").unwrap_or_default();
        let Some(content) = self.contents.newest.get(bound) else {
            let message = "VolumeSnapshotContent is missing";
            self.write_error(&self.snapshots, snapshot, true, "SnapshotContentMissing", message).await;
            return Ok(());
        };
        if !refers_to(&content, SNAPSHOT_REF, snapshot) {
            let message = "VolumeSnapshotContent is not bound to the VolumeSnapshot correctly";
            self.write_error(&self.snapshots, snapshot, true, "SnapshotMisbound", message).await;
            return Ok(());
        }
        match object::text(snapshot, "/status/volumeGroupSnapshotName") {
            Some(group) if self.handles_groups && !self.is_member(snapshot) => {
                self.put_ownership_back(snapshot, group).await
            }
            _ => Ok(()),
        }
    }

    /// Adds the owner reference of the group that the status names. The group is found by name only.
    async fn put_ownership_back(&self, snapshot: &Value, group: &str) -> Result<(), String> {
        let key = object::join(object::namespace(snapshot), group);
        let group =
            self.groups.cache.get(&key).ok_or_else(|| {
                format!("volumegroupsnapshot.groupsnapshot.storage.k8s.io {group:?} not found")
            })?;
        let mut owners = object::items(snapshot, "/metadata/ownerReferences").to_vec();
        owners.push(self.owner_reference(&group));
        let mut wanted = snapshot.clone();
        object::set(&mut wanted, &["metadata", "ownerReferences"], Value::Array(owners));
        let updated = self.client.update(plural::SNAPSHOTS, wanted).await;
        updated.map(drop).map_err(|status| update_failure(snapshot, &status.message))
    }

    async fn bind(&self, snapshot: &Arc<Value>, content: Option<Arc<Value>>) -> Result<(), String> {
        if let Some(wanted) = static_source(snapshot) {
            return self.bind_static(snapshot, wanted, content).await;
        }
        if self.is_member(snapshot) {
            return self.bind_member(snapshot).await;
        }
        if let Some(content) = content {
            return self.copy_status(snapshot, &content).await;
        }
        match self.create_content(snapshot).await {
            Ok(content) => self.copy_status(snapshot, &content).await,
            Err(error) => {
                let message = format!("Failed to create snapshot content with error {error}");
                self.write_error(&self.snapshots, snapshot, true, "SnapshotContentCreationFailed", message)
                    .await;
                Err(error)
            }
        }
    }

    async fn bind_static(
        &self,
        snapshot: &Arc<Value>,
        wanted: &str,
        content: Option<Arc<Value>>,
    ) -> Result<(), String> {
        let Some(content) = content else {
            let message = "VolumeSnapshotContent is missing";
            self.write_error(&self.snapshots, snapshot, true, "SnapshotContentMissing", message).await;
            let key = object::key(snapshot);
            return Err(format!("snapshot {key} requests an non-existing content {wanted}"));
        };
        let bound = self.bind_content(snapshot, content).await?;
        self.copy_status(snapshot, &bound).await
    }

    /// Writes the uid of the snapshot, and its class if it has one, into a static content.
    async fn bind_content(&self, snapshot: &Value, content: Arc<Value>) -> Result<Arc<Value>, String> {
        let is_bound = object::text(&content, "/spec/volumeSnapshotRef/uid").is_some();
        if is_bound && object::text(&content, "/spec/volumeSnapshotClassName").is_some() {
            return Ok(content);
        }
        let uid = object::uid(snapshot);
        let mut operations =
            vec![json!({"op": "replace", "path": "/spec/volumeSnapshotRef/uid", "value": uid})];
        if let Some(class) = object::text(snapshot, "/spec/volumeSnapshotClassName") {
            let path = "/spec/volumeSnapshotClassName";
            operations.push(json!({"op": "replace", "path": path, "value": class}));
        }
        self.patch(&self.contents, &content, Value::Array(operations)).await
    }

    async fn bind_member(&self, snapshot: &Arc<Value>) -> Result<(), String> {
        let key = object::key(snapshot);
        let bound = object::text(snapshot, "/status/boundVolumeSnapshotContentName")
            .ok_or_else(|| format!("detected group snapshot member {key} with no content, retrying"))?;
        let content =
            self.contents.newest.get(bound).ok_or_else(|| {
                format!("group snapshot member {key} requests an non-existing content {bound}")
            })?;
        self.copy_status(snapshot, &content).await
    }

    /// Creates the content of a single snapshot. A member whose owner reference was removed before it was
    /// ready gets such a content too, and with it a second physical snapshot.
    async fn create_content(&self, snapshot: &Value) -> Result<Arc<Value>, String> {
        let (name, key) = (object::name(snapshot), object::key(snapshot));
        self.protect_pvc(snapshot).await?;
        let wrong_input =
            |error: String| format!("failed to get input parameters to create snapshot {name}: {error:?}");
        let class_name = object::text(snapshot, "/spec/volumeSnapshotClassName").unwrap_or_default();
        let class = self
            .classes
            .get(class_name)
            .ok_or_else(|| wrong_input(format!("failed to take snapshot {name} without a snapshot class")))?;
        let volume = self.volume_of_snapshot(snapshot).await.map_err(wrong_input)?;
        let handle = object::text(&volume, "/spec/csi/volumeHandle").ok_or_else(|| {
            format!("cannot find CSI PersistentVolumeSource for volume {}", object::name(&volume))
        })?;
        let body = content_body(snapshot, &class, &volume, handle);
        let created = match self.client.create(plural::CONTENTS, body.clone()).await {
            Ok(created) => created,
            Err(status) if status.is_already_exists() => Arc::new(body),
            Err(status) => {
                let message = format!(
                    "Error creating volume snapshot content object for snapshot {key}: {}.",
                    status.message
                );
                self.recorder.event(snapshot, Severity::Warning, "CreateSnapshotContentFailed", message);
                return Err(update_failure(snapshot, &status.message));
            }
        };
        let message = format!("Waiting for a snapshot {key} to be created by the CSI driver.");
        self.recorder.event(snapshot, Severity::Normal, "CreatingSnapshot", message);
        self.contents.newest.update(&created);
        Ok(created)
    }
}

fn content_body(snapshot: &Value, class: &Value, volume: &Value, handle: &str) -> Value {
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": content_name(snapshot)},
        "spec": {
            "deletionPolicy": class["deletionPolicy"],
            "driver": class["driver"],
            "source": {"volumeHandle": handle},
            "sourceVolumeMode": volume["spec"]["volumeMode"],
            "volumeSnapshotClassName": object::name(class),
            "volumeSnapshotRef": {
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshot",
                "name": object::name(snapshot),
                "namespace": object::namespace(snapshot),
                "resourceVersion": snapshot["metadata"]["resourceVersion"],
                "uid": object::uid(snapshot),
            },
        },
    })
}
