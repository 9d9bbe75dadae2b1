//! Builds the specs of the objects that Stillpoint creates.
//!
//! Objects that replace a lost member have policy Retain: its storage belongs to the group and is freed
//! through the group alone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::machine::group::effect::{Effect, Unbound};

/// A VolumeGroupSnapshot. Only `matchLabels`: the controller ignores expressions.
pub fn group(class: &str, selector: &BTreeMap<String, String>) -> Value {
    json!({
        "volumeGroupSnapshotClassName": class,
        "source": { "selector": { "matchLabels": selector } },
    })
}

/// A VolumeSnapshot of a content that exists.
pub fn snapshot(content: &str, class: &str) -> Value {
    json!({
        "volumeSnapshotClassName": class,
        "source": { "volumeSnapshotContentName": content },
    })
}

/// A VolumeSnapshotContent of a snapshot handle.
pub fn content(effect: &Effect) -> Value {
    let Effect::CreateContent {
        driver,
        snapshot_handle,
        class,
        volume_mode,
        snapshot_namespace,
        snapshot_name,
        ..
    } = effect
    else {
        unreachable!("called for CreateContent only");
    };
    let mut spec = json!({
        "deletionPolicy": "Retain",
        "driver": driver,
        "source": { "snapshotHandle": snapshot_handle },
        "volumeSnapshotClassName": class,
        "volumeSnapshotRef": {
            "kind": "VolumeSnapshot", "namespace": snapshot_namespace, "name": snapshot_name,
        },
    });
    if let Some(mode) = volume_mode {
        spec["sourceVolumeMode"] = json!(mode);
    }
    spec
}

/// A VolumeGroupSnapshotContent that carries the handles of a cut and is not bound.
pub fn unbound(content: &Unbound, policy: &str) -> Value {
    json!({
        "deletionPolicy": policy,
        "driver": content.driver,
        "source": { "groupSnapshotHandles": {
            "volumeGroupSnapshotHandle": content.group_handle,
            "volumeSnapshotHandles": content.snapshot_handles,
        } },
        "volumeGroupSnapshotClassName": content.class,
        "volumeGroupSnapshotRef": {
            "kind": "VolumeGroupSnapshot", "namespace": content.group_namespace, "name": content.group_name,
        },
    })
}
