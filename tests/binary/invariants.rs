//! Invariants of the cluster, the storage and the journal after a completed Backup.

use serde_json::Value;

use crate::process::{Process, ended};
use crate::stage::Stage;

/// The uid of each object, in order.
pub fn uids(objects: &[Value]) -> Vec<String> {
    let uid = |object: &Value| object["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let mut uids: Vec<String> = objects.iter().map(uid).collect();
    uids.sort();
    uids
}

/// Checks all invariants after the last daemon has ended. `named`: whether the members have their group name
/// again.
#[track_caller]
pub fn completed(stage: &Stage, mut daemon: Process, members: usize, named: bool) {
    assert_eq!(stage.state(), "Completed", "state of the GroupSnapshot");
    storage(stage, members);
    group_objects(stage);
    stage.snapshots().iter().for_each(|snapshot| member(snapshot, named));
    assert_eq!(stage.snapshots().len(), members, "VolumeSnapshots");
    contents(stage, members);
    daemon.kill();
    journal(stage);
}

#[track_caller]
fn storage(stage: &Stage, members: usize) {
    let ledger = stage.get("/sim/v1/ledger");
    let counts = ["leaked", "phantom", "physicalSnapshots"].map(|count| ledger[count].as_u64());
    assert_eq!(counts, [Some(0), Some(0), Some(members as u64)], "{ledger:#}");
}

#[track_caller]
fn group_objects(stage: &Stage) {
    for plural in ["volumegroupsnapshots", "volumegroupsnapshotcontents"] {
        let left = stage.list(&format!("/apis/groupsnapshot.storage.k8s.io/v1/{plural}"));
        assert!(left.is_empty(), "{plural} are left: {left:#?}");
    }
}

#[track_caller]
fn member(snapshot: &Value, named: bool) {
    let (metadata, status) = (&snapshot["metadata"], &snapshot["status"]);
    assert_eq!(status["readyToUse"], true, "ready: {snapshot:#}");
    assert!(metadata["deletionTimestamp"].is_null(), "not terminating: {snapshot:#}");
    assert!(metadata["ownerReferences"].as_array().is_none_or(Vec::is_empty), "not owned: {snapshot:#}");
    let name = status["volumeGroupSnapshotName"].as_str().unwrap_or_default();
    assert_eq!(!name.is_empty(), named, "name of the group: {snapshot:#}");
    assert_eq!(metadata["labels"]["velero.io/backup-name"], "nightly", "labelled: {snapshot:#}");
    assert!(metadata["annotations"]["stillpoint.dev/receipt"].is_string(), "receipt: {snapshot:#}");
}

#[track_caller]
fn contents(stage: &Stage, members: usize) {
    let contents = stage.list("/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents");
    assert_eq!(contents.len(), members, "VolumeSnapshotContents");
    for content in &contents {
        assert_eq!(content["spec"]["deletionPolicy"], "Retain", "retained: {content:#}");
        assert!(content["metadata"]["deletionTimestamp"].is_null(), "not terminating: {content:#}");
    }
}

/// The chain is valid, and every decision would be the same again.
#[track_caller]
fn journal(stage: &Stage) {
    let dir = stage.journal().display().to_string();
    let verified = ended(&["journal", "verify", "-o", "json", "--journal", &dir]).with(0).json();
    assert_eq!(verified["verdict"], "intact", "{verified:#}");
    let replayed = ended(&["journal", "replay", "-o", "json", "--journal", &dir]).with(0).json();
    assert_eq!(replayed["different"], Value::Array(vec![]), "{replayed:#}");
    assert_ne!(replayed["decisions"], 0, "{replayed:#}");
}
