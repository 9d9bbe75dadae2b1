//! Foreign hands in the cluster: what administrators, other controllers and cleanup scripts do to objects of a run.

use std::collections::BTreeMap;

use crate::sim::Cluster;
use crate::sim::api_server::{Caller, Preconditions};
use serde_json::{Value, json};

fn hand(cluster: &Cluster) -> Caller {
    cluster.api().caller("administrator")
}

fn first(cluster: &Cluster, plural: &str) -> Option<Value> {
    hand(cluster).list(plural, None, &BTreeMap::new()).ok()?.into_iter().next()
}

fn key(object: &Value) -> (Option<&str>, &str) {
    (object["metadata"]["namespace"].as_str(), object["metadata"]["name"].as_str().unwrap_or_default())
}

fn delete(cluster: &Cluster, plural: &str, object: &Value) {
    let (namespace, name) = key(object);
    // What is gone already needs no hand.
    let _ = hand(cluster).delete(plural, namespace, name, Preconditions::default());
}

fn patch(cluster: &Cluster, plural: &str, object: &Value, patch: Value) {
    let (namespace, name) = key(object);
    // As above.
    let _ = hand(cluster).merge_patch(plural, namespace, name, None, patch);
}

/// Deletes the first object of a kind, as `kubectl delete` does; without one nothing happens.
pub fn delete_first(cluster: &Cluster, plural: &str) {
    if let Some(object) = first(cluster, plural) {
        delete(cluster, plural, &object);
    }
}

/// Deletes the VolumeSnapshot of that claim.
pub fn delete_member(cluster: &Cluster, claim: &str) {
    let snapshots = hand(cluster).list("volumesnapshots", None, &BTreeMap::new()).unwrap_or_default();
    let of_claim = |s: &&Value| s["spec"]["source"]["persistentVolumeClaimName"] == claim;
    if let Some(snapshot) = snapshots.iter().find(of_claim) {
        delete(cluster, "volumesnapshots", snapshot);
    }
}

/// Sets the content of the group back to Delete.
pub fn unretain(cluster: &Cluster) {
    if let Some(content) = first(cluster, "volumegroupsnapshotcontents") {
        let policy = json!({"spec": {"deletionPolicy": "Delete"}});
        patch(cluster, "volumegroupsnapshotcontents", &content, policy);
    }
}

/// Sets the content of one member back to Delete.
pub fn unretain_member(cluster: &Cluster) {
    if let Some(content) = first(cluster, "volumesnapshotcontents") {
        patch(cluster, "volumesnapshotcontents", &content, json!({"spec": {"deletionPolicy": "Delete"}}));
    }
}

/// Takes all labels and annotations off the first VolumeSnapshot.
pub fn unlabel_member(cluster: &Cluster) {
    if let Some(snapshot) = first(cluster, "volumesnapshots") {
        let bare = json!({"metadata": {"labels": null, "annotations": null}});
        patch(cluster, "volumesnapshots", &snapshot, bare);
    }
}

/// Makes the VolumeSnapshot of that claim an ordinary one, as a tool that detaches members by itself does.
pub fn release_member(cluster: &Cluster, claim: &str) {
    let snapshots = hand(cluster).list("volumesnapshots", None, &BTreeMap::new()).unwrap_or_default();
    let of_claim = |s: &&Value| s["spec"]["source"]["persistentVolumeClaimName"] == claim;
    if let Some(snapshot) = snapshots.iter().find(of_claim) {
        let (namespace, name) = key(snapshot);
        let nameless = json!({"status": {"volumeGroupSnapshotName": null}});
        // As above.
        let _ = hand(cluster).merge_patch("volumesnapshots", namespace, name, Some("status"), nameless);
        patch(
            cluster,
            "volumesnapshots",
            snapshot,
            json!({"metadata": {"ownerReferences": null, "finalizers": null}}),
        );
    }
}
