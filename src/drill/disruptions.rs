//! Changes objects of a run as administrators, other controllers and cleanup scripts do.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::ids::StreamId;
use crate::domain::names::{group_snapshot, stub_content};
use crate::machine::kit::Ask;
use crate::sim::Cluster;
use crate::sim::api_server::{Answer, CallInfo, Caller, FaultDecision, Preconditions};
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
    // Ignored: the object may be deleted already.
    let _ = hand(cluster).delete(plural, namespace, name, Preconditions::default());
}

fn patch(cluster: &Cluster, plural: &str, object: &Value, patch: Value) {
    let (namespace, name) = key(object);
    // Ignored for the same reason.
    let _ = hand(cluster).merge_patch(plural, namespace, name, None, patch);
}

/// Deletes the first object of a kind, as `kubectl delete` does. Does nothing if there is none.
pub fn delete_first(cluster: &Cluster, plural: &str) {
    if let Some(object) = first(cluster, plural) {
        delete(cluster, plural, &object);
    }
}

/// Deletes the VolumeSnapshot of the PVC named `claim`.
pub fn delete_member(cluster: &Cluster, claim: &str) {
    let snapshots = hand(cluster).list("volumesnapshots", None, &BTreeMap::new()).unwrap_or_default();
    let of_claim = |s: &&Value| s["spec"]["source"]["persistentVolumeClaimName"] == claim;
    if let Some(snapshot) = snapshots.iter().find(of_claim) {
        delete(cluster, "volumesnapshots", snapshot);
    }
}

/// Sets the deletionPolicy of the group's content back to Delete.
pub fn unretain(cluster: &Cluster) {
    if let Some(content) = first(cluster, "volumegroupsnapshotcontents") {
        let policy = json!({"spec": {"deletionPolicy": "Delete"}});
        patch(cluster, "volumegroupsnapshotcontents", &content, policy);
    }
}

/// Sets the deletionPolicy of one member's content back to Delete.
pub fn unretain_member(cluster: &Cluster) {
    if let Some(content) = first(cluster, "volumesnapshotcontents") {
        patch(cluster, "volumesnapshotcontents", &content, json!({"spec": {"deletionPolicy": "Delete"}}));
    }
}

/// Removes all labels and annotations from the first VolumeSnapshot.
pub fn unlabel_member(cluster: &Cluster) {
    if let Some(snapshot) = first(cluster, "volumesnapshots") {
        let bare = json!({"metadata": {"labels": null, "annotations": null}});
        patch(cluster, "volumesnapshots", &snapshot, bare);
    }
}

/// Makes the VolumeSnapshot of the PVC an ordinary one, as a tool does that detaches members itself.
pub fn release_member(cluster: &Cluster, claim: &str) {
    let snapshots = hand(cluster).list("volumesnapshots", None, &BTreeMap::new()).unwrap_or_default();
    let of_claim = |s: &&Value| s["spec"]["source"]["persistentVolumeClaimName"] == claim;
    if let Some(snapshot) = snapshots.iter().find(of_claim) {
        unname(cluster, snapshot);
        patch(
            cluster,
            "volumesnapshots",
            snapshot,
            json!({"metadata": {"ownerReferences": null, "finalizers": null}}),
        );
    }
}

/// Name of a PVC that is in no group, for [`swap_claim`].
pub const SPARE: &str = "spare";

/// Moves the group's label from its first PVC to the spare one: the same number of PVCs, another set.
pub fn swap_claim(cluster: &Cluster) {
    let claims = hand(cluster).list("persistentvolumeclaims", None, &BTreeMap::new()).unwrap_or_default();
    let label = |name: Value| json!({"metadata": {"labels": {"velero.io/volume-group": name}}});
    let group = |claim: &Value| claim["metadata"]["labels"]["velero.io/volume-group"].clone();
    let Some(member) = claims.iter().find(|claim| group(claim).is_string()) else { return };
    let Some(spare) = claims.iter().find(|claim| claim["metadata"]["name"] == SPARE) else { return };
    patch(cluster, "persistentvolumeclaims", spare, label(group(member)));
    patch(cluster, "persistentvolumeclaims", member, label(Value::Null));
}

