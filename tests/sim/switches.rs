//! Tests every switch of the driver, one test each: the defect of a real driver, and its observable effect.

use std::time::Duration;

use stillpoint::sim::{Config, DriverConfig};
use tokio::time::{Instant, sleep};

use crate::lab::{GROUP_BEING_CREATED, GROUPS, Lab, SNAPSHOTS, annotation};
use crate::script::{RELEASE, RETAIN, lab_with_ready_group, run};

const CREATE: &str = "CreateVolumeGroupSnapshot";

fn failing(code: &str) -> DriverConfig {
    DriverConfig { fail_with: Some((code.to_owned(), "injected".to_owned())), ..DriverConfig::default() }
}

/// Creates a group of two members with that driver.
async fn lab_with_driver(driver: DriverConfig) -> Lab {
    let lab = Lab::new(2, Config { driver, ..Config::default() }).await;
    lab.create_group();
    lab
}

fn error(lab: &Lab) -> String {
    let content = lab.group_content().expect("exists");
    content["status"]["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn switch_fail_with_final_code_retries_without_backoff() {
    let lab = lab_with_driver(failing("Internal")).await;
    sleep(Duration::from_secs(10)).await;
    assert!(lab.driver_calls(CREATE) > 15, "{}", lab.driver_calls(CREATE));
    assert!(error(&lab).contains("rpc error: code = Internal desc = injected"), "{}", error(&lab));
    // Each attempt adds the annotation, and each reply removes it; the removal triggers the sidecar.
    let mut marks = Vec::new();
    for _ in 0..20 {
        sleep(Duration::from_millis(30)).await;
        marks.push(lab.group_content().is_some_and(|one| annotation(&one, GROUP_BEING_CREATED).is_some()));
    }
    lab.cluster.storage().set_config(DriverConfig::default());
    lab.wait_until("a retry succeeds", |lab| lab.is_ready(2)).await;
    assert!(marks.contains(&true), "{marks:?}");
}

#[tokio::test(start_paused = true)]
async fn switch_fail_with_an_open_code_backs_off() {
    for code in ["Canceled", "DeadlineExceeded", "Unavailable", "ResourceExhausted", "Aborted"] {
        let lab = lab_with_driver(failing(code)).await;
        sleep(Duration::from_secs(10)).await;
        let calls = lab.driver_calls(CREATE);
        assert!((3..=8).contains(&calls), "{code}: {calls}");
        let marked =
            lab.group_content().is_some_and(|one| annotation(&one, GROUP_BEING_CREATED) == Some("yes"));
        assert!(marked, "{code}: the cut may be in progress");
    }
}

#[tokio::test(start_paused = true)]
async fn switch_fail_times_recovers_after_given_count() {
    let lab = lab_with_driver(DriverConfig { fail_times: 3, ..failing("Unavailable") }).await;
    lab.wait_until("ready", |lab| lab.is_ready(2)).await;
    assert_eq!((lab.driver_calls(CREATE), lab.ledger()), (4, (2, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn switch_cut_despite_failure_cuts_once() {
    let lab =
        lab_with_driver(DriverConfig { cut_despite_failure: true, ..failing("DeadlineExceeded") }).await;
    sleep(Duration::from_secs(60)).await;
    assert!(lab.driver_calls(CREATE) > 3);
    let (physical, leaked, _) = lab.ledger();
    assert_eq!((physical, leaked, lab.is_ready(2)), (2, 2, false), "cut without a reported success");
    lab.cluster.storage().set_config(DriverConfig::default());
    lab.wait_until("ready", |lab| lab.is_ready(2)).await;
    assert_eq!(lab.ledger(), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn switch_partial_cut_left_leaks_at_each_try() {
    let lab =
        lab_with_driver(DriverConfig { partial_cut_left: true, fail_times: 5, ..failing("Internal") }).await;
    lab.wait_until("ready", |lab| lab.is_ready(2)).await;
    assert_eq!(lab.ledger(), (7, 5, 0));
}

#[tokio::test(start_paused = true)]
async fn switch_unimplemented_is_a_missing_capability() {
    let lab = lab_with_driver(DriverConfig { unimplemented: true, ..DriverConfig::default() }).await;
    sleep(Duration::from_secs(5)).await;
    let text = error(&lab);
    assert!(text.contains("code = Unimplemented desc = unknown service csi.v1.GroupController"), "{text}");
    assert_eq!(lab.ledger(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn switch_member_limit_refuses_the_whole_group() {
    let lab = lab_with_driver(DriverConfig { member_limit: Some(1), ..DriverConfig::default() }).await;
    sleep(Duration::from_secs(5)).await;
    let text = error(&lab);
    assert!(text.contains("code = FailedPrecondition desc = a group holds at most 1 volumes, 2"), "{text}");
    assert_eq!((lab.ledger(), lab.snapshots().len()), ((0, 0, 0), 0), "no member is cut");
    let lab = lab_with_driver(DriverConfig { member_limit: Some(2), ..DriverConfig::default() }).await;
    lab.wait_until("ready", |lab| lab.is_ready(2)).await;
}

#[tokio::test(start_paused = true)]
async fn switch_not_ready_for_lasts_given_time() {
    // A longer time only repeats this: the sidecar calls about twice per second until the driver is ready.
    for seconds in [7, 300] {
        let lab =
            lab_with_driver(DriverConfig { not_ready_ms: seconds * 1000, ..DriverConfig::default() }).await;
        let start = Instant::now();
        lab.wait_until("ready", |lab| lab.is_ready(2)).await;
        let took = start.elapsed().as_secs();
        // The contents of the members are read after 1, 2, 4, 8 … seconds.
        assert!((seconds..=2 * seconds + 30).contains(&took), "{took} s of {seconds}");
        assert_eq!(lab.ledger(), (2, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn switch_delete_fails_with_keeps_group_and_storage() {
    let lab = lab_with_ready_group(2, Config::default()).await;
    let failure = Some(("Internal".to_owned(), "busy".to_owned()));
    lab.cluster.storage().set_config(DriverConfig { delete_fails_with: failure, ..DriverConfig::default() });
    lab.delete(GROUPS, &lab.group().expect("ready"));
    sleep(Duration::from_secs(60)).await;
    let calls = lab.driver_calls("DeleteVolumeGroupSnapshot");
    assert!((5..=8).contains(&calls), "1, 2, 4, 8 … seconds: {calls}");
    assert!(lab.group().is_some() && lab.group_content().is_some() && lab.ledger().0 == 2);
    assert_eq!(lab.events("GroupSnapshotDeleteError").len(), 1);
    lab.cluster.storage().set_config(DriverConfig::default());
    lab.wait_until("freed", |lab| lab.ledger() == (0, 0, 0) && lab.group().is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn switch_skew_spreads_members_over_given_time() {
    let lab = lab_with_driver(DriverConfig { skew_ms: 500, ..DriverConfig::default() }).await;
    lab.wait_until("ready", |lab| lab.is_ready(2)).await;
    let list = lab.group_content().expect("exists")["status"]["volumeSnapshotInfoList"].take();
    let times: Vec<i64> =
        list.as_array().expect("a list").iter().filter_map(|one| one["creationTime"].as_i64()).collect();
    assert_eq!(times[1] - times[0], 500_000_000);
}

#[tokio::test(start_paused = true)]
async fn switch_omits_times_reports_zero_for_last_members() {
    let lab = lab_with_driver(DriverConfig { omits_times: 1, ..DriverConfig::default() }).await;
    lab.wait_until("ready", |lab| lab.is_ready(2)).await;
    let list = lab.group_content().expect("exists")["status"]["volumeSnapshotInfoList"].take();
    let times: Vec<i64> =
        list.as_array().expect("a list").iter().filter_map(|one| one["creationTime"].as_i64()).collect();
    assert!(times[0] > 0 && times[1] == 0, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn switch_lists_snapshots_off_trusts_content_creator() {
    let lab = lab_with_ready_group(1, Config::default()).await;
    lab.cluster.storage().set_config(DriverConfig { lists_snapshots: false, ..DriverConfig::default() });
    crate::variants::import(&lab, "copy", "nothing-has-this-handle", "Retain");
    lab.wait_until("ready", |lab| {
        lab.get(SNAPSHOTS, "copy").is_some_and(|one| one["status"]["readyToUse"] == true)
    })
    .await;
    assert_eq!(lab.ledger().2, 1, "ready without a physical snapshot");
    assert_eq!(lab.driver_calls("ListSnapshots"), 0);
}

#[tokio::test(start_paused = true)]
async fn switch_reports_group_id_off_detaches_released_members() {
    let lab = lab_with_ready_group(
        1,
        Config {
            driver: DriverConfig { reports_group_id: false, ..DriverConfig::default() },
            ..Config::default()
        },
    )
    .await;
    run(&lab, &RETAIN).await;
    run(&lab, &RELEASE[..7]).await;
    let handle = lab.cluster.storage().physical_snapshots()[0].snapshot_handle.clone();
    crate::variants::import(&lab, "copy", &handle, "Delete");
    lab.wait_until("ready without a group", |lab| {
        lab.get(SNAPSHOTS, "copy").is_some_and(|one| one["status"]["readyToUse"] == true)
    })
    .await;
    let copy = lab.get(SNAPSHOTS, "copy").expect("exists");
    assert!(copy["status"].get("volumeGroupSnapshotName").is_none());
    lab.delete(SNAPSHOTS, &copy);
    lab.wait_until("the member is deleted without its group", |lab| {
        lab.cluster.storage().physical_snapshots().is_empty()
    })
    .await;
    assert_eq!(lab.driver_calls("DeleteSnapshot"), 1);
}
