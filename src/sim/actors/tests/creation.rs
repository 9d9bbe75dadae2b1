//! Tests the creation of a group against the recording of the real controllers.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::lab::{GROUP, Lab, NAMESPACE, changes};
use crate::Config;
use crate::actors::object;
use crate::actors::strings::plural;

/// The index of the line of a change, found by a part of its text.
fn position(lines: &[String], what: &str) -> usize {
    lines.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what:?} in {lines:#?}"))
}

#[tokio::test(start_paused = true)]
async fn creates_group_of_three_in_recorded_order() {
    let lab = Lab::new(3, Config::default()).await;
    let mut groups = lab.user.watch(plural::GROUPS);
    let mut group_contents = lab.user.watch(plural::GROUP_CONTENTS);
    let mut contents = lab.user.watch(plural::CONTENTS);
    let mut snapshots = lab.user.watch(plural::SNAPSHOTS);
    let group = lab.create_ready_group(3).await;

    let content_name = format!("groupsnapcontent-{}", object::uid(&group));
    let created = "status.creationTime=2026";
    assert_eq!(
        changes(&mut groups)[GROUP].iter().map(|line| line.split("2026").next().unwrap()).collect::<Vec<_>>(),
        [
            "ADDED",
            &format!("+status.boundVolumeGroupSnapshotContentName={content_name} +status.readyToUse=false"),
            "+metadata.finalizers=volumegroupsnapshot-bound-protection",
            "+status.creationTime=",
        ]
    );

    let lines = &changes(&mut group_contents)[&content_name];
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert_eq!(lines[0], "ADDED");
    let marked = position(lines, "+metadata.annotations.volumegroupsnapshot-being-created=yes");
    let protected = position(lines, "+metadata.finalizers=volumegroupsnapshotcontent-bound-protection");
    let cut = position(lines, created);
    assert!(marked < cut && protected < 4, "{lines:#?}");
    for part in
        ["+status.readyToUse=true", "+status.volumeGroupSnapshotHandle=", "volumeSnapshotInfoList=[3]"]
    {
        assert!(lines[cut].contains(part), "{part} in {}", lines[cut]);
    }
    assert!(position(lines, "-metadata.annotations.volumegroupsnapshot-being-created") > cut);

    let contents = changes(&mut contents);
    assert_eq!(contents.len(), 3);
    for lines in contents.values() {
        assert_eq!(lines.len(), 4, "{lines:#?}");
        let bound = position(lines, "+spec.volumeSnapshotRef.uid=");
        let status = position(lines, "+status.volumeGroupSnapshotHandle=");
        assert!(bound < position(lines, "volumesnapshotcontent-bound-protection"));
        assert!(bound < status);
        assert!(lines[status].contains("+status.readyToUse=true"));
    }
    let snapshots = changes(&mut snapshots);
    assert_eq!(snapshots.len(), 3);
    for lines in snapshots.values() {
        assert_eq!(lines[0], "ADDED");
        let bound = position(lines, "+status.boundVolumeSnapshotContentName=snapcontent-");
        assert!(!lines[bound].contains("readyToUse"), "the binding does not set readyToUse");
        let ready = position(lines, "status.readyToUse=true");
        assert!(bound < ready);
        for part in
            ["+status.creationTime=", "+status.restoreSize=10Mi", "+status.volumeGroupSnapshotName=g1"]
        {
            assert!(lines[ready].contains(part), "{part} in {}", lines[ready]);
        }
        let protected = "volumesnapshot-in-group-protection,volumesnapshot-as-source-protection";
        assert!(position(lines, protected) < ready);
    }
}

