//! Tests the detachment of members from their group: the operations that preserve and that lose them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::lab::Lab;
use crate::Config;
use crate::actors::object;
use crate::actors::strings::{finalizer, plural};

fn ledger(lab: &Lab) -> (usize, usize, usize) {
    let ledger = lab.cluster.ledger();
    (ledger.physical_snapshots, ledger.leaked, ledger.phantom)
}

fn strip() -> Value {
    json!({"metadata": {"ownerReferences": null, "finalizers": null}})
}

#[tokio::test(start_paused = true)]
async fn stripped_member_of_existing_group_is_reowned() {
    let lab = Lab::new(1, Config::default()).await;
    lab.create_ready_group(1).await;
    lab.wait_until_idle().await;
    let before = lab.snapshots().remove(0);
    lab.patch(plural::SNAPSHOTS, &before, strip());
    lab.wait_until_idle().await;
    let after = lab.snapshots().remove(0);
    assert_eq!(after["metadata"]["ownerReferences"], before["metadata"]["ownerReferences"]);
    assert_eq!(
        after["metadata"]["finalizers"],
        json!([finalizer::AS_SOURCE]),
        "the in-group finalizer is not restored"
    );
    assert_eq!(after["spec"]["volumeSnapshotClassName"], "csi-hostpath-snapclass");
}

#[tokio::test(start_paused = true)]
async fn stripped_member_is_untouched_without_default_class() {
    let lab = Lab::new(1, Config::default()).await;
    lab.create_ready_group(1).await;
    lab.wait_until_idle().await;
    let class = lab.get(plural::CLASSES, "csi-hostpath-snapclass").expect("deployed");
    lab.patch(plural::CLASSES, &class, json!({"metadata": {"annotations": null}}));
    lab.wait_until_idle().await;
    lab.patch(plural::SNAPSHOTS, &lab.snapshots()[0], strip());
    lab.wait_until_idle().await;
    let after = lab.snapshots().remove(0);
    assert!(after["metadata"].get("ownerReferences").is_none());
    assert_eq!(
        after["status"]["error"]["message"],
        "Failed to set default snapshot class with error cannot find default snapshot class"
    );
    assert_eq!(after["status"]["readyToUse"], true);
}

/// Strips the members while the name is set, retains the content, deletes content and group, as one known
/// tool does. Each call takes 40 ms. `gap_ms` passes between the strip and the deletion.
async fn strip_and_delete(lab: &Lab, members: usize, gap_ms: u64) {
    let call = Duration::from_millis(40);
    let group = lab.create_ready_group(members).await;
    sleep(Duration::from_millis(700)).await;
    for snapshot in lab.snapshots() {
        lab.patch(plural::SNAPSHOTS, &snapshot, strip());
        sleep(call).await;
    }
    let content = lab.group_contents().remove(0);
    lab.patch(plural::GROUP_CONTENTS, &content, json!({"spec": {"deletionPolicy": "Retain"}}));
    sleep(call + Duration::from_millis(gap_ms)).await;
    lab.delete(plural::GROUP_CONTENTS, &content);
    sleep(call).await;
    lab.delete(plural::GROUPS, &group);
    lab.wait_until_idle().await;
}

