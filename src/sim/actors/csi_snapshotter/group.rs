//! Reconciles VolumeGroupSnapshotContents: cuts, reads and deletes groups in the storage.
//!
//! The group of a content with a deletionTimestamp is deleted in the storage only if [`should_delete`]
//! returns true. A final error of the driver removes the being-created annotation. That write triggers the
//! sidecar again at once, without back-off. Any other error keeps the annotation and backs off.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Sidecar, check_parameters};
use crate::actors::driver::GroupSnapshot;
use crate::actors::object;
use crate::actors::quantity::rfc3339;
use crate::actors::recorder::Severity;
use crate::actors::strings::{DELETE, DRIVER, annotation, finalizer, plural};
use crate::pointer::At;
use crate::release::Release;

/// Returns whether the sidecar may delete a content that has a deletionTimestamp.
///
/// It may delete a static content that was never bound, and a content whose VolumeGroupSnapshot was deleted.
/// It may not delete a content whose creation is in progress, nor any other content.
fn should_delete(content: &Value) -> bool {
    if !object::is_deleting(content) {
        return false;
    }
    if is_static(content) && object::text(content, "/spec/volumeGroupSnapshotRef/uid").is_none() {
        return true;
    }
    !object::has_annotation(content, annotation::GROUP_BEING_CREATED)
        && object::has_annotation(content, annotation::GROUP_BEING_DELETED)
}

fn is_static(content: &Value) -> bool {
    content.at("/spec/source/groupSnapshotHandles").is_some_and(Value::is_object)
}

impl Sidecar {
    pub(super) async fn sync_group(&self, key: &str) -> Result<(), String> {
        let Some(content) = self.groups.cache.get(key) else {
            self.groups.newest.remove(key);
            return Ok(());
        };
        if object::text(&content, "/spec/driver") != Some(DRIVER) || !self.groups.newest.update(&content) {
            return Ok(());
        }
        self.sync_group_content(content).await
    }

    async fn sync_group_content(&self, content: Arc<Value>) -> Result<(), String> {
        if should_delete(&content) {
            let handle = object::text(&content, "/status/volumeGroupSnapshotHandle");
            return match handle.filter(|_| object::text(&content, "/spec/deletionPolicy") == Some(DELETE)) {
                Some(handle) => self.delete_group(&content, handle).await,
                None => self.remove_finalizer(&self.groups, &content, finalizer::GROUP_CONTENT_BOUND).await,
            };
        }
        let is_dynamic = !object::items(&content, "/spec/source/volumeHandles").is_empty();
        if is_dynamic && !object::has_status(&content) {
            return self
                .cut_group(content, "GroupSnapshotCreationFailed", "Failed to create group snapshot")
                .await;
        }
        if object::flag(&content, "/status/readyToUse") == Some(true) {
            return self.unannotate(&self.groups, content, annotation::GROUP_BEING_CREATED).await.map(drop);
        }
        const REASON: &str = "GroupSnapshotContentCheckandUpdateFailed";
        const FAILED: &str = "Failed to check and update group snapshot content";
        if !is_static(&content) {
            return self.cut_group(content, REASON, FAILED).await;
        }
        match self.read_group(&content).await {
            Ok(updated) => {
                self.groups.newest.update(&updated);
                self.check_ready(&updated)
            }
            Err(error) => {
                self.write_error(&self.groups, &content, REASON, format!("{FAILED}: {error}")).await;
                Err(error)
            }
        }
    }

    /// Reads the group of a static content from the driver.
    async fn read_group(&self, content: &Arc<Value>) -> Result<Arc<Value>, String> {
        let source = "/spec/source/groupSnapshotHandles";
        let handle =
            object::text(content, &format!("{source}/volumeGroupSnapshotHandle")).unwrap_or_default();
        let members = object::texts(content, &format!("{source}/volumeSnapshotHandles"));
        let mut group =
            self.storage.get_volume_group_snapshot(handle, &members).map_err(|error| error.to_string())?;
        // The driver's reply names the members, but the sidecar never writes them for a static content.
        group.snapshots.clear();
        self.write_group_status(content, &group).await
    }

