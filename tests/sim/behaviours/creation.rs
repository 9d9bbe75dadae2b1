//! Behaviours 8 to 12, 18, 20 and 21: creation of a group and ownership of its members.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::Digest;
use stillpoint::sim::api_server::{Watch, WatchEvent};
use stillpoint::sim::{Config, DriverConfig, Release};
use tokio::time::{Instant, sleep};

use crate::lab::{
    AS_SOURCE, CONTENTS, GROUP, GROUP_BOUND, GROUPS, IN_GROUP, Lab, PVCS, SNAPSHOTS, has_finalizer,
    is_deleting, name, owners, pvc, uid,
};
use crate::script::Step::{DeleteGroup, Freeze, NoDefaultClass, Strip, Unfreeze, Wait};
use crate::script::{CONTROLLER, lab_with_ready_group, run};
use crate::variants::{import_group, import_group_content};

fn slow_driver(milliseconds: u64) -> Config {
    let driver = DriverConfig { not_ready_ms: milliseconds, ..DriverConfig::default() };
    Config { driver, controller_qps: Some(200.0), ..Config::default() }
}

/// The states of one object, in order.
fn states(watch: &mut Watch, wanted: &str) -> Vec<Value> {
    let mut found = Vec::new();
    while let Some(event) = watch.try_next() {
        let (WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object)) = event;
        if name(&object) == wanted {
            found.push(std::sync::Arc::unwrap_or_clone(object));
        }
    }
    found
}

fn first(states: &[Value], condition: impl Fn(&Value) -> bool) -> usize {
    states.iter().position(condition).expect("a matching state")
}

#[tokio::test(start_paused = true)]
async fn behaviour_08_group_finalizer_follows_group_status() {
    let lab = Lab::new(2, Config::default()).await;
    let mut watch = lab.user.watch(GROUPS);
    lab.create_ready_group(2).await;
    let history = states(&mut watch, GROUP);
    let is_bound = |group: &Value| group["status"]["boundVolumeGroupSnapshotContentName"].is_string();
    let is_protected = |group: &Value| has_finalizer(group, GROUP_BOUND);
    assert!(first(&history, is_bound) < first(&history, is_protected), "dynamic");

    let physical = lab.cluster.storage().physical_snapshots();
    let handles: Vec<String> = physical.iter().map(|one| one.snapshot_handle.clone()).collect();
    let group = physical[0].group_handle.clone().expect("a group handle");
    import_group_content(&lab, "static", &group, &handles, "Retain");
    lab.wait_until_idle().await;
    import_group(&lab, "static");
    lab.wait_until_idle().await;
    let history = states(&mut watch, "static");
    let is_ready = |group: &Value| group["status"]["readyToUse"] == true;
    assert!(first(&history, is_ready) < first(&history, is_protected), "a static group gets it once ready");
}

