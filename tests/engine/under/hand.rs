//! Makes changes for the causes, in addition to those in `disruptions`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stillpoint::drill::disruptions;
use stillpoint::sim::Cluster;
use stillpoint::sim::api_server::{Caller, Preconditions};

/// Kinds of objects that a run creates.
const KINDS: [&str; 4] =
    ["volumegroupsnapshots", "volumegroupsnapshotcontents", "volumesnapshots", "volumesnapshotcontents"];

/// A finalizer that belongs to no component of the cluster.
const HELD: &str = "example.com/held";

fn hand(cluster: &Cluster) -> Caller {
    cluster.api().caller("administrator")
}

fn all(cluster: &Cluster, plural: &str) -> Vec<Value> {
    hand(cluster).list(plural, None, &BTreeMap::new()).unwrap_or_default()
}

/// Ignored: the object may be deleted already, or the patch refused.
fn patch(cluster: &Cluster, plural: &str, object: &Value, subresource: Option<&str>, patch: Value) {
    let (namespace, name) =
        (object["metadata"]["namespace"].as_str(), object["metadata"]["name"].as_str().unwrap_or_default());
    let _ = hand(cluster).merge_patch(plural, namespace, name, subresource, patch);
}

fn delete(cluster: &Cluster, plural: &str, object: &Value) {
    let (namespace, name) =
        (object["metadata"]["namespace"].as_str(), object["metadata"]["name"].as_str().unwrap_or_default());
    let _ = hand(cluster).delete(plural, namespace, name, Preconditions::default());
}

fn without(finalizers: &Value, wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    let all = finalizers.as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|one| !one.as_str().is_some_and(&wanted)).collect()
}

/// Writes an annotation on every object, so that each has a new version.
pub fn touch(cluster: &Cluster) {
    for plural in KINDS {
        for object in all(cluster, plural) {
            let touched = json!({"metadata": {"annotations": {"example.com/touched": "yes"}}});
            patch(cluster, plural, &object, None, touched);
        }
    }
}

/// Adds a finalizer to every object that is not terminating.
pub fn hold(cluster: &Cluster) {
    for plural in KINDS {
        for object in all(cluster, plural) {
            let mut finalizers = without(&object["metadata"]["finalizers"], |one| one == HELD);
            finalizers.push(json!(HELD));
            patch(cluster, plural, &object, None, json!({"metadata": {"finalizers": finalizers}}));
        }
    }
}

/// Removes that finalizer again.
pub fn let_go(cluster: &Cluster) {
    for plural in KINDS {
        for object in all(cluster, plural) {
            let finalizers = without(&object["metadata"]["finalizers"], |one| one == HELD);
            patch(cluster, plural, &object, None, json!({"metadata": {"finalizers": finalizers}}));
        }
    }
}

/// Removes the being-deleted annotation from the group's content and deletes the content.
pub fn delete_unmarked(cluster: &Cluster) {
    for content in all(cluster, "volumegroupsnapshotcontents") {
        let mark = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-deleted";
        let unmarked = json!({"metadata": {"annotations": {mark: null}}});
        patch(cluster, "volumegroupsnapshotcontents", &content, None, unmarked);
        delete(cluster, "volumegroupsnapshotcontents", &content);
    }
}

/// Removes name and owner from the first member and leaves its in-group finalizer, as a tool does that
/// detaches members only half.
pub fn half_release(cluster: &Cluster) {
    let members = all(cluster, "volumesnapshots");
    let owned = |one: &&Value| one["metadata"]["ownerReferences"].is_array();
    if let Some(member) = members.iter().find(owned) {
        let nameless = json!({"status": {"volumeGroupSnapshotName": null}});
        patch(cluster, "volumesnapshots", member, Some("status"), nameless);
        patch(cluster, "volumesnapshots", member, None, json!({"metadata": {"ownerReferences": null}}));
    }
}