    /// Calls the driver to cut the group. A repeated call for a cut in progress has the same request name.
    async fn cut_group(&self, content: Arc<Value>, reason: &'static str, failed: &str) -> Result<(), String> {
        let mut newest = content;
        match self.try_cut_group(&mut newest).await {
            Ok(()) => self.check_ready(&newest),
            Err(error) => {
                self.write_error(&self.groups, &newest, reason, format!("{failed}: {error}")).await;
                Err(error)
            }
        }
    }

    async fn try_cut_group(&self, content: &mut Arc<Value>) -> Result<(), String> {
        let name = object::name(content).to_owned();
        let class = self.group_class(content, &name)?;
        *content = self
            .annotate(&self.groups, content.clone(), annotation::GROUP_BEING_CREATED)
            .await
            .map_err(|error| {
                format!(
                    "failed to add VolumeGroupSnapshotBeingCreated annotation on the group snapshot content \
                         {name}: {error:?}"
                )
            })?;
        check_parameters(&class)?;
        let volumes = object::texts(content, "/spec/source/volumeHandles");
        let group_uid = object::text(content, "/spec/volumeGroupSnapshotRef/uid").unwrap_or_default();
        let request = format!("groupsnapshot-{group_uid}");
        let group = match self.storage.create_volume_group_snapshot(&request, &volumes).await {
            Ok(group) => group,
            Err(error) => {
                if error.is_final() {
                    *content = self
                        .unannotate(&self.groups, content.clone(), annotation::GROUP_BEING_CREATED)
                        .await?;
                }
                return Err(format!(
                    "failed to take group snapshot of the volumes [{}]: {:?}",
                    volumes.join(" "),
                    error.to_string()
                ));
            }
        };
        *content = self.write_group_status(content, &group).await.map_err(|error| {
            format!("error updating status for volume group snapshot content {name}: {error}")
        })?;
        *content = self.unannotate(&self.groups, content.clone(), annotation::GROUP_BEING_CREATED).await?;
        self.groups.newest.update(content);
        Ok(())
    }

    /// Schedules a retry for a group that is not ready.
    ///
    /// Newer releases retry after a back-off. Older releases retry only on events of their own writes: each
    /// reconcile of a dynamic content writes an annotation, a reconcile of a static content writes none.
    fn check_ready(&self, content: &Value) -> Result<(), String> {
        let is_unready = object::flag(content, "/status/readyToUse") != Some(true);
        if is_unready && self.release.retries_unready_groups() {
            return Err("not ready yet".to_owned());
        }
        Ok(())
    }

    fn group_class(&self, content: &Value, name: &str) -> Result<Arc<Value>, String> {
        let wrong = |error: String| {
            format!(
                "failed to get input parameters to create group snapshot for group snapshot content {name}: \
                 {error:?}"
            )
        };
        let class = object::text(content, "/spec/volumeGroupSnapshotClassName").ok_or_else(|| {
            wrong(format!("failed to take group snapshot {name} without a group snapshot class"))
        })?;
        self.group_classes.get(class).ok_or_else(|| {
            wrong(format!("volumegroupsnapshotclass.groupsnapshot.storage.k8s.io {class:?} not found"))
        })
    }

    async fn write_group_status(&self, content: &Value, group: &GroupSnapshot) -> Result<Arc<Value>, String> {
        let name = object::name(content);
        let live = self.client.get(plural::GROUP_CONTENTS, None, name).await.map_err(|status| {
            format!("error get group snapshot content {name} from api server: {}", status.message)
        })?;
        let mut status = live.get("status").filter(|status| !status.is_null()).cloned().unwrap_or(json!({}));
        let before = status.clone();
        merge_status(&mut status, group, self.release);
        if status == before {
            return Ok(Arc::new(live));
        }
        self.write_status(&self.groups, live, status).await
    }

