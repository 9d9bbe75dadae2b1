//! The sidecar `csi-snapshotter`: translates contents into driver calls and writes the results back.
//!
//! It has two queues: VolumeGroupSnapshotContents in [`group`] and VolumeSnapshotContents in [`content`]. It
//! writes the status of contents and its own annotations, and removes the bound-protection finalizers. Source
//! of the rules: external-snapshotter `pkg/sidecar-controller`.
//!
//! Not here: secrets, topology, distributed snapshotting.

mod content;
mod group;

use std::sync::Arc;

use serde_json::{Value, json};

use super::Setup;
use super::client::Client;
use super::driver::Storage;
use super::informer::{Cache, Change, Newest};
use super::object;
use super::queue::WorkQueue;
use super::recorder::{Recorder, Severity};
use super::resource_state::ResourceState;
use super::strings::{annotation, plural};
use crate::clock::SimClock;
use crate::pointer::At;
use crate::release::Release;

/// The agent name under which its calls are counted.
pub(super) const AGENT: &str = "csi-snapshotter";

pub(super) struct Sidecar {
    client: Client,
    recorder: Recorder,
    clock: SimClock,
    storage: Storage,
    contents: ResourceState,
    groups: ResourceState,
    classes: Cache,
    group_classes: Cache,
    release: Release,
}

pub(super) fn start(setup: &mut Setup) {
    let client = setup.client();
    let recorder = setup.recorder(client.clone());
    let (content_queue, group_queue) = (WorkQueue::new(), WorkQueue::new());
    let (newest_content, newest_group) = (Newest::default(), Newest::default());
    let (queue, deletions) = (content_queue.clone(), newest_content.clone());
    let contents = setup.resynced_cache(plural::CONTENTS, move |change| {
        deletions.record_deletion(change);
        if is_of_interest(change) {
            queue.add(&change.key());
        }
    });
    // Unlike single contents, these events are not filtered: the sidecar's own writes trigger it again.
    let (queue, deletions) = (group_queue.clone(), newest_group.clone());
    let groups = setup.resynced_cache(plural::GROUP_CONTENTS, move |change| {
        deletions.record_deletion(change);
        queue.add(&change.key());
    });
    let sidecar = Arc::new(Sidecar {
        client,
        recorder,
        clock: setup.context.clock.clone(),
        storage: setup.context.storage.clone(),
        contents: ResourceState::new(plural::CONTENTS, contents, newest_content, content_queue.clone()),
        groups: ResourceState::new(plural::GROUP_CONTENTS, groups, newest_group, group_queue.clone()),
        classes: setup.cache(plural::CLASSES, |_| ()),
        group_classes: setup.cache(plural::GROUP_CLASSES, |_| ()),
        release: setup.context.release,
    });
    let worker = sidecar.clone();
    setup.tasks.spawn_workers(&content_queue, move |key| {
        let worker = worker.clone();
        async move { worker.sync_content(&key).await }
    });
    if !setup.context.handles_groups {
        return;
    }
    setup.tasks.spawn_workers(&group_queue, move |key| {
        let worker = sidecar.clone();
        async move { worker.sync_group(&key).await }
    });
}

/// Returns whether a change of a single content must be reconciled. Changes of only the status, the
/// finalizers or the sidecar's own annotation are skipped.
fn is_of_interest(change: &Change) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let differ = |pointer: &str, but: &[&str]| entries(old, pointer, but).ne(entries(new, pointer, but));
    object::version(old) == object::version(new)
        || differ("", &["metadata", "status"])
        || differ("/metadata", &["annotations", "finalizers", "managedFields", "resourceVersion"])
        || differ("/metadata/annotations", &[annotation::BEING_CREATED])
}

/// Returns the entries at `pointer` without those fields.
fn entries<'a>(
    object: &'a Value,
    pointer: &str,
    but: &'a [&str],
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let fields = object.at(pointer).and_then(Value::as_object).into_iter().flatten();
    fields.filter(move |(field, _)| !but.contains(&field.as_str()))
}

impl Sidecar {
    /// Sets an annotation to `yes` unless it is present. Returns the newest content.
    async fn annotate(
        &self,
        resource: &ResourceState,
        content: Arc<Value>,
        key: &str,
    ) -> Result<Arc<Value>, String> {
        if object::has_annotation(&content, key) {
            return Ok(content);
        }
        let annotations = object::annotations_with(&content, key, annotation::YES);
        let operations = json!([{"op": "replace", "path": "/metadata/annotations", "value": annotations}]);
        self.patch(resource, &content, operations).await
    }

