//! Tests drivers that fail, are slow, or lack the capability.

use serde_json::json;
use tokio::time::{Duration, sleep};

use super::lab::Lab;
use crate::Config;
use crate::actors::driver::DriverConfig;
use crate::actors::object;
use crate::actors::strings::{annotation, finalizer, plural};

fn failing(code: &str) -> DriverConfig {
    DriverConfig { fail_with: Some((code.to_owned(), "injected".to_owned())), ..DriverConfig::default() }
}

fn creates(lab: &Lab) -> u64 {
    lab.cluster.storage().calls().get("CreateVolumeGroupSnapshot").copied().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn final_error_is_retried_and_leaves_partial_snapshots() {
    let driver = DriverConfig { partial_cut_left: true, ..failing("Internal") };
    let lab = Lab::new(2, Config { driver, ..Config::default() }).await;
    lab.create_group();
    sleep(Duration::from_secs(8)).await;
    let tries = creates(&lab);
    assert!((15..30).contains(&tries), "measured: 23 calls in 8 s, simulated {tries}");
    assert_eq!(lab.cluster.ledger().leaked as u64, tries, "each call leaves one of two snapshots");

    let content = lab.group_contents().remove(0);
    let handles = object::texts(&content, "/spec/source/volumeHandles").join(" ");
    let message = format!(
        "Failed to check and update group snapshot content: failed to take group snapshot of the volumes \
         [{handles}]: \"rpc error: code = Internal desc = injected\""
    );
    assert_eq!(content["status"]["error"]["message"], message.as_str());
    assert_eq!(content["status"]["readyToUse"], false);
    lab.wait_until("the error reaches the group", |lab| {
        lab.group().unwrap()["status"]["error"]["message"] == message.as_str()
    })
    .await;

    lab.cluster.storage().set_config(DriverConfig::default());
    lab.wait_until("a retry succeeds", |lab| lab.is_ready(2)).await;
    assert!(lab.group().unwrap()["status"].get("error").is_none());
}

#[tokio::test(start_paused = true)]
async fn open_error_backs_off_and_preserves_annotation() {
    let lab = Lab::new(1, Config { driver: failing("DeadlineExceeded"), ..Config::default() }).await;
    let group = lab.create_group();
    sleep(Duration::from_secs(40)).await;
    assert!((5..9).contains(&creates(&lab)), "measured: 7 calls in 40 s, simulated {}", creates(&lab));
    assert!(object::has_annotation(&lab.group_contents()[0], annotation::GROUP_BEING_CREATED));

    lab.delete(plural::GROUPS, &group);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(lab.group_contents().len(), 1, "the call is still pending");
    lab.cluster.storage().set_config(DriverConfig::default());
    lab.wait_until("group and content are deleted", |lab| {
        lab.group().is_none() && lab.group_contents().is_empty()
    })
    .await;
    assert_eq!(lab.cluster.storage().physical_snapshots(), []);
}

#[tokio::test(start_paused = true)]
async fn cut_with_lost_response_is_not_repeated() {
    let driver = DriverConfig { cut_despite_failure: true, fail_times: 3, ..failing("Internal") };
    let lab = Lab::new(2, Config { driver, ..Config::default() }).await;
    lab.create_ready_group(2).await;
    assert_eq!(creates(&lab), 4);
    assert_eq!(lab.cluster.storage().physical_snapshots().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn driver_without_group_support_reports_it() {
    let driver = DriverConfig { unimplemented: true, ..DriverConfig::default() };
    let lab = Lab::new(1, Config { driver, ..Config::default() }).await;
    lab.create_group();
    sleep(Duration::from_secs(5)).await;
    let message = lab.group_contents()[0]["status"]["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("code = Unimplemented desc = unknown service csi.v1.GroupController"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn members_flap_while_driver_is_not_ready() {
    let driver = DriverConfig { not_ready_ms: 12_000, ..DriverConfig::default() };
    let lab = Lab::new(2, Config { driver, ..Config::default() }).await;
    let mut snapshots = lab.user.watch(plural::SNAPSHOTS);
    lab.create_ready_group(2).await;
    let mut events = 0;
    while snapshots.try_next().is_some() {
        events += 1;
    }
    assert!(events > 60, "measured: 172 in 13 s, simulated {events}");
    assert_eq!(
        lab.group_contents()[0]["status"]["volumeSnapshotInfoList"][0]["readyToUse"],
        false,
        "the list never changes"
    );
    assert_eq!(lab.cluster.storage().physical_snapshots().len(), 2);
    lab.wait_until_idle().await;
    assert!(lab.is_ready(2));
}

#[tokio::test(start_paused = true)]
async fn member_stripped_before_ready_is_cut_again() {
    let driver = DriverConfig { not_ready_ms: 12_000, ..DriverConfig::default() };
    let lab = Lab::new(1, Config { driver, ..Config::default() }).await;
    lab.create_group();
    sleep(Duration::from_secs(3)).await;
    let member = lab.snapshots().remove(0);
    lab.patch(plural::SNAPSHOTS, &member, json!({"metadata": {"ownerReferences": null, "finalizers": null}}));
    lab.wait_until_idle().await;
    assert!(lab.cluster.storage().calls().contains_key("CreateSnapshot"));
    assert_eq!(lab.cluster.storage().physical_snapshots().len(), 2);
    let second = format!("snapcontent-{}", object::uid(&member));
    assert!(lab.get(plural::CONTENTS, &second).is_some());
}

#[tokio::test(start_paused = true)]
async fn failing_delete_blocks_everything() {
    let lab = Lab::new(1, Config::default()).await;
    let group = lab.create_ready_group(1).await;
    let broken = Some(("Internal".to_owned(), "busy".to_owned()));
    lab.cluster.storage().set_config(DriverConfig { delete_fails_with: broken, ..DriverConfig::default() });
    lab.delete(plural::GROUPS, &group);
    lab.wait_until_idle().await;
    assert!(lab.group().is_some() && lab.group_contents().len() == 1 && lab.snapshots().len() == 1);
    assert!(lab.cluster.storage().calls()["DeleteVolumeGroupSnapshot"] < 10, "retries back off");
    lab.cluster.storage().set_config(DriverConfig::default());
    lab.wait_until("the deletion succeeds", |lab| lab.snapshots().is_empty() && lab.group().is_none()).await;
    assert_eq!(lab.cluster.storage().physical_snapshots(), []);
}

#[tokio::test(start_paused = true)]
async fn unknown_class_parameter_blocks_group_deletion() {
    let lab = Lab::new(1, Config::default()).await;
    lab.create(
        plural::GROUP_CLASSES,
        json!({
            "metadata": {"name": "odd"}, "driver": "hostpath.csi.k8s.io", "deletionPolicy": "Delete",
            "parameters": {"csi.storage.k8s.io/foo": "bar"},
        }),
    );
    lab.create(
        plural::GROUPS,
        json!({
            "metadata": {"name": "g1", "namespace": super::lab::NAMESPACE},
            "spec": {
                "volumeGroupSnapshotClassName": "odd",
                "source": {"selector": {"matchLabels": {"group": "g1"}}},
            },
        }),
    );
    lab.wait_until_idle().await;
    let group = lab.group().unwrap();
    assert!(object::has_finalizer(&group, finalizer::GROUP_BOUND));
    let message = group["status"]["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("found unknown parameter key \"csi.storage.k8s.io/foo\""), "{message}");
    lab.delete(plural::GROUPS, &group);
    lab.wait_until_idle().await;
    assert!(lab.group().is_some());
}
