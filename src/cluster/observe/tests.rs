//! Tests the conversion of shapes as observed on Kubernetes 1.36 with external-snapshotter a little after
//! 8.6.0.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn read<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of the API")
}

fn group_object() -> Value {
    json!({
        "apiVersion": "groupsnapshot.storage.k8s.io/v1",
        "kind": "VolumeGroupSnapshot",
        "metadata": {
            "name": "g1", "namespace": "t1", "uid": "7f9f14d8", "resourceVersion": "285", "generation": 1,
            "creationTimestamp": "2026-11-20T18:03:04Z",
            "labels": {"stillpoint.dev/run": "run-1"},
            "annotations": {"stillpoint.dev/epoch": "4"},
            "finalizers": ["groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-bound-protection"],
        },
        "spec": {
            "source": {"selector": {"matchLabels": {"group": "g1"}}},
            "volumeGroupSnapshotClassName": "csi-hostpath-groupsnapclass",
        },
        "status": {"boundVolumeGroupSnapshotContentName": "groupsnapcontent-7f9f14d8", "readyToUse": false},
    })
}

fn group_content_object() -> Value {
    json!({
        "apiVersion": "groupsnapshot.storage.k8s.io/v1",
        "kind": "VolumeGroupSnapshotContent",
        "metadata": {"name": "groupsnapcontent-7f9f14d8", "uid": "e958dfdf", "resourceVersion": "286"},
        "spec": {
            "deletionPolicy": "Delete",
            "driver": "hostpath.csi.k8s.io",
            "source": {"volumeHandles": ["9d5a671e", "9d5d62a4"]},
            "volumeGroupSnapshotClassName": "csi-hostpath-groupsnapclass",
            "volumeGroupSnapshotRef": {
                "apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot",
                "name": "g1", "namespace": "t1", "resourceVersion": "279", "uid": "7f9f14d8",
            },
        },
        "status": {
            "creationTime": "2026-11-20T18:03:04Z",
            "readyToUse": true,
            "volumeGroupSnapshotHandle": "a1c80f3e",
            "volumeSnapshotInfoList": [{
                "creationTime": 1_795_197_784_180_717_886_i64, "readyToUse": true, "restoreSize": 10_485_760,
                "snapshotHandle": "a1c80f60", "volumeHandle": "9d5a671e",
            }],
        },
    })
}

fn snapshot_object() -> Value {
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {
            "name": "snapshot-a2e9", "namespace": "t1", "uid": "8820e762", "resourceVersion": "299",
            "finalizers": [
                "snapshot.storage.kubernetes.io/volumesnapshot-in-group-protection",
                "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection",
            ],
            "ownerReferences": [{
                "apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot",
                "name": "g1", "uid": "7f9f14d8",
            }],
        },
        "spec": {"source": {"persistentVolumeClaimName": "a"}},
        "status": {
            "boundVolumeSnapshotContentName": "snapcontent-a2e9",
            "creationTime": "2026-11-20T18:03:04Z",
            "readyToUse": true,
            "restoreSize": "10Mi",
            "volumeGroupSnapshotName": "g1",
        },
    })
}

fn content_object() -> Value {
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {
            "name": "snapcontent-a2e9", "uid": "d9767708", "resourceVersion": "290",
            "annotations": {"groupsnapshot.storage.k8s.io/volumeGroupSnapshotHandle": "a1c80f3e"},
        },
        "spec": {
            "deletionPolicy": "Delete",
            "driver": "hostpath.csi.k8s.io",
            "source": {"volumeHandle": "9d5a671e"},
            "sourceVolumeMode": "Filesystem",
            "volumeSnapshotRef": {"kind": "VolumeSnapshot", "name": "snapshot-a2e9", "namespace": "t1"},
        },
    })
}

#[test]
fn observes_group_in_progress() {
    let seen = group(&read(group_object()));
    assert_eq!(
        seen,
        GroupSnapshotSeen {
            id: ObjectId { namespace: "t1".into(), name: "g1".into(), uid: Uid::from("7f9f14d8") },
            resource_version: "285".into(),
            run: Some("run-1".into()),
            epoch: Some(4),
            journal: None,
            bound_content: Some("groupsnapcontent-7f9f14d8".into()),
            ready: false,
            terminating: false,
            protected: true,
            finalizers: vec![labels::GROUP_BOUND_PROTECTION.into()],
            error: None,
        }
    );
}

#[test]
fn observes_new_group_and_failed_group() {
    let mut object = group_object();
    object["metadata"]["finalizers"] = Value::Null;
    object["metadata"]["annotations"] = json!({"stillpoint.dev/epoch": "soon"});
    object["metadata"]["deletionTimestamp"] = json!("2026-11-20T18:03:05Z");
    object["status"] = json!({"error": {"message": "class not found", "time": "2026-11-20T18:03:05Z"}});
    let seen = group(&read(object));
    assert!(!seen.protected && !seen.ready && seen.terminating);
    assert_eq!((seen.epoch, seen.error.as_deref()), (None, Some("class not found")));
}

