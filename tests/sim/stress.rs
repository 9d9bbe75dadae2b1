//! Tests the release under stress: killed and repeated, with controllers that are restarted, stopped or slow.
//! Each experiment lists its measured results.

use serde_json::json;
use stillpoint::sim::Config;

use crate::lab::{
    AS_SOURCE, CLASS, CLASSES, DRIVER, GROUP_CONTENTS, GROUPS, Lab, SNAPSHOTS, has_finalizer, is_deleting,
    name,
};
use crate::script::Step::{
    ClearNames, DeleteClass, DeleteGroup, DeleteMember, Freeze, GroupPolicy, Release, ReleaseKeepingSource,
    Restart, RestoreNames, Unfreeze, Wait, WaitForGroupDeletion, WaitForSource,
};
use crate::script::{
    ALL, RELEASE, RETAIN, Step, count_survivors, lab_with_ready_group, leftovers, run, uids,
};
use crate::table::Leftovers;

const MEMBERS: usize = 3;

/// The controller at 200 calls per second, as in most measurements.
fn fast(seed: u64) -> Config {
    Config { seed, controller_qps: Some(200.0), ..Config::default() }
}

/// Runs the steps on a retained group. Returns the number of surviving members.
async fn run_case(members: usize, config: Config, steps: &[Step]) -> (Lab, usize) {
    let lab = lab_with_ready_group(members, config).await;
    let before = uids(&lab);
    run(&lab, &RETAIN).await;
    run(&lab, steps).await;
    lab.wait_until_idle().await;
    let survivors = count_survivors(&lab, &before);
    (lab, survivors)
}

#[tokio::test(start_paused = true)]
async fn repeated_release_after_kill_keeps_every_member() {
    let mut interrupted: Vec<Vec<Step>> = (0..=RELEASE.len()).map(|end| RELEASE[..end].to_vec()).collect();
    interrupted.push(vec![ClearNames(1)]);
    interrupted.push(vec![ClearNames(ALL), Release(1)]);
    interrupted.push([&RELEASE[..7], &[RestoreNames(1)]].concat());
    let runs = interrupted.len();
    let mut total = 0;
    for (seed, mut steps) in (0..).zip(interrupted) {
        steps.extend(RELEASE);
        let (_, survivors) = run_case(MEMBERS, fast(seed), &steps).await;
        total += survivors;
    }
    println!("killed and repeated: {total} of {} survive, measured 36 of 36", runs * MEMBERS);
    assert_eq!((runs * MEMBERS, total), (36, 36));
}

#[tokio::test(start_paused = true)]
async fn controller_restart_after_any_step_keeps_members() {
    let mut total = 0;
    for at in 1..=7 {
        let steps = [&RELEASE[..at], &[Restart], &RELEASE[at..]].concat();
        total += run_case(MEMBERS, fast(at as u64), &steps).await.1;
    }
    println!("restarted after steps 1 to 7: {total} of 21 survive, measured 21 of 21");
    assert_eq!(total, 21);
}

#[tokio::test(start_paused = true)]
async fn stopped_or_slow_controller_keeps_every_member() {
    let steps = [&[Freeze], &RELEASE[..2], &[Wait(2000), Unfreeze], &RELEASE[2..]].concat();
    assert_eq!(run_case(4, fast(1), &steps).await.1, 4, "stopped during steps 1 and 2");

    let (lab, _) = run_case(4, fast(2), &[&[Freeze], &RELEASE[..2]].concat()).await;
    assert!(!run(&lab, &[WaitForSource]).await, "step 3 waits while the controller is stopped");
    run(&lab, &[Unfreeze]).await;
    run(&lab, &RELEASE[2..]).await;
    assert_eq!(leftovers(&lab).await, Leftovers::new(4, 4, 4));

    let slow = Config { controller_qps: Some(5.0), ..Config::default() };
    assert_eq!(run_case(6, slow, &RELEASE).await.1, 6, "default rate of the controller");
}

/// Step 2 does not remove as-source, so its presence proves nothing.
#[tokio::test(start_paused = true)]
async fn leaving_as_source_loses_members_if_controller_stops() {
    let rest = &RELEASE[2..];
    let mut lost = 0;
    for seed in 0..4 {
        let lab = lab_with_ready_group(4, fast(seed)).await;
        run(&lab, &RETAIN).await;
        run(&lab, &[Wait(1000), Freeze, ClearNames(ALL), ReleaseKeepingSource]).await;
        assert!(run(&lab, &[WaitForSource]).await, "step 3 passes immediately");
        let clean = |one: &serde_json::Value| !is_deleting(one) && one["status"]["readyToUse"] == true;
        assert!(lab.snapshots().iter().all(clean), "step 4 finds no error");
        run(&lab, &[DeleteGroup, Unfreeze]).await;
        run(&lab, rest).await;
        lost += 4 - leftovers(&lab).await.snapshots;
    }
    println!("as-source not removed, controller stopped: {lost} of 16 lost, measured 16 of 16");
    assert_eq!(lost, 16);

    let mut all = 0;
    for seed in 0..3 {
        let steps = [&[ClearNames(ALL), ReleaseKeepingSource, WaitForSource], &RELEASE[3..]].concat();
        all += run_case(6, fast(seed), &steps).await.1;
    }
    println!("as-source not removed, controller running: {all} of 18 survive, measured 18 of 18");
    assert_eq!(all, 18);
}

