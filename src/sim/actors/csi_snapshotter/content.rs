//! Reconciles VolumeSnapshotContents: single snapshots, and the readiness of group members and of static
//! contents.
//!
//! This module never deletes a group member in the storage: it does not call DeleteSnapshot if the status has
//! a group handle. A content that is not ready is reconciled again after its back-off.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Sidecar, check_parameters};
use crate::actors::driver::Snapshot;
use crate::actors::object;
use crate::actors::recorder::Severity;
use crate::actors::strings::{DELETE, DRIVER, annotation, finalizer, plural};

fn should_delete(content: &Value) -> bool {
    if !object::is_deleting(content) {
        return false;
    }
    let is_static = object::text(content, "/spec/source/snapshotHandle").is_some();
    if is_static && object::text(content, "/spec/volumeSnapshotRef/uid").is_none() {
        return true;
    }
    !object::has_annotation(content, annotation::BEING_CREATED)
        && object::has_annotation(content, annotation::BEING_DELETED)
}

fn is_ready(content: &Value) -> bool {
    object::flag(content, "/status/readyToUse") == Some(true)
}

fn is_member(content: &Value) -> bool {
    object::has_annotation(content, annotation::GROUP_HANDLE)
}

impl Sidecar {
    pub(super) async fn sync_content(&self, key: &str) -> Result<(), String> {
        let Some(content) = self.contents.cache.get(key) else {
            self.contents.newest.remove(key);
            return Ok(());
        };
        if object::text(&content, "/spec/driver") != Some(DRIVER) || !self.contents.newest.update(&content) {
            return Ok(());
        }
        self.sync_one_content(content).await
    }

    async fn sync_one_content(&self, content: Arc<Value>) -> Result<(), String> {
        if should_delete(&content) {
            let in_group = object::text(&content, "/status/volumeGroupSnapshotHandle").is_some();
            let delete = object::text(&content, "/spec/deletionPolicy") == Some(DELETE) && !in_group;
            return match object::text(&content, "/status/snapshotHandle").filter(|_| delete) {
                Some(handle) => self.delete_snapshot(&content, handle).await,
                None => self.remove_finalizer(&self.contents, &content, finalizer::CONTENT_BOUND).await,
            };
        }
        let is_dynamic = object::text(&content, "/spec/source/volumeHandle").is_some();
        if is_dynamic && !object::has_status(&content) && !is_member(&content) {
            return self
                .update_from_driver(content, "SnapshotCreationFailed", "Failed to create snapshot")
                .await;
        }
        if is_ready(&content) {
            return self.unannotate(&self.contents, content, annotation::BEING_CREATED).await.map(drop);
        }
        const FAILED: &str = "Failed to check and update snapshot content";
        self.update_from_driver(content, "SnapshotContentCheckandUpdateFailed", FAILED).await
    }

    /// Creates the snapshot or reads its state, and retries with back-off if it is not ready.
    async fn update_from_driver(
        &self,
        content: Arc<Value>,
        reason: &'static str,
        failed: &str,
    ) -> Result<(), String> {
        let mut newest = content;
        if let Err(error) = self.try_update_from_driver(&mut newest).await {
            self.write_error(&self.contents, &newest, reason, format!("{failed}: {error}")).await;
            return Err(error);
        }
        self.contents.newest.update(&newest);
        if is_ready(&newest) { Ok(()) } else { Err("not ready yet".to_owned()) }
    }

    async fn try_update_from_driver(&self, content: &mut Arc<Value>) -> Result<(), String> {
        let in_group = object::text(content, "/status/volumeGroupSnapshotHandle").is_some();
        let handle = object::text(content, "/spec/source/snapshotHandle")
            .or_else(|| object::text(content, "/status/snapshotHandle").filter(|_| in_group))
            .map(str::to_owned);
        if let Some(handle) = handle {
            let snapshot = self.list_snapshot(&handle)?;
            *content = self.write_content_status(content, &snapshot).await?;
            return Ok(());
        }
        if is_member(content) { Ok(()) } else { self.cut_single(content).await }
    }

    /// Returns the driver's state of a snapshot. If the driver cannot list snapshots, the snapshot counts as
    /// existing and ready.
    fn list_snapshot(&self, handle: &str) -> Result<Snapshot, String> {
        if !self.storage.can_list_snapshots() {
            return Ok(Snapshot {
                handle: handle.to_owned(),
                volume: String::new(),
                creation_time_ns: self.clock.now_ns(),
                size_bytes: 0,
                ready: true,
                group: None,
            });
        }
        self.storage
            .list_snapshot(handle)
            .ok_or_else(|| format!("can not find snapshot for snapshotID {handle}"))
    }