/// Label of objects that another component created. Runs do not manage them, and the invariants ignore them.
pub const FOREIGN: &str = "drill.stillpoint.dev/foreign";

/// Deletes all objects of a kind.
pub fn delete_all(cluster: &Cluster, plural: &str) {
    for object in hand(cluster).list(plural, None, &BTreeMap::new()).unwrap_or_default() {
        delete(cluster, plural, &object);
    }
}

/// Deletes a namespace with everything in it.
pub fn delete_namespace(cluster: &Cluster, name: &str) {
    // Ignored: the namespace may be deleted already.
    let _ = hand(cluster).delete("namespaces", None, name, Preconditions::default());
}

/// Deletes a namespace and holds its first PVC by a finalizer for some seconds. The namespace is Terminating
/// that long.
pub fn delete_held_namespace(cluster: &Cluster, name: &'static str) {
    const HELD_FOR: Duration = Duration::from_secs(5);
    let held = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    let claims =
        hand(cluster).list("persistentvolumeclaims", Some(name), &BTreeMap::new()).unwrap_or_default();
    let Some(claim) = claims.into_iter().next() else { return delete_namespace(cluster, name) };
    patch(cluster, "persistentvolumeclaims", &claim, held(json!(["drill.stillpoint.dev/held"])));
    delete_namespace(cluster, name);
    let cluster = cluster.clone();
    tokio::spawn(async move {
        tokio::time::sleep(HELD_FOR).await;
        patch(&cluster, "persistentvolumeclaims", &claim, held(Value::Null));
    });
}

/// Creates a namespace of this name again.
pub fn create_namespace(cluster: &Cluster, name: &str) {
    // Ignored: the namespace may exist already.
    let _ = hand(cluster).create("namespaces", json!({"metadata": {"name": name}}));
}

/// Restores the group's name and ownership on every VolumeSnapshot, as a controller with a stale cache does.
pub fn own_again(cluster: &Cluster) {
    // A controller with a stale cache does this with a group that is already deleted.
    let gone = || {
        json!({
            "apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot",
            "metadata": {"name": "gone", "uid": "0a1b2c3d-0000-4000-8000-000000000000"},
        })
    };
    let group = first(cluster, "volumegroupsnapshots").unwrap_or_else(gone);
    for snapshot in hand(cluster).list("volumesnapshots", None, &BTreeMap::new()).unwrap_or_default() {
        let (namespace, name) = key(&snapshot);
        let named = json!({"status": {"volumeGroupSnapshotName": group["metadata"]["name"]}});
        // Ignored: the object may be deleted already.
        let _ = hand(cluster).merge_patch("volumesnapshots", namespace, name, Some("status"), named);
        let owner = json!({
            "apiVersion": group["apiVersion"], "kind": group["kind"],
            "name": group["metadata"]["name"], "uid": group["metadata"]["uid"],
        });
        patch(cluster, "volumesnapshots", &snapshot, json!({"metadata": {"ownerReferences": [owner]}}));
    }
}

/// Deletes the first object of a kind with its finalizers removed, and creates another one of its name, which
/// no controller completes. Creates a deleted group again if members still name it.
pub fn replace_first(cluster: &Cluster, plural: &str) {
    let named = || match plural {
        "volumegroupsnapshots" => named_group(cluster),
        _ => None,
    };
    let Some(object) = first(cluster, plural).or_else(named) else { return };
    let mut foreign = json!({
        "metadata": {
            "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"], "labels": {FOREIGN: "true"},
        },
        "spec": {"source": {}},
    });
    let source = if plural == "volumesnapshots" {
        "volumeSnapshotContentName"
    } else {
        "volumeGroupSnapshotContentName"
    };
    foreign["spec"]["source"][source] = json!("nobody-has-it");
    tear_out(cluster, plural, &object);
    // Ignored: an object that could not be deleted is not replaced.
    let _ = hand(cluster).create(plural, foreign);
}