    async fn delete_group(&self, content: &Arc<Value>, handle: &str) -> Result<(), String> {
        const REASON: &str = "GroupSnapshotDeleteError";
        let name = object::name(content);
        if let Err(error) = self.storage.delete_volume_group_snapshot(handle).await {
            self.recorder.event(content, Severity::Warning, REASON, "Failed to delete group snapshot");
            return Err(format!("failed to delete group snapshot {name:?}, err: {error}"));
        }
        match self.clear_group_status(name).await {
            Ok(cleared) => {
                self.groups.newest.update(&cleared);
                Box::pin(self.sync_group_content(cleared)).await
            }
            Err(error) => {
                self.recorder.event(content, Severity::Warning, REASON, "Failed to clear content status");
                Err(error)
            }
        }
    }

    /// Removes the fields that describe the storage from the status, after the group was deleted. Keeps the
    /// list of members.
    async fn clear_group_status(&self, name: &str) -> Result<Arc<Value>, String> {
        let live = self.client.get(plural::GROUP_CONTENTS, None, name).await.map_err(|status| {
            format!("error get group snapshot content {name} from api server: {}", status.message)
        })?;
        let mut status = live.get("status").cloned().unwrap_or(json!({}));
        for field in ["volumeGroupSnapshotHandle", "readyToUse", "creationTime", "error"] {
            object::unset(&mut status, &[field]);
        }
        self.write_status(&self.groups, live, status).await
    }
}

/// Sets missing fields of the status. The list of members is written once; later changes of their readiness
/// are not written.
fn merge_status(status: &mut Value, group: &GroupSnapshot, release: Release) {
    if object::text(status, "/volumeGroupSnapshotHandle").is_none() {
        object::set(status, &["volumeGroupSnapshotHandle"], json!(group.handle));
    }
    if object::flag(status, "/readyToUse") != Some(group.ready) {
        object::set(status, &["readyToUse"], json!(group.ready));
        if group.ready {
            object::unset(status, &["error"]);
        }
    }
    if object::text(status, "/creationTime").is_none() {
        object::set(status, &["creationTime"], json!(rfc3339(group.creation_time_ns)));
    }
    let list = release.member_list();
    if object::items(status, &format!("/{list}")).is_empty() && !group.snapshots.is_empty() {
        let members = group.snapshots.iter().map(|member| {
            let mut listed = json!({"volumeHandle": member.volume, "snapshotHandle": member.handle});
            if !release.lists_pairs() {
                listed["creationTime"] = json!(member.creation_time_ns);
                listed["readyToUse"] = json!(member.ready);
                listed["restoreSize"] = json!(member.size_bytes);
            }
            listed
        });
        object::set(status, &[list], members.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletes_content_only_if_group_deleted_or_unbound() {
        let content = |annotations: Value, source: Value, uid: &str| {
            json!({
                "metadata": {"deletionTimestamp": "2026-11-20T18:03:04Z", "annotations": annotations},
                "spec": {"source": source, "volumeGroupSnapshotRef": {"uid": uid}},
            })
        };
        let (dynamic, fixed) = (json!({"volumeHandles": ["v"]}), json!({"groupSnapshotHandles": {}}));
        let (created, deleted) = (annotation::GROUP_BEING_CREATED, annotation::GROUP_BEING_DELETED);
        for (annotations, source, uid, expected) in [
            (json!({}), &fixed, "", true),
            (json!({}), &fixed, "u", false),
            (json!({}), &dynamic, "u", false),
            (json!({deleted: "yes"}), &dynamic, "u", true),
            (json!({deleted: "yes", created: "yes"}), &dynamic, "u", false),
        ] {
            assert_eq!(
                should_delete(&content(annotations.clone(), source.clone(), uid)),
                expected,
                "{annotations}"
            );
        }
        assert!(!should_delete(&json!({"metadata": {"annotations": {deleted: "yes"}}})));
    }
}