#[tokio::test(start_paused = true)]
async fn objects_match_recorded_real_objects() {
    let lab = Lab::new(2, Config::default()).await;
    let group = lab.create_ready_group(2).await;
    lab.wait_until_idle().await;
    let uid = object::uid(&group);

    let group_content = &lab.group_contents()[0];
    assert!(group_content["metadata"].get("ownerReferences").is_none());
    let reference = &group_content["spec"]["volumeGroupSnapshotRef"];
    assert_eq!(reference["uid"], uid);
    assert!(reference["resourceVersion"].is_string());
    let listed = &group_content["status"]["volumeSnapshotInfoList"][0];

    let volume = listed["volumeHandle"].as_str().expect("a handle");
    let hash = hash_of(uid, volume);
    let content =
        lab.get(plural::CONTENTS, &format!("snapcontent-{hash}")).expect("the name contains the hash");
    let snapshot =
        lab.get(plural::SNAPSHOTS, &format!("snapshot-{hash}")).expect("the name contains the hash");
    assert_eq!(
        snapshot["metadata"]["ownerReferences"],
        json!([{"apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot", "name": GROUP, "uid": uid}])
    );
    assert_eq!(snapshot["spec"], json!({"source": {"persistentVolumeClaimName": "data-0"}}));
    assert!(snapshot["metadata"].get("labels").is_none());
    assert_eq!(
        content["metadata"]["annotations"],
        json!({
            "groupsnapshot.storage.k8s.io/volumeGroupSnapshotHandle":
                group_content["status"]["volumeGroupSnapshotHandle"],
        })
    );
    assert_eq!(content["spec"]["volumeSnapshotRef"]["uid"], object::uid(&snapshot));
    assert!(content["spec"].get("volumeSnapshotClassName").is_none());
    assert_eq!(
        content["status"],
        json!({
            "snapshotHandle": listed["snapshotHandle"],
            "volumeGroupSnapshotHandle": group_content["status"]["volumeGroupSnapshotHandle"],
            "creationTime": listed["creationTime"],
            "restoreSize": 10_485_760,
            "readyToUse": true,
        })
    );
    assert_eq!(lab.cluster.storage().calls().get("CreateVolumeGroupSnapshot"), Some(&1));
    assert_eq!(lab.cluster.storage().calls().get("CreateSnapshot"), None);
    let ledger = lab.cluster.ledger();
    assert_eq!((ledger.physical_snapshots, ledger.leaked, ledger.phantom), (2, 0, 0));
}

/// The last part of the names of a member.
fn hash_of(group_uid: &str, volume: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{group_uid}{volume}").as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(start_paused = true)]
async fn default_rate_takes_two_seconds_per_member() {
    for (members, measured) in [(1, 2.4), (3, 6.7), (8, 18.0)] {
        let lab = Lab::new(members, Config { controller_qps: Some(5.0), ..Config::default() }).await;
        lab.wait_until_idle().await;
        let start = Instant::now();
        lab.create_ready_group(members).await;
        let took = start.elapsed().as_secs_f64();
        println!("{members} members: {took} s, measured {measured} s");
        assert!(
            (measured * 0.6..measured * 1.3).contains(&took),
            "{members}: {took} s, measured {measured} s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn stale_caches_delay_but_converge() {
    for seed in 0..5 {
        let lab = Lab::new(3, Config { cache_lag_ms: 300, seed, ..Config::default() }).await;
        lab.create_ready_group(3).await;
        lab.wait_until_idle().await;
        assert!(lab.is_ready(3));
        assert_eq!(lab.cluster.storage().physical_snapshots().len(), 3, "one cut, seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn selects_by_match_labels_and_rejects_empty_selection() {
    let lab = Lab::new(2, Config::default()).await;
    let group = |name: &str, selector: Value| {
        json!({
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"source": {"selector": selector}},
        })
    };
    let expression = json!({"matchExpressions": [{"key": "group", "operator": "In", "values": ["nope"]}]});
    lab.create(plural::GROUPS, group("expression", expression));
    lab.create(plural::GROUPS, group("unlabelled", json!({"matchLabels": {"group": "unlabelled"}})));
    lab.wait_until_idle().await;
    let expression = lab.get(plural::GROUPS, "expression").expect("exists");
    assert_eq!(expression["status"]["readyToUse"], true);
    assert_eq!(
        expression["spec"]["volumeGroupSnapshotClassName"], "csi-hostpath-groupsnapclass",
        "the default"
    );
    assert_eq!(lab.snapshots().len(), 2, "matchExpressions is ignored");

    let unlabelled = lab.get(plural::GROUPS, "unlabelled").expect("exists");
    let message = unlabelled["status"]["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.ends_with("label selector group=unlabelled for group snapshot not applied to any PVC"),
        "{message}"
    );
    assert!(unlabelled["metadata"].get("finalizers").is_none());
}

#[tokio::test(start_paused = true)]
async fn missing_class_sets_error_but_not_readiness() {
    let lab = Lab::new(1, Config::default()).await;
    lab.create(
        plural::GROUPS,
        json!({
            "metadata": {"name": "missing", "namespace": NAMESPACE},
            "spec": {
                "volumeGroupSnapshotClassName": "nope",
                "source": {"selector": {"matchLabels": {"group": GROUP}}},
            },
        }),
    );
    lab.wait_until_idle().await;
    let status = &lab.get(plural::GROUPS, "missing").expect("exists")["status"];
    assert_eq!(
        status["error"]["message"],
        "failed to get group snapshot class with error volumegroupsnapshotclass.groupsnapshot.storage.k8s.io \
         \"nope\" not found"
    );
    assert!(status.get("readyToUse").is_none());
    assert!(lab.group_contents().is_empty());
}