/// Removes the finalizers of an object and deletes it, as users do with an object that stays Terminating.
fn tear_out(cluster: &Cluster, plural: &str, object: &Value) {
    patch(cluster, plural, object, json!({"metadata": {"finalizers": null}}));
    delete(cluster, plural, object);
}

/// Deletes the group's content with its finalizers removed.
pub fn tear_group_content(cluster: &Cluster) {
    if let Some(content) = first(cluster, "volumegroupsnapshotcontents") {
        tear_out(cluster, "volumegroupsnapshotcontents", &content);
    }
}

/// Deletes the group and its content with their finalizers removed.
pub fn tear_group_and_content(cluster: &Cluster) {
    if let Some(group) = first(cluster, "volumegroupsnapshots") {
        tear_out(cluster, "volumegroupsnapshots", &group);
    }
    tear_group_content(cluster);
}

/// Makes every VolumeSnapshot that is ready an ordinary one, as a tool does that releases members itself. With
/// `named`, the name of the group stays on it. Such a tool first waits for the members, as Velero's plugin
/// does.
pub fn release_members(cluster: &Cluster, named: bool) {
    let class = first(cluster, "volumesnapshotclasses").map(|class| class["metadata"]["name"].clone());
    for snapshot in hand(cluster).list("volumesnapshots", None, &BTreeMap::new()).unwrap_or_default() {
        if snapshot["status"]["readyToUse"] != true {
            continue;
        }
        if !named {
            unname(cluster, &snapshot);
        }
        let free = json!({
            "metadata": {"ownerReferences": null, "finalizers": null}, "spec": {"volumeSnapshotClassName": class},
        });
        patch(cluster, "volumesnapshots", &snapshot, free);
    }
}

/// Removes the name of its group from a VolumeSnapshot.
fn unname(cluster: &Cluster, snapshot: &Value) {
    let (namespace, name) = key(snapshot);
    let nameless = json!({"status": {"volumeGroupSnapshotName": null}});
    // Ignored: the object may be deleted already.
    let _ = hand(cluster).merge_patch("volumesnapshots", namespace, name, Some("status"), nameless);
}

/// Creates the stub content of a run that was cut, as left by a daemon that was rebuilding the members.
pub fn leave_stub(cluster: &Cluster) {
    let Some(content) = first(cluster, "volumegroupsnapshotcontents") else { return };
    let Some(handle) = content["status"]["volumeGroupSnapshotHandle"].as_str() else { return };
    let group = &content["spec"]["volumeGroupSnapshotRef"];
    let run = hand(cluster).list("volumegroupsnapshots", None, &BTreeMap::new()).unwrap_or_default();
    let run = run.iter().find_map(|group| group["metadata"]["labels"]["stillpoint.dev/run"].as_str());
    let Some(run) = run.and_then(|run| run.parse::<StreamId>().ok()) else { return };
    let infos = content["status"]["volumeSnapshotInfoList"].as_array().cloned().unwrap_or_default();
    let handles: Vec<&Value> = infos.iter().map(|info| &info["snapshotHandle"]).collect();
    let stub = json!({
        "metadata": {"name": stub_content(run), "labels": {"stillpoint.dev/run": run.to_string()}},
        "spec": {
            "deletionPolicy": "Retain",
            "driver": content["spec"]["driver"],
            "source": {"groupSnapshotHandles": {
                "volumeGroupSnapshotHandle": handle, "volumeSnapshotHandles": handles,
            }},
            "volumeGroupSnapshotClassName": content["spec"]["volumeGroupSnapshotClassName"],
            "volumeGroupSnapshotRef": {
                "kind": "VolumeGroupSnapshot", "namespace": group["namespace"], "name": group["name"],
            },
        },
    });
    // Ignored: the stub may exist already.
    let _ = hand(cluster).create("volumegroupsnapshotcontents", stub);
}

