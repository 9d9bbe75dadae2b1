//! The `snapshot-controller`: binds VolumeSnapshots and VolumeGroupSnapshots to their contents.
//!
//! It has four queues, one per kind: [`snapshot`], [`content`], [`group`], [`group_content`]. Its view of
//! these objects comes from its caches, which may be stale, and from its own writes. Source of the rules:
//! external-snapshotter `pkg/common-controller`, including its oddities. Each oddity has a comment at its
//! place in the code.
//!
//! Not here: secrets, distributed snapshotting, volume mode conversion, metrics.

mod class;
mod content;
mod group;
mod group_content;
mod group_delete;
mod group_status;
mod members;
mod snapshot;
mod snapshot_delete;
mod snapshot_status;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::Setup;
use super::client::{CallResult, Client};
use super::informer::{Cache, Change, Newest};
use super::object;
use super::queue::WorkQueue;
use super::recorder::{Recorder, Severity};
use super::resource_state::ResourceState;
use super::strings::{annotation, plural};
use crate::clock::SimClock;
use crate::release::Release;

/// The agent name under which its calls are counted.
pub(super) const AGENT: &str = "snapshot-controller";

/// The controller. Its snapshot client and its core client have a rate limit each, as in the real controller.
struct Controller {
    client: Client,
    core: Client,
    recorder: Recorder,
    clock: SimClock,
    snapshots: ResourceState,
    contents: ResourceState,
    groups: ResourceState,
    group_contents: ResourceState,
    pvcs: Cache,
    volumes: Cache,
    by_handle: Arc<HandleIndex>,
    classes: Cache,
    group_classes: Cache,
    /// The apiVersion that it writes into owner references: always its own, independent of the version with
    /// which the group was created.
    group_api_version: String,
    release: Release,
    handles_groups: bool,
}

/// The keys of the volumes by CSI handle. The real controller has the same index.
#[derive(Default)]
struct HandleIndex(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl HandleIndex {
    fn update(&self, change: &Change) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = |volume: &Value| object::text(volume, "/spec/csi/volumeHandle").map(str::to_owned);
        if let Some(removed) = change.old.as_ref().and_then(|old| handle(old))
            && let Some(all) = keys.get_mut(&removed)
        {
            all.remove(&change.key());
        }
        if let Some(added) = change.new.as_ref().and_then(|new| handle(new)) {
            keys.entry(added).or_default().insert(change.key());
        }
    }

    fn keys(&self, handle: &str) -> Vec<String> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(handle).into_iter().flatten().cloned().collect()
    }
}

pub(super) fn start(setup: &mut Setup) {
    let core = setup.client();
    let recorder = setup.recorder(core.clone());
    let by_handle = Arc::new(HandleIndex::default());
    let handles = by_handle.clone();
    let controller = Arc::new(Controller {
        client: setup.client(),
        core,
        recorder,
        clock: setup.context.clock.clone(),
        snapshots: resource_state(setup, plural::SNAPSHOTS),
        contents: resource_state(setup, plural::CONTENTS),
        groups: resource_state(setup, plural::GROUPS),
        group_contents: resource_state(setup, plural::GROUP_CONTENTS),
        pvcs: setup.cache(plural::PVCS, |_| ()),
        volumes: setup.cache(plural::VOLUMES, move |change| handles.update(change)),
        by_handle,
        classes: setup.cache(plural::CLASSES, |_| ()),
        group_classes: setup.cache(plural::GROUP_CLASSES, |_| ()),
        group_api_version: setup.context.group_api_version.clone(),
        release: setup.context.release,
        handles_groups: setup.context.handles_groups,
    });
    let worker = controller.clone();
    setup.tasks.spawn_workers(&controller.snapshots.queue, move |key| {
        let worker = worker.clone();
        async move { worker.sync_snapshot_key(&key).await }
    });
    let worker = controller.clone();
    setup.tasks.spawn_workers(&controller.contents.queue, move |key| {
        let worker = worker.clone();
        async move { worker.sync_content_key(&key).await }
    });
    if !controller.handles_groups {
        return;
    }
    let worker = controller.clone();
    setup.tasks.spawn_workers(&controller.groups.queue, move |key| {
        let worker = worker.clone();
        async move { worker.sync_group_key(&key).await }
    });
    let worker = controller.clone();
    setup.tasks.spawn_workers(&controller.group_contents.queue, move |key| {
        let worker = worker.clone();
        async move { worker.sync_group_content_key(&key).await }
    });
}