#[tokio::test(start_paused = true)]
async fn strip_and_delete_loses_members_and_leaks_storage() {
    let lab = Lab::new(3, Config::default()).await;
    strip_and_delete(&lab, 3, 0).await;
    assert_eq!((lab.group(), lab.group_contents(), lab.snapshots(), lab.contents()), Default::default());
    assert_eq!(ledger(&lab), (3, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn strip_and_delete_loses_members_at_default_rate() {
    for (gap_ms, most_left) in [(0, 6), (2000, 3)] {
        let lab = Lab::new(8, Config { controller_qps: Some(5.0), ..Config::default() }).await;
        strip_and_delete(&lab, 8, gap_ms).await;
        let left = lab.snapshots().len();
        assert!(left <= most_left, "measured: 2 of 8 without a gap, 0 of 6 with one; here {left} of 8");
        assert_eq!(ledger(&lab), (8, 8 - left, 0));
    }
}

/// Clears the name, strips (as-source too if `drop_as_source`), waits for as-source, deletes the group, then
/// the content.
async fn release(lab: &Lab, members: usize, drop_as_source: bool) {
    let group = lab.create_ready_group(members).await;
    lab.set_policies("Retain");
    for snapshot in lab.snapshots() {
        lab.patch_status(plural::SNAPSHOTS, &snapshot, json!({"status": {"volumeGroupSnapshotName": null}}));
    }
    for snapshot in lab.snapshots() {
        let left = if drop_as_source { Value::Null } else { json!([finalizer::AS_SOURCE]) };
        let patch = json!({
            "metadata": {"ownerReferences": null, "finalizers": left},
            "spec": {"volumeSnapshotClassName": "csi-hostpath-snapclass"},
        });
        lab.patch(plural::SNAPSHOTS, &snapshot, patch);
    }
    lab.wait_until("the as-source finalizer is restored", |lab| {
        lab.snapshots().iter().all(|snapshot| object::has_finalizer(snapshot, finalizer::AS_SOURCE))
    })
    .await;
    lab.delete(plural::GROUPS, &group);
    lab.wait_until("the group is deleted", |lab| lab.group().is_none()).await;
    // A controller whose cache still had the policy Delete has already deleted it.
    if let Some(content) = lab.group_contents().first() {
        lab.delete(plural::GROUP_CONTENTS, content);
    }
    lab.wait_until("the group content is deleted", |lab| lab.group_contents().is_empty()).await;
    lab.wait_until_idle().await;
}

#[tokio::test(start_paused = true)]
async fn release_preserves_every_member() {
    let slow = Config { controller_qps: Some(5.0), ..Config::default() };
    let stale = |seed| Config { cache_lag_ms: 400, seed, ..Config::default() };
    for config in [Config::default(), slow, stale(1), stale(2), stale(3)] {
        let lab = Lab::new(4, config.clone()).await;
        release(&lab, 4, true).await;
        assert_eq!(lab.snapshots().len(), 4, "{config:?}");
        assert_eq!(ledger(&lab), (4, 0, 0), "{config:?}");
        for snapshot in lab.snapshots() {
            assert_eq!(snapshot["status"]["readyToUse"], true);
            assert!(!object::is_deleting(&snapshot) && snapshot["status"].get("error").is_none());
            assert!(snapshot["metadata"].get("ownerReferences").is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn stale_caches_lose_members_with_as_source_finalizer() {
    let mut lost = 0;
    for seed in 0..4 {
        let lab = Lab::new(4, Config { cache_lag_ms: 400, seed, ..Config::default() }).await;
        release(&lab, 4, false).await;
        lost += 4 - lab.snapshots().len();
    }
    assert!(lost > 0, "only the restored finalizer proves that the controller has seen the release");
}

#[tokio::test(start_paused = true)]
async fn content_set_to_delete_leaves_dangling_snapshots() {
    let lab = Lab::new(3, Config::default()).await;
    let group = lab.create_ready_group(3).await;
    for snapshot in lab.snapshots() {
        lab.patch_status(plural::SNAPSHOTS, &snapshot, json!({"status": {"volumeGroupSnapshotName": null}}));
        lab.patch(plural::SNAPSHOTS, &snapshot, strip());
    }
    lab.wait_until_idle().await;
    lab.delete(plural::GROUPS, &group);
    lab.wait_until_idle().await;
    assert_eq!(ledger(&lab), (0, 0, 3), "ready without a physical snapshot");
}

#[tokio::test(start_paused = true)]
async fn group_name_restored_after_deletion_changes_nothing() {
    let lab = Lab::new(2, Config::default()).await;
    release(&lab, 2, true).await;
    let before: Vec<String> =
        lab.snapshots().iter().map(|snapshot| object::uid(snapshot).to_owned()).collect();
    for snapshot in lab.snapshots() {
        lab.patch_status(plural::SNAPSHOTS, &snapshot, json!({"status": {"volumeGroupSnapshotName": "g1"}}));
    }
    lab.wait_until_idle().await;
    let after = lab.snapshots();
    assert_eq!(after.iter().map(object::uid).collect::<Vec<_>>(), before);
    assert!(after.iter().all(|snapshot| snapshot["metadata"].get("ownerReferences").is_none()));
    assert_eq!(ledger(&lab), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn frozen_controller_delays_the_release() {
    let lab = Lab::new(2, Config::default()).await;
    lab.create_ready_group(2).await;
    lab.set_policies("Retain");
    lab.wait_until_idle().await;
    lab.cluster.set_frozen("snapshot-controller", true);
    for snapshot in lab.snapshots() {
        lab.patch_status(plural::SNAPSHOTS, &snapshot, json!({"status": {"volumeGroupSnapshotName": null}}));
        lab.patch(plural::SNAPSHOTS, &snapshot, strip());
    }
    lab.wait_until_idle().await;
    let protected = |lab: &Lab| {
        lab.snapshots()
            .iter()
            .filter(|snapshot| object::has_finalizer(snapshot, finalizer::AS_SOURCE))
            .count()
    };
    assert_eq!(protected(&lab), 0);
    lab.cluster.set_frozen("snapshot-controller", false);
    lab.wait_until_idle().await;
    assert_eq!(protected(&lab), 2);
    assert!(lab.snapshots().iter().all(|snapshot| snapshot["metadata"].get("ownerReferences").is_none()));
}

#[tokio::test(start_paused = true)]
async fn garbage_collector_deletes_objects_without_owner() {
    let lab = Lab::new(1, Config::default()).await;
    lab.create_ready_group(1).await;
    lab.wait_until_idle().await;
    let config = |name: &str, uid: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": super::lab::NAMESPACE, "ownerReferences": [{
                "apiVersion": "groupsnapshot.storage.k8s.io/v1beta1", "kind": "VolumeGroupSnapshot",
                "name": super::lab::GROUP, "uid": uid,
            }]},
        })
    };
    let group = lab.group().expect("ready");
    lab.create("configmaps", config("owned", object::uid(&group)));
    lab.create("configmaps", config("stranger", "not-the-uid-of-any-group"));
    lab.wait_until_idle().await;
    assert!(lab.get("configmaps", "owned").is_some(), "the apiVersion is not compared");
    assert!(lab.get("configmaps", "stranger").is_none(), "an owner with another uid counts as absent");
    lab.delete(plural::GROUPS, &group);
    lab.wait_until_idle().await;
    assert!(lab.get("configmaps", "owned").is_none());
}