/// Creates a VolumeGroupSnapshotContent that names the group which the first Backup will create.
///
/// With `forgotten`, the snapshot-controller created it for an incarnation that no journal records, and it has
/// the uid of a deleted group. Otherwise a user imported a group snapshot, and the content belongs to that
/// user.
pub fn name_the_group(cluster: &Cluster, forgotten: bool) {
    const KEY: &str = "velero.io/volume-group";
    let claims = hand(cluster).list("persistentvolumeclaims", None, &BTreeMap::new()).unwrap_or_default();
    let group = |claim: &Value| claim["metadata"]["labels"][KEY].as_str().map(str::to_owned);
    let Some((claim, group)) = claims.iter().find_map(|claim| Some((claim, group(claim)?))) else { return };
    let Some(backup) = first(cluster, "backups") else { return };
    let namespace = claim["metadata"]["namespace"].as_str().unwrap_or_default();
    let uid = backup["metadata"]["uid"].as_str().unwrap_or_default();
    let run = StreamId::of_group(uid, namespace, KEY, &group);
    let named = json!({"kind": "VolumeGroupSnapshot", "namespace": namespace, "name": group_snapshot(&group, run, 1)});
    let mut content = json!({
        "metadata": {"name": "imported", "labels": {FOREIGN: "true"}},
        "spec": {
            "deletionPolicy": "Delete",
            "driver": "hostpath.csi.k8s.io",
            "source": {"groupSnapshotHandles": {
                "volumeGroupSnapshotHandle": "theirs", "volumeSnapshotHandles": ["theirs-0"],
            }},
            "volumeGroupSnapshotRef": named,
        },
    });
    if forgotten {
        content["metadata"] = json!({"name": "forgotten"});
        content["spec"]["source"] = json!({"volumeHandles": handles_of(cluster, &group)});
        content["spec"]["volumeGroupSnapshotClassName"] = json!("csi-hostpath-groupsnapclass");
        content["spec"]["volumeGroupSnapshotRef"]["uid"] = json!("0a1b2c3d-0000-4000-8000-000000000000");
    }
    // Ignored: the content may exist already.
    let _ = hand(cluster).create("volumegroupsnapshotcontents", content);
}

/// Returns the handles of the volumes of a group.
fn handles_of(cluster: &Cluster, group: &str) -> Vec<Value> {
    let claims = hand(cluster).list("persistentvolumeclaims", None, &BTreeMap::new()).unwrap_or_default();
    let of_group = |claim: &&Value| claim["metadata"]["labels"]["velero.io/volume-group"] == group;
    let volumes = claims.iter().filter(of_group).filter_map(|claim| claim["spec"]["volumeName"].as_str());
    let volume = |name: &str| hand(cluster).get("persistentvolumes", None, name).ok();
    volumes.filter_map(volume).map(|volume| volume["spec"]["csi"]["volumeHandle"].clone()).collect()
}

/// Returns name and namespace of the group that a member names.
fn named_group(cluster: &Cluster) -> Option<Value> {
    let snapshots = hand(cluster).list("volumesnapshots", None, &BTreeMap::new()).ok()?;
    snapshots.iter().find_map(|snapshot| {
        let name = snapshot["status"]["volumeGroupSnapshotName"].as_str()?;
        Some(json!({"metadata": {"name": name, "namespace": snapshot["metadata"]["namespace"]}}))
    })
}

/// Deletes the VolumeGroupSnapshots that [`replace_first`] created, with their finalizers removed.
pub fn delete_foreign_groups(cluster: &Cluster) {
    for group in hand(cluster).list("volumegroupsnapshots", None, &BTreeMap::new()).unwrap_or_default() {
        if !group["metadata"]["labels"][FOREIGN].is_null() {
            tear_out(cluster, "volumegroupsnapshots", &group);
        }
    }
}

/// Duration of the pause of a frozen actor, in seconds.
pub const FROZEN_SECONDS: u64 = 300;

