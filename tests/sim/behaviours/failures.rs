//! Behaviour 16 and related cases: failures of driver and network, and the content of a cut.

use std::time::Duration;

use serde_json::{Value, json};
use stillpoint::sim::{Config, DriverConfig, PhysicalSnapshot};
use tokio::time::sleep;

use crate::lab::{GROUP_BEING_CREATED, Lab, NAMESPACE, annotation, pvc};
use crate::script::{lab_with_ready_group, run};

fn failing(code: &str) -> DriverConfig {
    DriverConfig { fail_with: Some((code.to_owned(), "injected".to_owned())), ..DriverConfig::default() }
}

async fn lab_with_driver(driver: DriverConfig) -> Lab {
    let lab = Lab::new(2, Config { driver, controller_qps: Some(5.0), ..Config::default() }).await;
    lab.wait_until_idle().await;
    lab.create_group();
    lab
}

#[tokio::test(start_paused = true)]
async fn behaviour_16_retries_final_errors_without_backoff() {
    const CREATE: &str = "CreateVolumeGroupSnapshot";
    let lab = lab_with_driver(failing("Internal")).await;
    sleep(Duration::from_secs(20)).await;
    let tries = lab.driver_calls(CREATE);
    println!("final error: {tries} calls in 20 s, measured 54");
    assert!((36..=70).contains(&tries), "{tries}");
    assert!(lab.events("GroupSnapshotCreationFailed").len() <= 1, "one Event with a count");
    lab.cluster.storage().set_config(DriverConfig::default());
    lab.wait_until("a retry succeeds", |lab| lab.is_ready(2)).await;

    let lab = lab_with_driver(failing("DeadlineExceeded")).await;
    let mut calls = Vec::new();
    for seconds in [2, 3, 5, 10, 20] {
        sleep(Duration::from_secs(seconds)).await;
        calls.push(lab.driver_calls(CREATE));
    }
    println!("open error: {calls:?} calls after 2, 5, 10, 20, 40 s, measured [4, 4, 5, 6, 7]");
    assert!(calls[4] <= 9 && calls[4] - calls[2] <= 3, "{calls:?}");
    assert!(lab.group_content().is_some_and(|one| annotation(&one, GROUP_BEING_CREATED) == Some("yes")));

    // The cut succeeds although the caller receives DeadlineExceeded: one cut in total.
    let lab = lab_with_driver(DriverConfig {
        fail_times: 3,
        cut_despite_failure: true,
        ..failing("DeadlineExceeded")
    })
    .await;
    lab.wait_until("ready", |lab| lab.is_ready(2)).await;
    assert_eq!((lab.driver_calls(CREATE), lab.ledger()), (4, (2, 0, 0)));

    // Each attempt leaves partial snapshots: measured 19 in 6 s.
    let lab = lab_with_driver(DriverConfig { partial_cut_left: true, ..failing("Internal") }).await;
    sleep(Duration::from_secs(6)).await;
    let (physical, leaked, _) = lab.ledger();
    println!("partial cuts: {leaked} in 6 s, measured 19");
    assert!((12..=25).contains(&leaked) && physical == leaked, "{leaked}");

    let lab = lab_with_driver(DriverConfig { unimplemented: true, ..DriverConfig::default() }).await;
    sleep(Duration::from_secs(3)).await;
    let text = lab.group_content().expect("exists")["status"]["error"]["message"].to_string();
    assert!(text.contains("code = Unimplemented desc = unknown service csi.v1.GroupController"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn behaviour_16_driver_is_unready_or_lists_nothing() {
    let driver = DriverConfig { not_ready_ms: 12_000, ..DriverConfig::default() };
    let lab = Lab::new(2, Config { driver, controller_qps: Some(200.0), ..Config::default() }).await;
    lab.create_ready_group(2).await;
    let (creates, lists) = (lab.driver_calls("CreateVolumeGroupSnapshot"), lab.driver_calls("ListSnapshots"));
    println!("not ready for 12 s: {creates} creates and {lists} lists, measured 23 and 6");
    assert!((12..=45).contains(&creates) && (2..=20).contains(&lists), "{creates} {lists}");
    assert_eq!(lab.ledger(), (2, 0, 0));

    // If the driver does not list snapshots or does not report the group, a static member is an ordinary
    // snapshot.
    for driver in [
        DriverConfig { lists_snapshots: false, ..DriverConfig::default() },
        DriverConfig { reports_group_id: false, ..DriverConfig::default() },
    ] {
        let lab = lab_with_ready_group(1, Config { driver, ..Config::default() }).await;
        run(&lab, &crate::script::RETAIN).await;
        run(&lab, &crate::script::RELEASE[..7]).await;
        let handle = lab.cluster.storage().physical_snapshots()[0].snapshot_handle.clone();
        crate::variants::import(&lab, "copy", &handle, "Delete");
        lab.wait_until("ready without a group", |lab| {
            lab.get("volumesnapshots", "copy").is_some_and(|one| one["status"]["readyToUse"] == true)
        })
        .await;
        let copy = lab.get("volumesnapshots", "copy").expect("exists");
        assert!(copy["status"].get("volumeGroupSnapshotName").is_none());
        lab.delete("volumesnapshots", &copy);
        lab.wait_until_idle().await;
        assert!(lab.driver_calls("DeleteSnapshot") > 0, "the member is deleted without its group");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_are_json_and_affect_counted_calls() {
    let lab = Lab::new(0, Config::default()).await;
    let fault =
        json!({"verb": "create", "plural": "configmaps", "happen": true, "answer": "drop", "times": 1});
    assert_eq!(lab.http("POST", "/sim/v1/faults", Some(fault)).await.status, 201);
    let fault = json!({"verb": "get", "happen": false, "answer": {"code": 429, "retryAfter": 3}, "times": 2});
    assert_eq!(lab.http("POST", "/sim/v1/faults", Some(fault)).await.status, 201);
    let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    assert_eq!(lab.http("POST", &maps, Some(map)).await.text, "", "the write was applied without a response");
    for _ in 0..2 {
        let reply = lab.http("GET", &format!("{maps}/a"), None).await;
        assert_eq!(
            (reply.status, reply.headers.get("retry-after").map(|value| value.as_bytes())),
            (429, Some(&b"3"[..]))
        );
    }
    assert_eq!(lab.http("GET", &format!("{maps}/a"), None).await.status, 200);
    assert_eq!(lab.http("POST", "/sim/v1/faults", Some(json!({"happens": true}))).await.status, 400);
    lab.http("POST", "/sim/v1/faults", Some(json!({"answer": 503, "happen": false, "times": 9}))).await;
    assert_eq!(lab.http("DELETE", "/sim/v1/faults", None).await.status, 204);
    assert_eq!(lab.http("GET", &format!("{maps}/a"), None).await.status, 200);
}

fn volume_handles(lab: &Lab) -> Vec<String> {
    let handle = |volume: &Value| volume["spec"]["csi"]["volumeHandle"].as_str().map(str::to_owned);
    lab.list("persistentvolumes").iter().filter_map(handle).collect()
}

/// Writes to the first volume, then to the second, as a database writes its log before its data, during a
/// cut.
async fn cut_under_writes(skew_ms: u64) -> (Lab, Vec<PhysicalSnapshot>) {
    let driver = DriverConfig { skew_ms, ..DriverConfig::default() };
    let lab = Lab::new(2, Config { driver, ..Config::default() }).await;
    let mut handles = volume_handles(&lab);
    lab.create_group();
    lab.wait_until("frozen", |lab| lab.group_content().is_some()).await;
    let frozen = &lab.group_content().expect("exists")["spec"]["source"]["volumeHandles"];
    handles.sort_by_key(|handle| frozen[0] != handle.as_str());
    for _ in 0..50 {
        lab.cluster.storage().write(&handles[0]);
        lab.cluster.storage().write(&handles[1]);
        sleep(Duration::from_millis(2)).await;
    }
    lab.wait_until("ready", |lab| lab.is_ready(2)).await;
    let mut physical = lab.cluster.storage().physical_snapshots();
    physical.sort_by_key(|one| one.volume_handle != handles[0]);
    (lab, physical)
}

#[tokio::test(start_paused = true)]
async fn group_cut_is_atomic_unless_driver_skews() {
    let (lab, cut) = cut_under_writes(0).await;
    assert_eq!(cut[0].version, cut[1].version, "all members have the same version");
    let mut body = pvc("restored", &json!({}), "csi-hostpath-sc");
    let member = lab
        .contents()
        .into_iter()
        .find(|one| one["status"]["snapshotHandle"] == cut[0].snapshot_handle.as_str())
        .expect("a content of the member");
    body["spec"]["dataSource"] = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot",
        "name": member["spec"]["volumeSnapshotRef"]["name"]});
    lab.create("persistentvolumeclaims", body);
    let bound = |lab: &Lab| {
        let pvc = lab.get("persistentvolumeclaims", "restored")?;
        lab.get("persistentvolumes", pvc["spec"]["volumeName"].as_str()?)
    };
    lab.wait_until("bound", |lab| bound(lab).is_some()).await;
    let volume =
        bound(&lab).expect("bound")["spec"]["csi"]["volumeHandle"].as_str().expect("a handle").to_owned();
    assert_eq!(
        lab.cluster.storage().version(&volume),
        Some(cut[0].version),
        "a restored volume has the version of the cut"
    );
    let source = &cut[0].volume_handle;
    assert!(lab.cluster.storage().version(source) > Some(cut[0].version), "the source has a newer version");

    let (_lab, cut) = cut_under_writes(40).await;
    assert!(cut[1].version >= cut[0].version + 10, "two versions: {} and {}", cut[0].version, cut[1].version);
    assert_eq!(cut[1].creation_time_ns - cut[0].creation_time_ns, 40_000_000);
}

#[tokio::test(start_paused = true)]
async fn separate_cuts_of_volumes_are_not_atomic() {
    let lab = Lab::new(2, Config::default()).await;
    let handles = volume_handles(&lab);
    let cut = || lab.cluster.storage().physical_snapshots();
    for (made, pvc) in lab.list("persistentvolumeclaims").iter().enumerate() {
        let source = json!({"persistentVolumeClaimName": pvc["metadata"]["name"]});
        let metadata = json!({"generateName": "alone-", "namespace": pvc["metadata"]["namespace"]});
        let spec = json!({"volumeSnapshotClassName": "csi-hostpath-snapclass", "source": source});
        lab.create("volumesnapshots", json!({"metadata": metadata, "spec": spec}));
        while cut().len() == made {
            for handle in &handles {
                lab.cluster.storage().write(handle);
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
    let versions: Vec<_> = cut().iter().map(|one| one.version).collect();
    assert_eq!(handles.len(), versions.len());
    assert_ne!(versions[0], versions[1], "the versions differ");
    println!("separate cuts under the same writes: {versions:?}");
}