fn resource_state(setup: &mut Setup, plural: &'static str) -> ResourceState {
    let (queue, newest) = (WorkQueue::new(), Newest::default());
    let (changed, deletions) = (queue.clone(), newest.clone());
    let cache = setup.resynced_cache(plural, move |change| {
        deletions.record_deletion(change);
        changed.add(&change.key());
    });
    ResourceState::new(plural, cache, newest, queue)
}

impl Controller {
    /// Applies a JSON patch and stores the result as the newest version.
    async fn patch(
        &self,
        resource: &ResourceState,
        object: &Value,
        operations: Value,
    ) -> Result<Arc<Value>, String> {
        let patched = self.client.patch(resource.plural, object, operations).await;
        self.store_result(resource, object, patched)
    }

    /// Replaces the object except its status, and stores the result as the newest version. Fails with a
    /// conflict if `object` is not the current version.
    async fn update(&self, resource: &ResourceState, object: Value) -> Result<Arc<Value>, String> {
        let updated = self.client.update(resource.plural, object.clone()).await;
        self.store_result(resource, &object, updated)
    }

    fn store_result(
        &self,
        resource: &ResourceState,
        object: &Value,
        result: CallResult<Arc<Value>>,
    ) -> Result<Arc<Value>, String> {
        let written = result.map_err(|status| update_failure(object, &status.message))?;
        resource.newest.update(&written);
        Ok(written)
    }

    /// Adds a finalizer at the end of the list.
    async fn add_finalizer(
        &self,
        resource: &ResourceState,
        object: &Value,
        finalizer: &str,
    ) -> Result<Arc<Value>, String> {
        let operation = if object::items(object, "/metadata/finalizers").is_empty() {
            json!({"op": "add", "path": "/metadata/finalizers", "value": [finalizer]})
        } else {
            json!({"op": "add", "path": "/metadata/finalizers/-", "value": finalizer})
        };
        self.patch(resource, object, json!([operation])).await
    }

    /// Sets an annotation to `yes` unless it is present. Replaces the whole map by the controller's copy: an
    /// annotation that the controller has not received is lost.
    async fn annotate(
        &self,
        resource: &ResourceState,
        object: &Arc<Value>,
        key: &str,
    ) -> Result<Arc<Value>, String> {
        if object::has_annotation(object, key) {
            return Ok(object.clone());
        }
        let annotations = object::annotations_with(object, key, annotation::YES);
        let operations = json!([{"op": "replace", "path": "/metadata/annotations", "value": annotations}]);
        self.patch(resource, object, operations).await
    }

    /// Writes an error into the status and records an Event, unless the status already has the same text.
    async fn write_error(
        &self,
        resource: &ResourceState,
        object: &Value,
        not_ready: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let message = message.into();
        if object::text(object, "/status/error/message") == Some(message.as_str()) {
            return;
        }
        let mut wanted = object.clone();
        let error = json!({"message": message, "time": self.clock.rfc3339()});
        object::set(&mut wanted, &["status", "error"], error);
        if not_ready {
            object::set(&mut wanted, &["status", "readyToUse"], json!(false));
        }
        let written = self.client.update_status(resource.plural, wanted).await;
        self.recorder.event(object, Severity::Warning, reason, message);
        if let Ok(written) = written {
            resource.newest.update(&written);
        }
    }
}

fn update_failure(object: &Value, message: &str) -> String {
    format!("snapshot controller failed to update {} on API server: {message}", object::key(object))
}

/// Returns whether a reference in a content names the object, uid included.
fn refers_to(content: &Value, reference: &str, object: &Value) -> bool {
    let field = |field: &str| object::text(content, &format!("/spec/{reference}/{field}"));
    field("name") == Some(object::name(object))
        && field("namespace") == object::namespace(object)
        && field("uid") == Some(object::uid(object))
}

/// Returns whether a reference in a content names the object, or has its name and no uid.
fn may_refer_to(content: &Value, reference: &str, object: &Value) -> bool {
    let field = |field: &str| object::text(content, &format!("/spec/{reference}/{field}"));
    field("name") == Some(object::name(object))
        && field("namespace") == object::namespace(object)
        && field("uid").is_none_or(|uid| uid == object::uid(object))
}

/// The key of the object that a content refers to.
fn referenced_key(content: &Value, reference: &str) -> Option<String> {
    let field = |field: &str| object::text(content, &format!("/spec/{reference}/{field}"));
    Some(object::join(field("namespace"), field("name")?))
}

const SNAPSHOT_REF: &str = "volumeSnapshotRef";
const GROUP_REF: &str = "volumeGroupSnapshotRef";
