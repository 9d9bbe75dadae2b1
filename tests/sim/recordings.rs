//! Repeats the recorded operations on the embedded cluster and compares the changes.

use std::time::Duration;

use serde_json::{Value, json};
use stillpoint::sim::{Config, DriverConfig};
use tokio::time::sleep;

use crate::history::{Recorder, check, check_kinds};
use crate::lab::{CONTENTS, DRIVER, GROUP, GROUPS, Lab, NAMESPACE, SNAPSHOTS, name, pvc};
use crate::script::Step::{
    ClearNames, DeleteGroup, DeleteGroupContent, GroupPolicy, NoDefaultClass, Strip, Wait,
};
use crate::script::{ALL, run};
use crate::variants::{create_retaining_class, import_group, import_group_content};

/// The controllers' default rate, which all recordings used.
fn real() -> Config {
    Config { controller_qps: Some(5.0), ..Config::default() }
}

async fn lab_with_group(members: usize) -> (Lab, Recorder) {
    let lab = Lab::new(members, real()).await;
    lab.wait_until_idle().await;
    let recorder = Recorder::start(&lab);
    lab.create_ready_group(members).await;
    sleep(Duration::from_secs(5)).await;
    (lab, recorder)
}

#[tokio::test(start_paused = true)]
async fn creates_a_group_of_two() {
    let (_lab, recorder) = lab_with_group(2).await;
    check("create-two", recorder);
}

#[tokio::test(start_paused = true)]
async fn creates_a_group_of_three() {
    let (_lab, recorder) = lab_with_group(3).await;
    check("create-three", recorder);
}

#[tokio::test(start_paused = true)]
async fn deletes_member_and_then_its_group() {
    let (lab, _) = lab_with_group(2).await;
    let recorder = Recorder::start(&lab);
    lab.delete(SNAPSHOTS, &lab.snapshots()[1]);
    run(&lab, &[Wait(4000), DeleteGroup]).await;
    lab.wait_until_idle().await;
    check("delete-member-then-group", recorder);
}

#[tokio::test(start_paused = true)]
async fn creates_and_deletes_a_group() {
    let (lab, recorder) = lab_with_group(3).await;
    run(&lab, &[DeleteGroup]).await;
    lab.wait_until_idle().await;
    check("delete-group", recorder);
}

#[tokio::test(start_paused = true)]
async fn strips_a_single_member() {
    let (lab, _) = lab_with_group(2).await;
    let recorder = Recorder::start(&lab);
    let strip = json!({"metadata": {"ownerReferences": null, "finalizers": null}});
    lab.patch(SNAPSHOTS, &lab.snapshots()[0], strip);
    lab.wait_until_idle().await;
    check("strip-one", recorder);
}

#[tokio::test(start_paused = true)]
async fn strips_and_deletes_a_group() {
    let (lab, recorder) = lab_with_group(3).await;
    run(&lab, &[Strip, Wait(10), GroupPolicy("Retain"), DeleteGroupContent, DeleteGroup]).await;
    lab.wait_until_idle().await;
    check("strip-fast", recorder);
}

#[tokio::test(start_paused = true)]
async fn strips_and_deletes_group_without_default_class() {
    let lab = Lab::new(3, real()).await;
    run(&lab, &[NoDefaultClass]).await;
    lab.wait_until_idle().await;
    let recorder = Recorder::start(&lab);
    lab.create_ready_group(3).await;
    run(&lab, &[Wait(5000), Strip, Wait(10), GroupPolicy("Retain"), DeleteGroupContent, DeleteGroup]).await;
    lab.wait_until_idle().await;
    check("strip-fast-no-default-class", recorder);
}

#[tokio::test(start_paused = true)]
async fn clears_names_then_strips_and_deletes_group() {
    let (lab, recorder) = lab_with_group(3).await;
    let steps = [ClearNames(ALL), Strip, Wait(10), GroupPolicy("Retain"), DeleteGroupContent, DeleteGroup];
    run(&lab, &steps).await;
    lab.wait_until_idle().await;
    check("clear-name-strip-fast", recorder);
}

/// Handles of the group and of its members.
fn handles(lab: &Lab) -> (String, Vec<String>) {
    let physical = lab.cluster.storage().physical_snapshots();
    let group = physical[0].group_handle.clone().expect("a group handle");
    (group, physical.into_iter().map(|one| one.snapshot_handle).collect())
}

/// A static content and its snapshot.
fn member(number: usize, handle: &str, policy: &str, with_mode: bool) -> (Value, Value) {
    let (content, snapshot) = (format!("imported-content-{number}"), format!("imported-{number}"));
    let mut spec = json!({
        "deletionPolicy": policy, "driver": DRIVER, "source": {"snapshotHandle": handle},
        "volumeSnapshotRef": {"name": snapshot, "namespace": NAMESPACE},
    });
    if with_mode {
        spec["sourceVolumeMode"] = json!("Filesystem");
    }
    (
        json!({"metadata": {"name": content}, "spec": spec}),
        json!({
            "metadata": {"name": snapshot, "namespace": NAMESPACE},
            "spec": {"source": {"volumeSnapshotContentName": content}},
        }),
    )
}