    async fn cut_single(&self, content: &mut Arc<Value>) -> Result<(), String> {
        let name = object::name(content).to_owned();
        let class = self.class(content, &name)?;
        *content = self.annotate(&self.contents, content.clone(), annotation::BEING_CREATED).await?;
        check_parameters(&class)?;
        let volume = object::text(content, "/spec/source/volumeHandle").unwrap_or_default().to_owned();
        let snapshot_uid = object::text(content, "/spec/volumeSnapshotRef/uid").unwrap_or_default();
        match self.storage.create_snapshot(&format!("snapshot-{snapshot_uid}"), &volume) {
            Ok(mut snapshot) => {
                snapshot.group = None;
                *content = self.write_content_status(content, &snapshot).await?;
                *content =
                    self.unannotate(&self.contents, content.clone(), annotation::BEING_CREATED).await?;
                Ok(())
            }
            Err(error) => {
                if error.is_final() {
                    *content =
                        self.unannotate(&self.contents, content.clone(), annotation::BEING_CREATED).await?;
                }
                Err(format!("failed to take snapshot of the volume {volume}: {:?}", error.to_string()))
            }
        }
    }

    fn class(&self, content: &Value, name: &str) -> Result<Arc<Value>, String> {
        let wrong = |error: String| {
            format!("failed to get input parameters to create snapshot for content {name}: {error:?}")
        };
        let class = object::text(content, "/spec/volumeSnapshotClassName")
            .ok_or_else(|| wrong(format!("failed to take snapshot {name} without a snapshot class")))?;
        self.classes
            .get(class)
            .ok_or_else(|| wrong(format!("volumesnapshotclass.snapshot.storage.k8s.io {class:?} not found")))
    }

    async fn write_content_status(&self, content: &Value, snapshot: &Snapshot) -> Result<Arc<Value>, String> {
        let name = object::name(content);
        let live = self.client.get(plural::CONTENTS, None, name).await.map_err(|status| {
            format!("error get snapshot content {name} from api server: {}", status.message)
        })?;
        let mut status = live.get("status").filter(|status| !status.is_null()).cloned().unwrap_or(json!({}));
        let before = status.clone();
        merge_status(&mut status, snapshot);
        if status == before {
            return Ok(Arc::new(live));
        }
        self.write_status(&self.contents, live, status).await
    }

    async fn delete_snapshot(&self, content: &Arc<Value>, handle: &str) -> Result<(), String> {
        let name = object::name(content);
        if let Err(error) = self.storage.delete_snapshot(handle) {
            self.recorder.event(
                content,
                Severity::Warning,
                "SnapshotDeleteError",
                "Failed to delete snapshot",
            );
            return Err(format!("failed to delete snapshot {name:?}, err: {error}"));
        }
        let live = self.client.get(plural::CONTENTS, None, name).await.map_err(|status| {
            format!("error get snapshot content {name} from api server: {}", status.message)
        })?;
        let mut status = live.get("status").cloned().unwrap_or(json!({}));
        for field in ["snapshotHandle", "readyToUse", "creationTime", "restoreSize", "error"] {
            object::unset(&mut status, &[field]);
        }
        let cleared = self.write_status(&self.contents, live, status).await?;
        self.contents.newest.update(&cleared);
        Box::pin(self.sync_one_content(cleared)).await
    }
}

/// Sets missing fields of the status and updates its readiness.
fn merge_status(status: &mut Value, snapshot: &Snapshot) {
    if object::text(status, "/snapshotHandle").is_none() {
        object::set(status, &["snapshotHandle"], json!(snapshot.handle));
    }
    if object::flag(status, "/readyToUse") != Some(snapshot.ready) {
        object::set(status, &["readyToUse"], json!(snapshot.ready));
        if snapshot.ready {
            object::unset(status, &["error"]);
        }
    }
    if object::number(status, "/creationTime").is_none() {
        object::set(status, &["creationTime"], json!(snapshot.creation_time_ns));
    }
    if object::number(status, "/restoreSize").is_none() {
        object::set(status, &["restoreSize"], json!(snapshot.size_bytes));
    }
    if let Some(group) = &snapshot.group
        && object::text(status, "/volumeGroupSnapshotHandle").is_none()
    {
        object::set(status, &["volumeGroupSnapshotHandle"], json!(group));
    }
}