/// Deletes the snapshots that Stillpoint rebuilt.
pub fn delete_rebuilt(cluster: &Cluster) {
    for member in all(cluster, "volumesnapshots") {
        if member["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("sp-")) {
            delete(cluster, "volumesnapshots", &member);
        }
    }
}

/// Removes the status of every member, as if the snapshot-controller had not written it, and deletes the
/// group.
pub fn lose_statuses(cluster: &Cluster) {
    cluster.set_frozen("snapshot-controller", true);
    disruptions::delete_first(cluster, "volumesnapshotclasses");
    for member in all(cluster, "volumesnapshots") {
        patch(cluster, "volumesnapshots", &member, Some("status"), json!({"status": null}));
    }
    for group in all(cluster, "volumegroupsnapshots") {
        patch(cluster, "volumegroupsnapshots", &group, None, json!({"metadata": {"finalizers": null}}));
        delete(cluster, "volumegroupsnapshots", &group);
    }
    cluster.set_frozen("snapshot-controller", false);
}

/// Restores the group as owner of every member, with its finalizer.
pub fn own_again(cluster: &Cluster) {
    let Some(group) = all(cluster, "volumegroupsnapshots").into_iter().next() else { return };
    for member in all(cluster, "volumesnapshots") {
        let owners = json!([{
            "apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot",
            "name": group["metadata"]["name"], "uid": group["metadata"]["uid"],
        }]);
        let in_group = "snapshot.storage.kubernetes.io/volumesnapshot-in-group-protection";
        let mut finalizers = without(&member["metadata"]["finalizers"], |one| one == in_group);
        finalizers.push(json!(in_group));
        let owned = json!({"metadata": {"ownerReferences": owners, "finalizers": finalizers}});
        patch(cluster, "volumesnapshots", &member, None, owned);
    }
}

/// Deletes the group and creates another one of the same name.
pub fn replace_group(cluster: &Cluster) {
    for group in all(cluster, "volumegroupsnapshots") {
        let_go(cluster);
        patch(cluster, "volumegroupsnapshots", &group, None, json!({"metadata": {"finalizers": null}}));
        delete(cluster, "volumegroupsnapshots", &group);
        let meta = &group["metadata"];
        let spec = json!({
            "source": {"selector": {"matchLabels": {"nobody": "has-it"}}},
            "volumeGroupSnapshotClassName": group["spec"]["volumeGroupSnapshotClassName"],
        });
        let labels = json!({(disruptions::FOREIGN): "true"});
        let other = json!({
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "labels": labels},
            "spec": spec,
        });
        // Ignored: the name may still be taken.
        let _ = hand(cluster).create("volumegroupsnapshots", other);
    }
}

/// Creates a PVC from the first member. It stays Pending while no component provisions it.
pub fn restore_pending(cluster: &Cluster) {
    cluster.set_frozen("pv-binder", true);
    let Some(member) = all(cluster, "volumesnapshots").into_iter().next() else { return };
    let claim = json!({
        "metadata": {"name": "restored", "namespace": "shop"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "csi-hostpath-sc",
            "resources": {"requests": {"storage": "1Gi"}},
            "dataSource": {
                "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot",
                "name": member["metadata"]["name"],
            },
        },
    });
    // Ignored: the PVC may exist already.
    let _ = hand(cluster).create("persistentvolumeclaims", claim);
}

/// Deletes that PVC.
pub fn give_up_restore(cluster: &Cluster) {
    let claims = all(cluster, "persistentvolumeclaims");
    if let Some(claim) = claims.iter().find(|claim| claim["metadata"]["name"] == "restored") {
        delete(cluster, "persistentvolumeclaims", claim);
    }
    cluster.set_frozen("pv-binder", false);
}

/// Creates one more PVC with the label of the group.
pub fn join_group(cluster: &Cluster) {
    let claim = json!({
        "metadata": {
            "name": "late-comer", "namespace": "shop", "labels": {"velero.io/volume-group": "orders-db"},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "csi-hostpath-sc",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    // Ignored: the PVC may exist already.
    let _ = hand(cluster).create("persistentvolumeclaims", claim);
}