#[tokio::test(start_paused = true)]
async fn deleting_content_before_group_makes_phantoms() {
    let steps = [&RELEASE[..3], &[GroupPolicy("Delete"), DeleteGroup, WaitForGroupDeletion]].concat();
    let (lab, _) = run_case(MEMBERS, fast(1), &steps).await;
    let leftovers = leftovers(&lab).await;
    println!("policy set to Delete by another client: {leftovers:?}, measured 0 of 3 physical");
    assert_eq!(leftovers, Leftovers { phantoms: 3, ..Leftovers::new(3, 3, 0) });
}

#[tokio::test(start_paused = true)]
async fn member_deleted_before_release_leaves_its_content() {
    let (lab, _) = run_case(MEMBERS, fast(1), &[DeleteMember, Wait(3000)]).await;
    assert_eq!(lab.snapshots().len(), 3, "the group delays the deletion");
    run(&lab, &RELEASE[..2]).await;
    lab.wait_until_idle().await;
    assert_eq!((lab.snapshots().len(), lab.contents().len()), (2, 3));
    run(&lab, &RELEASE[2..]).await;
    assert_eq!(leftovers(&lab).await, Leftovers::new(2, 3, 3));
}

#[tokio::test(start_paused = true)]
async fn missing_class_blocks_step_3_but_not_later() {
    let lab = lab_with_ready_group(MEMBERS, fast(1)).await;
    run(&lab, &RETAIN).await;
    assert!(!run(&lab, &[&[DeleteClass], &RELEASE[..3]].concat()).await, "step 3 times out");

    let (lab, survivors) = run_case(MEMBERS, fast(2), &RELEASE[..7]).await;
    assert_eq!(survivors, MEMBERS);
    run(&lab, &[DeleteClass]).await;
    let touched = lab.snapshots();
    for member in &touched {
        lab.patch(SNAPSHOTS, member, json!({"metadata": {"labels": {"seen": "again"}}}));
    }
    lab.wait_until_idle().await;
    for member in lab.snapshots() {
        let message = member["status"]["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("Failed to get snapshot class"), "{message}");
        assert!(lab.restores_from(name(&member)).await, "the snapshot is usable");
    }
    let class = json!({"metadata": {"name": CLASS}, "driver": DRIVER, "deletionPolicy": "Delete"});
    lab.create(CLASSES, class);
    lab.wait_until_idle().await;
    assert!(lab.snapshots()[0]["status"]["error"].is_object(), "the error remains");
    run(&lab, &[DeleteClass, Step::DeleteMembers]).await;
    assert_eq!(leftovers(&lab).await.snapshots, 0, "deletion does not require the class");
}

#[tokio::test(start_paused = true)]
async fn private_label_is_optional_once_group_exists() {
    let lab = Lab::new(0, fast(1)).await;
    let pvcs: Vec<_> = ["a", "b"]
        .map(|name| {
            lab.create(
                "persistentvolumeclaims",
                crate::lab::pvc(name, &json!({"private": ""}), "csi-hostpath-sc"),
            )
        })
        .into();
    lab.wait_until("bound", |lab| {
        lab.list("persistentvolumeclaims").iter().all(|one| one["status"]["phase"] == "Bound")
    })
    .await;
    lab.create_group_with("g1", json!({"matchLabels": {"private": ""}}), Some(crate::lab::GROUP_CLASS));
    lab.wait_until("the content has the handles", |lab| lab.group_content().is_some()).await;
    for pvc in &pvcs {
        lab.patch("persistentvolumeclaims", pvc, json!({"metadata": {"labels": null}}));
    }
    lab.wait_until("the group is ready without the label", |lab| lab.is_ready(2)).await;
}

/// The patch of step 2, with tests of the expected values.
#[tokio::test(start_paused = true)]
async fn json_patch_tests_values_it_replaces() {
    let lab = lab_with_ready_group(1, fast(1)).await;
    let patch = |lab: &Lab| {
        let member = lab.snapshots().remove(0);
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": member["metadata"]["uid"]},
            {"op": "test", "path": "/status/readyToUse", "value": true},
            {"op": "test", "path": "/status/volumeGroupSnapshotName", "value": null},
            {"op": "test", "path": "/metadata/ownerReferences", "value": member["metadata"]["ownerReferences"]},
            {"op": "test", "path": "/metadata/finalizers", "value": member["metadata"]["finalizers"]},
            {"op": "remove", "path": "/metadata/ownerReferences"},
            {"op": "remove", "path": "/metadata/finalizers"},
            {"op": "add", "path": "/spec/volumeSnapshotClassName", "value": CLASS},
        ]);
        lab.user
            .json_patch(SNAPSHOTS, Some("t1"), name(&member), None, operations)
            .map_err(|status| status.code)
    };
    assert_eq!(patch(&lab).expect_err("a name is set"), 422);
    run(&lab, &[ClearNames(ALL)]).await;
    patch(&lab).expect("a test for null passes on a missing path");
    lab.wait_until_idle().await;
    assert!(has_finalizer(&lab.snapshots()[0], AS_SOURCE));
    assert_eq!((lab.list(GROUPS).len(), lab.list(GROUP_CONTENTS).len()), (1, 1));
}