/// A group whose objects are deleted while its storage remains.
async fn orphan_storage(lab: &Lab) {
    create_retaining_class(lab);
    lab.create_group_with(GROUP, json!({"matchLabels": {"group": GROUP}}), Some("retaining"));
    lab.wait_until("ready", |lab| lab.is_ready(2)).await;
    sleep(Duration::from_secs(5)).await;
    run(lab, &[DeleteGroup, Wait(5000), DeleteGroupContent]).await;
    for content in lab.contents() {
        lab.delete(CONTENTS, &content);
    }
    lab.wait_until_idle().await;
}

#[tokio::test(start_paused = true)]
async fn imports_and_deletes_a_group() {
    let lab = Lab::new(2, real()).await;
    orphan_storage(&lab).await;
    let recorder = Recorder::start(&lab);
    let (group, members) = handles(&lab);
    import_group_content(&lab, "imported", &group, &members, "Delete");
    sleep(Duration::from_millis(40)).await;
    let imported = import_group(&lab, "imported");
    sleep(Duration::from_millis(180)).await;
    for (number, handle) in members.iter().enumerate() {
        let (content, snapshot) = member(number, handle, "Delete", false);
        lab.create(CONTENTS, content);
        sleep(Duration::from_millis(40)).await;
        lab.create(SNAPSHOTS, snapshot);
        sleep(Duration::from_millis(40)).await;
    }
    lab.wait_until_idle().await;
    lab.delete(GROUPS, &imported);
    lab.wait_until_idle().await;
    check("static-import", recorder);
}

#[tokio::test(start_paused = true)]
async fn rebuilds_members_from_handles_and_reclaims_them() {
    let lab = Lab::new(2, real()).await;
    lab.wait_until_idle().await;
    let recorder = Recorder::start(&lab);
    orphan_storage(&lab).await;
    let (group, members) = handles(&lab);
    for (number, handle) in members.iter().enumerate() {
        let (content, snapshot) = member(number, handle, "Retain", true);
        lab.create(CONTENTS, content);
        sleep(Duration::from_millis(20)).await;
        lab.create(SNAPSHOTS, snapshot);
    }
    sleep(Duration::from_secs(9)).await;
    import_group_content(&lab, "imported", &group, &members, "Delete");
    sleep(Duration::from_secs(2)).await;
    let imported = import_group(&lab, "imported");
    sleep(Duration::from_secs(6)).await;
    assert!(lab.restores_from(name(&lab.snapshots()[0])).await);
    lab.delete(GROUPS, &imported);
    lab.wait_until_idle().await;
    check("import-from-handles", recorder);
}

const GROUPS_ONLY: [&str; 2] = ["group", "group-content"];

async fn delete_when_ready(lab: &Lab) {
    lab.wait_until("ready", |lab| lab.group().is_some_and(|group| group["status"]["readyToUse"] == true))
        .await;
    lab.wait_until_idle().await;
    run(lab, &[DeleteGroup]).await;
    lab.wait_until_idle().await;
}

#[tokio::test(start_paused = true)]
async fn selects_no_pvc_until_one_is_labelled() {
    let lab = Lab::new(0, real()).await;
    let unlabelled = lab.create("persistentvolumeclaims", pvc("late", &json!({}), "csi-hostpath-sc"));
    lab.wait_until_idle().await;
    let recorder = Recorder::start(&lab);
    lab.create_group();
    sleep(Duration::from_secs(5)).await;
    lab.patch("persistentvolumeclaims", &unlabelled, json!({"metadata": {"labels": {"group": GROUP}}}));
    delete_when_ready(&lab).await;
    check_kinds("no-claim", recorder, &GROUPS_ONLY);
}

#[tokio::test(start_paused = true)]
async fn class_is_missing_or_not_named() {
    let lab = Lab::new(1, real()).await;
    let recorder = Recorder::start(&lab);
    lab.create_group_with(GROUP, json!({"matchLabels": {"group": GROUP}}), Some("no-such-class"));
    lab.wait_until_idle().await;
    run(&lab, &[DeleteGroup]).await;
    check_kinds("no-class", recorder, &GROUPS_ONLY);

    let recorder = Recorder::start(&lab);
    lab.create_group_with(GROUP, json!({"matchLabels": {"group": GROUP}}), None);
    delete_when_ready(&lab).await;
    check_kinds("default-class", recorder, &GROUPS_ONLY);
}

#[tokio::test(start_paused = true)]
async fn driver_fails_and_then_recovers() {
    let lab = Lab::new(2, real()).await;
    lab.wait_until_idle().await;
    let fail_with = Some(("Unknown".to_owned(), "failed create snapshot".to_owned()));
    lab.cluster.storage().set_config(DriverConfig { fail_with, ..DriverConfig::default() });
    let recorder = Recorder::start(&lab);
    lab.create_group();
    sleep(Duration::from_secs(8)).await;
    lab.cluster.storage().set_config(DriverConfig::default());
    delete_when_ready(&lab).await;
    check_kinds("driver-fails", recorder, &["group"]);
}

#[tokio::test(start_paused = true)]
async fn sidecar_is_paused() {
    let lab = Lab::new(2, real()).await;
    lab.wait_until_idle().await;
    lab.cluster.set_frozen("csi-snapshotter", true);
    let recorder = Recorder::start(&lab);
    lab.create_group();
    sleep(Duration::from_secs(4)).await;
    lab.cluster.set_frozen("csi-snapshotter", false);
    delete_when_ready(&lab).await;
    check_kinds("sidecar-paused", recorder, &GROUPS_ONLY);
}