    /// Removes an annotation if it is present. Returns the newest content.
    async fn unannotate(
        &self,
        resource: &ResourceState,
        content: Arc<Value>,
        key: &str,
    ) -> Result<Arc<Value>, String> {
        if !object::has_annotation(&content, key) {
            return Ok(content);
        }
        let operations = json!([{"op": "remove", "path": object::annotation_pointer(key)}]);
        self.patch(resource, &content, operations).await
    }

    async fn remove_finalizer(
        &self,
        resource: &ResourceState,
        content: &Arc<Value>,
        finalizer: &str,
    ) -> Result<(), String> {
        if !object::has_finalizer(content, finalizer) {
            return Ok(());
        }
        let left = object::without_finalizers(content, &[finalizer]);
        let operations = json!([{"op": "replace", "path": "/metadata/finalizers", "value": left}]);
        self.patch(resource, content, operations).await.map(drop)
    }

    async fn patch(
        &self,
        resource: &ResourceState,
        content: &Value,
        operations: Value,
    ) -> Result<Arc<Value>, String> {
        let patched = self.client.patch(resource.plural, content, operations).await;
        let patched = patched.map_err(|status| update_failure(content, &status.message))?;
        resource.newest.update(&patched);
        Ok(patched)
    }

    /// Replaces the status by `status`. Returns the newest content.
    async fn write_status(
        &self,
        resource: &ResourceState,
        mut content: Value,
        status: Value,
    ) -> Result<Arc<Value>, String> {
        object::set(&mut content, &["status"], status);
        let name = object::name(&content).to_owned();
        let written = self.client.update_status(resource.plural, content).await;
        written.map_err(|status| {
            format!("snapshot controller failed to update {name} on API server: {}", status.message)
        })
    }

    /// Writes an error into the status and records an Event, unless the status already has the same text. The
    /// time of the error is therefore the time of its first occurrence.
    async fn write_error(
        &self,
        resource: &ResourceState,
        content: &Arc<Value>,
        reason: &'static str,
        message: String,
    ) {
        if object::text(content, "/status/error/message") == Some(message.as_str()) {
            return;
        }
        let error = json!({"message": message, "time": self.clock.rfc3339()});
        let operations = if object::has_status(content) {
            json!([
                {"op": "replace", "path": "/status/error", "value": error},
                {"op": "replace", "path": "/status/readyToUse", "value": false},
            ])
        } else {
            json!([{"op": "replace", "path": "/status", "value": {"readyToUse": false, "error": error}}])
        };
        let patched = self.client.patch_status(resource.plural, content, operations).await;
        self.recorder.event(content, Severity::Warning, reason, message);
        if let Ok(patched) = patched {
            resource.newest.update(&patched);
        }
    }
}

fn update_failure(content: &Value, message: &str) -> String {
    format!("snapshot controller failed to update {} on API server: {message}", object::name(content))
}

/// Rejects unknown class parameters with the reserved prefix.
fn check_parameters(class: &Value) -> Result<(), String> {
    const RESERVED: &str = "csi.storage.k8s.io/";
    const KNOWN: [&str; 8] = [
        "csi.storage.k8s.io/snapshotter-secret-name",
        "csi.storage.k8s.io/snapshotter-secret-namespace",
        "csi.storage.k8s.io/snapshotter-list-secret-name",
        "csi.storage.k8s.io/snapshotter-list-secret-namespace",
        "csi.storage.k8s.io/group-snapshotter-secret-name",
        "csi.storage.k8s.io/group-snapshotter-secret-namespace",
        "csi.storage.k8s.io/group-snapshotter-get-secret-name",
        "csi.storage.k8s.io/group-snapshotter-get-secret-namespace",
    ];
    let keys = class.get("parameters").and_then(Value::as_object).into_iter().flat_map(|found| found.keys());
    for key in keys {
        if key.starts_with(RESERVED) && !KNOWN.contains(&key.as_str()) {
            return Err(format!(
                "failed to remove CSI Parameters of prefixed keys: found unknown parameter key \"{key}\" with \
                 reserved namespace {RESERVED}"
            ));
        }
    }
    Ok(())
}
