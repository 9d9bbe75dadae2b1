//! Tests the deletion of a group, complete and incomplete.

use serde_json::json;
use tokio::time::{Duration, sleep};

use super::lab::{Lab, changes};
use crate::Config;
use crate::actors::strings::{annotation, plural};

fn ledger(lab: &Lab) -> (usize, usize, usize) {
    let ledger = lab.cluster.ledger();
    (ledger.physical_snapshots, ledger.leaked, ledger.phantom)
}

#[tokio::test(start_paused = true)]
async fn delete_policy_frees_everything_with_one_call() {
    for config in [Config::default(), Config { controller_qps: Some(5.0), ..Config::default() }] {
        let lab = Lab::new(3, config).await;
        let group = lab.create_ready_group(3).await;
        let mut group_contents = lab.user.watch(plural::GROUP_CONTENTS);
        lab.delete(plural::GROUPS, &group);
        lab.wait_until_idle().await;
        assert_eq!((lab.group(), lab.group_contents(), lab.contents(), lab.snapshots()), Default::default());
        assert_eq!(ledger(&lab), (0, 0, 0));
        let calls = lab.cluster.storage().calls();
        assert_eq!(calls.get("DeleteVolumeGroupSnapshot"), Some(&1));
        assert_eq!(calls.get("DeleteSnapshot"), None);
        let lines: Vec<String> = changes(&mut group_contents).into_values().flatten().collect();
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert_eq!(lines[1], "+metadata.annotations.volumegroupsnapshot-being-deleted=yes");
        assert!(lines[2].starts_with("+metadata.deletionTimestamp="));
        assert_eq!(lines[3], "-status.creationTime -status.readyToUse -status.volumeGroupSnapshotHandle");
    }
}

#[tokio::test(start_paused = true)]
async fn retain_policy_preserves_contents_but_not_snapshots() {
    let lab = Lab::new(2, Config::default()).await;
    let group = lab.create_ready_group(2).await;
    lab.set_policies("Retain");
    lab.wait_until_idle().await;
    lab.delete(plural::GROUPS, &group);
    lab.wait_until_idle().await;
    assert_eq!((lab.group(), lab.snapshots()), Default::default());
    assert_eq!(lab.contents().len(), 2);
    let content = &lab.group_contents()[0];
    assert_eq!(content["metadata"]["annotations"][annotation::GROUP_BEING_DELETED], "yes");
    assert_eq!(ledger(&lab), (2, 0, 0), "the content still refers to the group");

    lab.set_policies("Delete");
    lab.wait_until_idle().await;
    lab.delete(plural::GROUP_CONTENTS, &lab.group_contents()[0]);
    lab.wait_until_idle().await;
    assert_eq!(ledger(&lab), (0, 0, 0), "one call frees all snapshots");
}

#[tokio::test(start_paused = true)]
async fn one_member_cannot_be_deleted_alone() {
    let lab = Lab::new(2, Config::default()).await;
    let group = lab.create_ready_group(2).await;
    lab.delete(plural::SNAPSHOTS, &lab.snapshots()[0]);
    lab.wait_until_idle().await;
    assert_eq!(lab.snapshots().len(), 2, "the group delays the deletion");
    let pending =
        lab.list(plural::EVENTS).into_iter().find(|event| event["reason"] == "SnapshotDeletePending");
    assert!(pending.is_some_and(|event| event["count"].as_u64() > Some(3)), "the controller retries");
    lab.delete(plural::GROUPS, &group);
    sleep(Duration::from_secs(400)).await;
    assert_eq!(lab.snapshots().len(), 0, "the next retry deletes them");
    assert_eq!(ledger(&lab), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn group_deleted_without_finalizer_leaks_content_and_storage() {
    let lab = Lab::new(2, Config::default()).await;
    let group = lab.create_group();
    while lab.group_contents().is_empty() {
        tokio::task::yield_now().await;
    }
    lab.delete(plural::GROUPS, &group);
    assert_eq!(lab.group(), None, "the finalizer is not set yet");
    lab.wait_until_idle().await;
    let content = lab.group_contents().pop().expect("the content remains");
    assert!(content["metadata"]["annotations"].get(annotation::GROUP_BEING_DELETED).is_none());
    assert_eq!(lab.cluster.storage().physical_snapshots().len(), 2);

    lab.delete(plural::GROUP_CONTENTS, &content);
    lab.wait_until_idle().await;
    assert_eq!(lab.group_contents().len(), 1, "without the annotation it is not deleted");
    assert_eq!(ledger(&lab), (2, 2, 0));

    let mark = json!({"metadata": {"annotations": {annotation::GROUP_BEING_DELETED: "yes"}}});
    lab.patch(plural::GROUP_CONTENTS, &content, mark);
    lab.wait_until_idle().await;
    assert_eq!(lab.group_contents().len(), 0);
    assert_eq!(ledger(&lab), (0, 0, 0), "the annotation allows the deletion");
}

#[tokio::test(start_paused = true)]
async fn policy_change_unseen_by_controller_preserves_content() {
    let mut left_behind = 0;
    for seed in 0..8 {
        let lab = Lab::new(2, Config { seed, ..Config::default() }).await;
        let group = lab.create_ready_group(2).await;
        lab.set_policies("Retain");
        lab.wait_until_idle().await;
        lab.cluster.set_frozen("snapshot-controller", true);
        lab.set_policies("Delete");
        lab.delete(plural::GROUPS, &group);
        lab.wait_until_idle().await;
        assert!(lab.group().is_some(), "a frozen controller changes nothing");
        lab.cluster.set_frozen("snapshot-controller", false);
        lab.wait_until_idle().await;
        assert_eq!(lab.group(), None);
        if let Some(content) = lab.group_contents().pop() {
            left_behind += 1;
            assert_eq!(lab.cluster.storage().physical_snapshots().len(), 2);
            lab.delete(plural::GROUP_CONTENTS, &content);
            lab.wait_until_idle().await;
        }
        assert_eq!(ledger(&lab), (0, 0, 0));
    }
    assert!((1..8).contains(&left_behind), "measured: 5 of 8, simulated {left_behind}");
}

#[tokio::test(start_paused = true)]
async fn deleted_namespace_deletes_its_groups() {
    for config in
        [Config::default(), Config { controller_qps: Some(5.0), cache_lag_ms: 100, ..Config::default() }]
    {
        let lab = Lab::new(3, config).await;
        lab.create_ready_group(3).await;
        let namespace = lab.get(plural::NAMESPACES, super::lab::NAMESPACE).expect("exists");
        lab.delete(plural::NAMESPACES, &namespace);
        lab.wait_until("the namespace is deleted", |lab| {
            lab.get(plural::NAMESPACES, super::lab::NAMESPACE).is_none()
        })
        .await;
        lab.wait_until_idle().await;
        assert_eq!((lab.group_contents(), lab.contents(), lab.list(plural::VOLUMES)), Default::default());
        assert_eq!(ledger(&lab), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn restarted_controllers_write_nothing_and_cut_nothing() {
    let lab = Lab::new(2, Config::default()).await;
    lab.create_ready_group(2).await;
    lab.wait_until_idle().await;
    lab.cluster.api().reset_tally();
    lab.cluster.restart("snapshot-controller");
    lab.cluster.restart("csi-snapshotter");
    lab.wait_until_idle().await;
    let tally = lab.cluster.api().tally();
    assert_eq!((tally.writes("snapshot-controller"), tally.writes("csi-snapshotter")), (0, 0));
    assert!(lab.is_ready(2));
}