#[tokio::test(start_paused = true)]
async fn behaviour_09_controllers_have_separate_caches_and_queues() {
    // Without the sidecar the content has no status. Without the controller there is no content.
    let lab = Lab::new(1, Config::default()).await;
    lab.cluster.set_frozen("csi-snapshotter", true);
    lab.create_group();
    lab.wait_until_idle().await;
    assert_eq!(lab.group().expect("exists")["status"]["readyToUse"], false);
    assert!(lab.group_content().expect("exists").get("status").is_none());
    lab.cluster.set_frozen("csi-snapshotter", false);
    lab.wait_until("ready", |lab| lab.is_ready(1)).await;

    // Back-off: 1, 2, 4, 8 seconds, up to 5 minutes, recorded only in the log.
    let lab = Lab::new(0, Config::default()).await;
    lab.create_group();
    let mut failures = Vec::new();
    for _ in 0..4 {
        failures.push(lab.cluster.failed_work(CONTROLLER));
        sleep(Duration::from_secs(8)).await;
    }
    assert!(
        failures[0] == 0 && (4..=5).contains(&failures[1]) && failures[3] - failures[2] <= 1,
        "{failures:?}"
    );

    // Every 15 minutes each object is reconciled again: here a group that waits for its sidecar, by one read.
    let lab = Lab::new(1, Config::default()).await;
    lab.cluster.set_frozen("csi-snapshotter", true);
    lab.create_group();
    lab.wait_until_idle().await;
    let reads = |lab: &Lab| lab.cluster.api().tally().calls(CONTROLLER, "get");
    let (reads_before, writes) = (reads(&lab), lab.cluster.api().tally().writes(CONTROLLER));
    for hour in 1..=10 {
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(reads(&lab), reads_before + 4 * hour);
    }
    assert_eq!(lab.cluster.api().tally().writes(CONTROLLER), writes);

    // A killed leader leaves its lease: its successor waits for 15 seconds.
    for (leader_election, seconds) in [(false, 0..=1), (true, 15..=16)] {
        let lab = Lab::new(1, Config { leader_election, ..Config::default() }).await;
        let start = Instant::now();
        lab.cluster.restart(CONTROLLER);
        lab.create_ready_group(1).await;
        assert!(seconds.contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }

    // At 5 calls per second one member takes 2 seconds.
    for (qps, seconds) in [(Some(5.0), 4.0..9.0), (Some(200.0), 0.0..1.0), (None, 0.0..0.1)] {
        let lab = Lab::new(3, Config { controller_qps: qps, ..Config::default() }).await;
        lab.wait_until_idle().await;
        let start = Instant::now();
        lab.create_ready_group(3).await;
        assert!(seconds.contains(&start.elapsed().as_secs_f64()), "{qps:?}: {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn behaviour_10_rewrites_status_until_group_is_ready() {
    let lab = Lab::new(2, slow_driver(12_000)).await;
    let mut watch = lab.user.watch(SNAPSHOTS);
    lab.create_group();
    lab.wait_until("ready", |lab| lab.group().is_some_and(|group| group["status"]["readyToUse"] == true))
        .await;
    assert!(!lab.is_ready(2), "the group is ready before its members");
    lab.wait_until("all are ready", |lab| lab.is_ready(2)).await;
    let history = states(&mut watch, name(&lab.snapshots()[0]));
    let forgets = |pair: &&[Value]| {
        !pair[0]["status"]["creationTime"].is_null() && pair[1]["status"]["creationTime"].is_null()
    };
    let wiped = history.windows(2).filter(forgets).count();
    assert!(wiped > 10, "overwritten {wiped} times; measured: three times per second");
    let named = |member: &Value| member["status"]["volumeGroupSnapshotName"].is_string();
    assert!(first(&history, |member| member["status"]["creationTime"].is_string()) <= first(&history, named));
    assert!(named(history.last().expect("some")));
}

#[tokio::test(start_paused = true)]
async fn behaviour_11_member_list_is_filled_only_once() {
    let lab = Lab::new(2, slow_driver(5_000)).await;
    lab.create_ready_group(2).await;
    lab.wait_until_idle().await;
    let content = lab.group_content().expect("exists");
    assert_eq!(content["status"]["readyToUse"], true);
    for listed in content["status"]["volumeSnapshotInfoList"].as_array().expect("members") {
        assert_eq!(listed["readyToUse"], false, "the list never changes");
    }
    assert!(lab.contents().iter().all(|one| one["status"]["readyToUse"] == true));
    assert!(lab.driver_calls("ListSnapshots") >= 2);
}

#[tokio::test(start_paused = true)]
async fn behaviour_12_controller_restores_owner_of_stripped_member() {
    let lab = lab_with_ready_group(2, Config::default()).await;
    run(&lab, &[Strip, Wait(1000)]).await;
    for member in lab.snapshots() {
        assert_eq!(owners(&member), 1, "the next reconcile restores the owner");
        assert!(has_finalizer(&member, AS_SOURCE) && !has_finalizer(&member, IN_GROUP));
        assert_eq!(member["spec"]["volumeSnapshotClassName"], "csi-hostpath-snapclass");
    }
    let lab = lab_with_ready_group(1, Config::default()).await;
    run(&lab, &[NoDefaultClass, Strip, Wait(1000)]).await;
    let member = lab.snapshots().remove(0);
    assert_eq!((owners(&member), has_finalizer(&member, AS_SOURCE)), (0, false));
    assert!(
        member["status"]["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("default snapshot class"))
    );

    // A member stripped before it is ready becomes an ordinary snapshot, with a second content and a second
    // cut, permanently.
    let lab = Lab::new(1, slow_driver(12_000)).await;
    lab.create_group();
    sleep(Duration::from_secs(3)).await;
    let member = lab.snapshots().remove(0);
    run(&lab, &[Strip]).await;
    lab.wait_until_idle().await;
    assert!(lab.get(CONTENTS, &format!("snapcontent-{}", uid(&member))).is_some());
    assert!(lab.driver_calls("CreateSnapshot") > 0);
    assert_eq!(lab.ledger().0, 2);
}

#[tokio::test(start_paused = true)]
async fn behaviour_18_one_foreign_pvc_fails_whole_selection() {
    let lab = Lab::new(2, Config::default()).await;
    let expression = json!({"matchExpressions": [{"key": "group", "operator": "In", "values": ["nope"]}]});
    for (name, selector) in [("expression", expression), ("empty", json!({}))] {
        let group = lab.create_group_with(name, selector, None);
        lab.wait_until_idle().await;
        let content = format!("groupsnapcontent-{}", uid(&group));
        let content = lab.get("volumegroupsnapshotcontents", &content).expect("made");
        assert_eq!(
            content["spec"]["source"]["volumeHandles"].as_array().map(Vec::len),
            Some(2),
            "{name}: every PVC"
        );
    }
    lab.create(
        "persistentvolumes",
        json!({"metadata": {"name": "foreign"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "10Mi"}, "storageClassName": "foreign",
            "csi": {"driver": "foreign.example.com", "volumeHandle": "f"},
        }}),
    );
    let mut body = pvc("foreign", &json!({"group": GROUP}), "foreign");
    body["spec"]["volumeName"] = json!("foreign");
    lab.create(PVCS, body);
    lab.wait_until("bound", |lab| {
        lab.get(PVCS, "foreign").is_some_and(|one| one["status"]["phase"] == "Bound")
    })
    .await;
    let cuts = lab.driver_calls("CreateVolumeGroupSnapshot");
    lab.create_group();
    lab.wait_until_idle().await;
    let message =
        lab.group().expect("exists")["status"]["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("mismatch"), "{message}");
    assert_eq!(lab.driver_calls("CreateVolumeGroupSnapshot"), cuts, "no PVC is cut");
}

#[tokio::test(start_paused = true)]
async fn behaviour_20_releases_differ_in_version_and_gate() {
    for release in Release::ALL {
        let lab = lab_with_ready_group(2, Config { release: Some(release), ..Config::default() }).await;
        let (group, content) = (lab.group().expect("ready"), lab.group_content().expect("exists"));
        let version = format!("groupsnapshot.storage.k8s.io/{}", release.group_version());
        let named_after = if release == Release::V8_2 { uid(&content) } else { uid(&group) };
        let hash = |volume: &str| {
            let digest = sha2::Sha256::digest(format!("{named_after}{volume}").as_bytes());
            digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let pairs = release <= Release::V8_3;
        let (list, none) = match pairs {
            true => ("volumeSnapshotHandlePairList", "volumeSnapshotInfoList"),
            false => ("volumeSnapshotInfoList", "volumeSnapshotHandlePairList"),
        };
        assert!(content["status"].get(none).is_none(), "{release:?}");
        let listed = content["status"][list].as_array().expect("a list");
        assert_eq!(listed.len(), 2, "{release:?}");
        for one in listed {
            let fields = one.as_object().map(|map| map.len());
            assert_eq!(fields, Some(if pairs { 2 } else { 5 }), "{release:?}: {one}");
            let wanted = format!("snapshot-{}", hash(one["volumeHandle"].as_str().expect("a handle")));
            let member = lab.get(SNAPSHOTS, &wanted).unwrap_or_else(|| panic!("{release:?}: no {wanted}"));
            assert_eq!(member["metadata"]["ownerReferences"][0]["apiVersion"], version, "{release:?}");
            assert!(member["status"]["restoreSize"].is_string(), "restoreSize comes from ListSnapshots");
        }
        // Only the CRDs of the release are served; each version returns the stored object with its own list.
        for version in ["v1", "v1beta2", "v1beta1"] {
            let path = format!("/apis/groupsnapshot.storage.k8s.io/{version}/volumegroupsnapshotcontents");
            let reply = lab.http("GET", &path, None).await;
            assert_eq!(
                reply.status,
                if release.serves(version) { 200 } else { 404 },
                "{release:?} {version}"
            );
        }
        assert_eq!(release.handles_groups_by_default(), release == Release::Main);
        run(&lab, &[DeleteGroup]).await;
        lab.wait_until_idle().await;
        assert_eq!((lab.snapshots().len(), lab.ledger()), (0, (0, 0, 0)), "{release:?}");
    }

    // A group is imported while its driver is not ready: older releases retry only at a resync.
    for (release, seconds) in [(Release::V8_6, 600..=900), (Release::Main, 100..=300)] {
        let lab = lab_with_ready_group(1, Config { release: Some(release), ..Config::default() }).await;
        run(&lab, &crate::script::RETAIN).await;
        run(&lab, &crate::script::RELEASE[..7]).await;
        let not_ready_ms = 200_000;
        lab.cluster.storage().set_config(DriverConfig { not_ready_ms, ..DriverConfig::default() });
        let start = Instant::now();
        let physical = lab.cluster.storage().physical_snapshots();
        let group_handle = physical[0].group_handle.clone().expect("a group handle");
        let members = vec![physical[0].snapshot_handle.clone()];
        import_group_content(&lab, "imported", &group_handle, &members, "Retain");
        import_group(&lab, "imported");
        lab.wait_until("ready", |lab| {
            lab.get(GROUPS, "imported").is_some_and(|group| group["status"]["readyToUse"] == true)
        })
        .await;
        println!("{release:?}: an unready imported group becomes ready after {:?}", start.elapsed());
        assert!(seconds.contains(&start.elapsed().as_secs()), "{release:?}: {:?}", start.elapsed());
    }
    let lab = Lab::new(1, Config { handles_groups: false, ..Config::default() }).await;
    lab.create_group();
    lab.wait_until_idle().await;
    assert!(lab.group_content().is_none() && lab.group().is_some_and(|group| group.get("status").is_none()));

    // The controller ignores an owner reference of another version and adds its own beside it.
    let lab = lab_with_ready_group(1, Config::default()).await;
    let member = lab.snapshots().remove(0);
    let mut old = member["metadata"]["ownerReferences"].clone();
    old[0]["apiVersion"] = json!("groupsnapshot.storage.k8s.io/v1beta2");
    lab.patch(SNAPSHOTS, &member, json!({"metadata": {"ownerReferences": old}}));
    lab.wait_until_idle().await;
    assert_eq!(owners(&lab.snapshots()[0]), 2);
}

#[tokio::test(start_paused = true)]
async fn behaviour_21_counts_events_including_false_failures() {
    let lab = lab_with_ready_group(1, Config::default()).await;
    for reason in ["CreatingGroupSnapshot", "GroupSnapshotCreated", "GroupSnapshotReady", "SnapshotReady"] {
        assert_eq!(lab.events(reason).len(), 1, "{reason}");
    }
    lab.delete(SNAPSHOTS, &lab.snapshots()[0]);
    lab.wait_until_idle().await;
    let pending = lab.events("SnapshotDeletePending");
    assert_eq!(pending.len(), 1);
    assert!(pending[0]["count"].as_u64() > Some(3), "one Event with a count");

    // The cache of the controller still contains a deleted content.
    let lab = lab_with_ready_group(1, Config::default()).await;
    lab.delete(GROUPS, &lab.group().expect("exists"));
    while lab.group_content().is_some_and(|content| !is_deleting(&content)) {
        tokio::task::yield_now().await;
    }
    run(&lab, &[Freeze, Wait(1000), Unfreeze]).await;
    lab.wait_until_idle().await;
    assert_eq!((lab.ledger(), lab.list(GROUPS).len()), ((0, 0, 0), 0), "a successful deletion");
    assert_eq!(lab.events("GroupSnapshotContentObjectDeleteError").len(), 1);
}