#[test]
fn observes_creation_times_of_group_content() {
    let seen = group_content(&read(group_content_object()));
    assert_eq!(seen.group_uid, Some(Uid::from("7f9f14d8")));
    assert_eq!(seen.volume_handles, ["9d5a671e", "9d5d62a4"]);
    assert_eq!((seen.policy, seen.group_handle.as_deref()), (DeletionPolicy::Delete, Some("a1c80f3e")));
    let cut = CutSeen {
        volume_handle: "9d5a671e".into(),
        snapshot_handle: "a1c80f60".into(),
        created_at: Some(Timestamp(1_795_197_784_180_717_886)),
        restore_size: Some(10_485_760),
    };
    assert_eq!(seen.cuts, [cut]);
    assert_eq!((seen.secret, seen.labels, seen.annotations), (None, None, None));
    assert!(!seen.protected && !seen.marked_deleted);
}

#[test]
fn v1beta1_or_static_group_content_lacks_creation_times() {
    let mut object = group_content_object();
    object["spec"]["source"] = json!({"groupSnapshotHandles": {
        "volumeGroupSnapshotHandle": "a1c80f3e", "volumeSnapshotHandles": ["a1c80f60"],
    }});
    object["spec"]["deletionPolicy"] = json!("Retain");
    object["status"]["volumeSnapshotInfoList"] = Value::Null;
    object["metadata"]["annotations"] = json!({
        "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-deleted": "yes",
        "groupsnapshot.storage.kubernetes.io/deletion-secret-name": "s",
        "groupsnapshot.storage.kubernetes.io/deletion-secret-namespace": "ns",
    });
    let seen = group_content(&read(object));
    assert!(seen.cuts.is_empty() && seen.volume_handles.is_empty() && seen.marked_deleted);
    assert_eq!(seen.policy, DeletionPolicy::Retain);
    assert_eq!(seen.secret, Some(("ns".into(), "s".into())));
}

#[test]
fn observes_ready_member() {
    let seen = snapshot(&read(snapshot_object()));
    assert!(seen.ready && !seen.terminating);
    assert_eq!(seen.claim.as_deref(), Some("a"));
    assert_eq!(seen.group_name.as_deref(), Some("g1"));
    assert_eq!(seen.bound_content.as_deref(), Some("snapcontent-a2e9"));
    assert!(seen.owners[0].is_group(&Uid::from("7f9f14d8")));
    assert_eq!(seen.finalizers.len(), 2);
    assert_eq!((seen.class, seen.labels), (None, None));
    assert_eq!(seen.created_at, Some(Timestamp(1_795_197_784_000_000_000)), "whole seconds");
    for nonsense in ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"] {
        let mut object = snapshot_object();
        object["status"]["creationTime"] = json!(nonsense);
        assert_eq!(
            snapshot(&read(object)).created_at,
            None,
            "{nonsense} stands for a time that is not known"
        );
    }
}

#[test]
fn member_is_ready_only_by_its_status() {
    for status in [Value::Null, json!({}), json!({"boundVolumeSnapshotContentName": "snapcontent-a2e9"})] {
        let mut object = snapshot_object();
        object["status"] = status;
        assert!(!snapshot(&read(object)).ready);
    }
}

#[test]
fn reads_group_from_annotation_until_status_is_set() {
    let early = content(&read(content_object()));
    assert_eq!((early.group_handle.as_deref(), early.snapshot_handle), (Some("a1c80f3e"), None));
    assert_eq!((early.snapshot_uid, early.ready), (None, false));
    let mut object = content_object();
    object["status"] = json!({
        "creationTime": 1_795_197_784_180_717_886_i64, "readyToUse": true, "restoreSize": 10_485_760,
        "snapshotHandle": "a1c80f60", "volumeGroupSnapshotHandle": "a1c80f3e",
    });
    object["spec"]["volumeSnapshotRef"]["uid"] = json!("8820e762");
    let seen = content(&read(object));
    assert_eq!(seen.snapshot_handle.as_deref(), Some("a1c80f60"));
    assert_eq!(seen.volume_handle.as_deref(), Some("9d5a671e"));
    assert_eq!(seen.created_at, Some(Timestamp(1_795_197_784_180_717_886)));
    assert_eq!((seen.snapshot_namespace.as_str(), seen.snapshot_name.as_str()), ("t1", "snapshot-a2e9"));
    assert_eq!(seen.snapshot_uid, Some(Uid::from("8820e762")));
    assert_eq!(seen.volume_mode.as_deref(), Some("Filesystem"));
}

#[test]
fn reads_handle_of_static_content_from_source() {
    let mut object = content_object();
    object["spec"]["source"] = json!({"snapshotHandle": "a1c80f60"});
    let seen = content(&read(object));
    assert_eq!((seen.volume_handle, seen.snapshot_handle.as_deref()), (None, Some("a1c80f60")));
}

#[test]
fn unreadable_policy_does_not_retain() {
    let mut object = content_object();
    object["spec"]["deletionPolicy"] = json!("retain");
    assert_eq!(content(&read(object)).policy, DeletionPolicy::Delete);
}

#[test]
fn reads_empty_map_as_missing() {
    let mut object = snapshot_object();
    object["metadata"]["labels"] = json!({});
    assert_eq!(snapshot(&read(object)).labels, None);
}

#[test]
fn times_convert_in_both_directions() {
    let at = Timestamp(1_795_197_784_180_717_886);
    assert_eq!(api_time(at).as_ref().and_then(time), Some(at));
}