/// Pauses an actor for five minutes. It resumes with its old caches.
pub fn freeze(cluster: &Cluster, actor: &'static str) {
    cluster.set_frozen(actor, true);
    let cluster = cluster.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(FROZEN_SECONDS)).await;
        cluster.set_frozen(actor, false);
    });
}

/// As [`freeze`], directly after the actor's next write to a snapshot API and before its next call.
pub fn freeze_behind_write(cluster: &Cluster, actor: &'static str) {
    let mut idle = Some(cluster.clone());
    cluster.api().set_actor_faults(Box::new(move |call| {
        if call.agent == actor
            && changes(call)
            && let Some(cluster) = idle.take()
        {
            freeze(&cluster, actor);
        }
        FaultDecision::none()
    }));
}

/// Whether a call changes an object of the snapshot APIs.
fn changes(call: &CallInfo) -> bool {
    ["create", "update", "patch", "delete"].contains(&call.verb.as_str()) && call.plural.starts_with("volume")
}

/// Makes the API server refuse every write of the daemon to the snapshot APIs for three minutes, as a webhook
/// does.
pub fn refuse_writes(cluster: &Cluster) {
    let end = tokio::time::Instant::now() + Duration::from_secs(180);
    cluster.api().set_faults(Box::new(move |call| {
        if call.agent != "stillpoint" || !changes(call) || tokio::time::Instant::now() >= end {
            return FaultDecision::none();
        }
        FaultDecision { happen: false, answer: Answer::Status(409, None), ..FaultDecision::none() }
    }));
}

/// Adds a finalizer of another component to the VolumeGroupSnapshot.
pub fn hold_group(cluster: &Cluster, finalizer: &str) {
    let Some(group) = first(cluster, "volumegroupsnapshots") else { return };
    let mut all = group["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    all.push(json!(finalizer));
    patch(cluster, "volumegroupsnapshots", &group, json!({"metadata": {"finalizers": all}}));
}

/// Sets the deletionPolicy of the VolumeGroupSnapshotClass to Retain, so that all policies are Retain from the
/// start.
pub fn retain_class(cluster: &Cluster) {
    let Some(class) = first(cluster, "volumegroupsnapshotclasses") else { return };
    delete(cluster, "volumegroupsnapshotclasses", &class);
    let meta = &class["metadata"];
    let mut retaining = class.clone();
    retaining["deletionPolicy"] = json!("Retain");
    retaining["metadata"] =
        json!({"name": meta["name"], "labels": meta["labels"], "annotations": meta["annotations"]});
    // The name is free: the class was just deleted, and no finalizer holds a class.
    let _ = hand(cluster).create("volumegroupsnapshotclasses", retaining);
}

/// Requests that every run be resumed or abandoned, as `stillpoint groups` does.
pub fn ask(cluster: &Cluster, what: Ask, id: &str) {
    for run in hand(cluster).list("groupsnapshots", None, &BTreeMap::new()).unwrap_or_default() {
        let ask = json!({"metadata": {
            "labels": {"stillpoint.dev/request": what.name()},
            "annotations": {"stillpoint.dev/request-id": id, "stillpoint.dev/request-by": "drill"},
        }});
        patch(cluster, "groupsnapshots", &run, ask);
    }
}

/// Deletes the VolumeSnapshots whose content is deleted, as the message of a stuck run requests.
pub fn delete_hollow(cluster: &Cluster) {
    let contents = hand(cluster).list("volumesnapshotcontents", None, &BTreeMap::new()).unwrap_or_default();
    for snapshot in hand(cluster).list("volumesnapshots", None, &BTreeMap::new()).unwrap_or_default() {
        let bound = &snapshot["status"]["boundVolumeSnapshotContentName"];
        let stands = |content: &&Value| content["metadata"]["deletionTimestamp"].is_null();
        if !contents.iter().filter(stands).any(|content| content["metadata"]["name"] == *bound) {
            delete(cluster, "volumesnapshots", &snapshot);
        }
    }
}
