//! Tests that a run which cannot be finished is rolled back to a clean cluster and freed storage, killed at
//! any point.

use serde_json::json;
use stillpoint::drill::invariants::Invariant;
use stillpoint::machine::kit::Point;
use stillpoint::sim::actors::driver::DriverConfig;
use stillpoint::sim::{Cluster, Config};

use crate::testbed::{End, Testbed};
use crate::{disruptions, invariants};

fn driver(code: &str, config: DriverConfig) -> Config {
    let failure = Some((code.to_owned(), "the array is on fire".to_owned()));
    Config { driver: DriverConfig { fail_with: failure, ..config }, ..Config::default() }
}

fn failing(code: &str) -> Config {
    driver(code, DriverConfig::default())
}

async fn set_up(config: Config, members: usize) -> Testbed {
    let testbed = Testbed::new(config);
    testbed.claims("shop", "orders-db", members).await;
    testbed.backup_with(json!({"includedNamespaces": ["shop"], "csiSnapshotTimeout": "30s"}));
    testbed
}

/// A change to the cluster.
type Act = fn(&Cluster);

fn point(text: &str) -> Point {
    text.parse().unwrap_or_else(|_| panic!("no point {text}"))
}

fn cuts(testbed: &Testbed) -> u64 {
    testbed.cluster.storage().calls().get("CreateVolumeGroupSnapshot").copied().unwrap_or(0)
}

fn reason(testbed: &Testbed) -> String {
    testbed.nightly()["status"]["failureReason"].as_str().unwrap_or_default().to_owned()
}

/// Runs the daemon to the end, which must be `Failed` and clean. Returns the reason in the Backup.
async fn fails_clean(testbed: &Testbed) -> String {
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    let verdict = invariants::undone(testbed, "shop").await;
    assert_eq!(verdict, Ok(()), "{}", testbed.shown().await);
    reason(testbed)
}

async fn completes(testbed: &Testbed, members: usize) {
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    let verdict = invariants::completed(testbed, "shop", members).await;
    assert_eq!(verdict, Ok(()), "{}", testbed.shown().await);
}

#[tokio::test(start_paused = true)]
async fn stops_calls_to_permanently_failing_driver() {
    let testbed = set_up(failing("Internal"), 3).await;
    let reason = fails_clean(&testbed).await;
    assert!(reason.contains("SP0013") && reason.contains("the array is on fire"), "{reason}");
    let at_the_end = cuts(&testbed);
    println!("Internal for ever: {at_the_end} calls of CreateVolumeGroupSnapshot, then {reason}");
    assert!(at_the_end <= 40, "{at_the_end} calls in a grace of ten seconds");
    testbed.pass(600).await;
    assert_eq!(cuts(&testbed), at_the_end, "after the undo nobody calls the driver any more");
}

#[tokio::test(start_paused = true)]
async fn stops_calls_to_driver_without_group_support() {
    let config = Config {
        driver: DriverConfig { unimplemented: true, ..DriverConfig::default() },
        ..Config::default()
    };
    let testbed = set_up(config, 3).await;
    let reason = fails_clean(&testbed).await;
    assert!(reason.contains("SP0012") && reason.contains("Unimplemented"), "{reason}");
    println!("Unimplemented: {} calls of CreateVolumeGroupSnapshot", cuts(&testbed));
    assert!(cuts(&testbed) <= 4, "{} calls", cuts(&testbed));
}

#[tokio::test(start_paused = true)]
async fn only_snapshots_outside_groups_remain_after_rollback() {
    let testbed =
        set_up(driver("Internal", DriverConfig { partial_cut_left: true, ..Default::default() }), 3).await;
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    let broken = invariants::undone(&testbed, "shop").await.expect_err("the driver leaks");
    let of_storage = [Invariant::StorageFate, Invariant::NothingLeaked].map(Invariant::name);
    let leaks = |line: &str| of_storage.iter().any(|name| line.starts_with(name));
    assert!(broken.lines().all(leaks), "{broken}");
    let leaked = testbed.cluster.ledger().leaked as u64;
    println!("partial cuts: {leaked} physical snapshots leaked by the driver in {} calls", cuts(&testbed));
    assert_eq!(leaked, 2 * cuts(&testbed), "two of three volumes a call");
}

/// The sidecar does not release a content if it does not know whether the driver is cutting it
/// (csi-snapshotter, `shouldDeleteGroupSnapshotContent`). Freeing waits for a driver that replies, and the run
/// reports this.
#[tokio::test(start_paused = true)]
async fn waits_for_transient_error_until_cut_deadline() {
    for cut_despite_failure in [false, true] {
        let config = DriverConfig { cut_despite_failure, ..DriverConfig::default() };
        let testbed = set_up(driver("DeadlineExceeded", config), 3).await;
        let mended = async {
            testbed.pass(300).await;
            let shown = testbed.list("groupsnapshots", Some("shop")).remove(0)["status"].take();
            assert_eq!(shown["state"], "Unwinding", "{shown:#}");
            assert!(shown["waitingFor"].is_string(), "{shown:#}");
            println!("DeadlineExceeded: {} calls, then waits for {}", cuts(&testbed), shown["waitingFor"]);
            testbed.cluster.storage().set_config(DriverConfig::default());
        };
        let (reason, ()) = tokio::join!(fails_clean(&testbed), mended);
        assert!(reason.contains("SP0014") && reason.contains("DeadlineExceeded"), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn rolls_back_group_at_readiness_deadline() {
    let config = Config {
        driver: DriverConfig { not_ready_ms: 1 << 40, ..DriverConfig::default() },
        ..Config::default()
    };
    let testbed = Testbed::new(config);
    testbed.claims("shop", "orders-db", 3).await;
    let spec = json!({
        "includedNamespaces": ["shop"], "csiSnapshotTimeout": "30s", "itemOperationTimeout": "60s",
    });
    testbed.backup_with(spec);
    let reason = fails_clean(&testbed).await;
    println!("never ready: {reason}");
    assert!(reason.contains("SP0015") || reason.contains("SP0014"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn tolerates_error_that_clears_within_grace() {
    let testbed = set_up(driver("Internal", DriverConfig { fail_times: 3, ..Default::default() }), 3).await;
    completes(&testbed, 3).await;
    println!("healed after {} calls", cuts(&testbed));
}

#[tokio::test(start_paused = true)]
async fn finds_cut_that_driver_reported_as_failed() {
    let config = DriverConfig { cut_despite_failure: true, fail_times: 3, ..DriverConfig::default() };
    completes(&set_up(driver("DeadlineExceeded", config), 3).await, 3).await;
}

/// Sets the deletionPolicy of the class to Retain, so that all policies are Retain from the start.
fn retain_class(testbed: &Testbed) {
    let class = testbed.list("volumegroupsnapshotclasses", None).remove(0);
    let name = class["metadata"]["name"].as_str().expect("a name").to_owned();
    let gone = testbed.hand().delete("volumegroupsnapshotclasses", None, &name, Default::default());
    gone.expect("deleted");
    let mut class = class;
    class["deletionPolicy"] = json!("Retain");
    class["metadata"] = json!({"name": name, "labels": class["metadata"]["labels"], "annotations": class["metadata"]["annotations"]});
    testbed.hand().create("volumegroupsnapshotclasses", class).expect("a class that retains");
}

/// Deletes the VolumeSnapshotClass of the release after the last fresh read but one: the run is rolled back
/// from Retained.
fn drop_class(cluster: &Cluster) {
    disruptions::delete_first(cluster, "volumesnapshotclasses");
}

/// The create may have happened. It is repeated once, so that there is a known object to delete, but not
/// endlessly.
#[tokio::test(start_paused = true)]
async fn rollback_repeats_create_of_unknown_fate_once() {
    let testbed = set_up(Config::default(), 2).await;
    let end = testbed.run_daemon(Some(point("create/after-intent"))).await;
    assert!(matches!(end, End::Killed), "{end:?}");
    disruptions::delete_first(&testbed.cluster, "persistentvolumeclaims");
    let reason = fails_clean(&testbed).await;
    println!("undone with {} writes: {reason}", testbed.writes());
    assert!(reason.contains("SP0018"), "{reason}");
    assert!(testbed.writes() <= 6, "{} writes", testbed.writes());
}

const LAST: &str = "retained/before-record";

#[tokio::test(start_paused = true)]
async fn rolls_back_from_last_reversible_state() {
    for members in [1, 3] {
        let testbed = set_up(Config::default(), members).await;
        let end = testbed.run_daemon_acting(point(LAST), drop_class, None).await;
        assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
        assert_eq!(invariants::undone(&testbed, "shop").await, Ok(()), "{}", testbed.shown().await);
        assert!(reason(&testbed).contains("SP0007"), "{}", reason(&testbed));
        println!("undone from Retained, {members} members: {} writes", testbed.writes());
    }
}

#[tokio::test(start_paused = true)]
async fn rollback_frees_storage_despite_retaining_class() {
    let testbed = set_up(Config::default(), 3).await;
    retain_class(&testbed);
    let end = testbed.run_daemon_acting(point(LAST), drop_class, None).await;
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::undone(&testbed, "shop").await, Ok(()), "{}", testbed.shown().await);
}

// ---- destroyed from outside -------------------------------------------------------------------------------

async fn destroyed(at: &str, what: &str, act: fn(&Cluster)) -> Result<String, String> {
    let testbed = set_up(Config::default(), 3).await;
    let end = testbed.run_daemon_acting(point(at), act, None).await;
    // The controller retries the deletion of a lone member by back-off only.
    invariants::settled(&testbed).await;
    let verdict = match &end {
        _ if end.is("Completed") => invariants::completed(&testbed, "shop", 3).await,
        _ if end.is("Failed") => invariants::undone(&testbed, "shop").await,
        other => Err(format!("ended as {other:?}")),
    };
    let attempt = testbed.list("groupsnapshots", Some("shop"))[0]["status"]["attempt"].clone();
    match verdict {
        Ok(()) => Ok(format!("{what} gone at {at}: {end:?} at attempt {attempt}")),
        Err(reason) => Err(format!("{what} gone at {at}: {reason}\n{}", testbed.shown().await)),
    }
}

#[tokio::test(start_paused = true)]
async fn cuts_again_after_deletion_or_fails_cleanly() {
    let stages = [
        "created/after-record",
        "cut/after-record",
        "vs-bound/after-record",
        "relabel/mid-effects",
        "relabelled/after-record",
        "retain/mid-effects",
        "retained/before-record",
        "retained/after-record",
    ];
    let hands: [(&str, Act); 4] = [
        ("the group", |cluster| disruptions::delete_first(cluster, "volumegroupsnapshots")),
        ("the content", |cluster| disruptions::delete_first(cluster, "volumegroupsnapshotcontents")),
        ("a member", |cluster| disruptions::delete_member(cluster, "orders-db-1")),
        ("a member's content", |cluster| disruptions::delete_first(cluster, "volumesnapshotcontents")),
    ];
    let mut failures = Vec::new();
    for at in stages {
        for (what, act) in hands {
            match destroyed(at, what, act).await {
                Ok(end) => println!("{end}"),
                Err(reason) => failures.push(reason),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The snapshot-controller is paused directly after it created the content, which has no finalizer yet. The
/// driver cuts the group all the same, and a user deletes the group. Deleting that content at once would lose
/// its storage.
#[tokio::test(start_paused = true)]
async fn waits_for_content_finalizer_and_loses_no_storage() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 3).await;
    testbed.backup("shop");
    disruptions::freeze_behind_write(&testbed.cluster, "snapshot-controller");
    let somebody = async {
        testbed.until(|testbed| testbed.cluster.ledger().physical_snapshots == 3).await;
        let content = &testbed.list("volumegroupsnapshotcontents", None)[0];
        assert!(content["metadata"]["finalizers"].is_null(), "{content:#}");
        disruptions::delete_first(&testbed.cluster, "volumegroupsnapshots");
    };
    let (end, ()) = tokio::join!(testbed.run_daemon(None), somebody);
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert!(testbed.rows().await.iter().any(|row| row == "undo/d-delete-content"));
    if let Err(reason) = invariants::completed(&testbed, "shop", 3).await {
        panic!("{reason}\n{}", testbed.shown().await);
    }
}

/// Creates a testbed whose run was being rolled back when the daemon was killed. Group and content were then
/// deleted with their finalizers removed.
async fn torn() -> Testbed {
    let testbed = set_up(Config::default(), 2).await;
    let end = testbed.run_daemon_acting(point(LAST), drop_class, Some(point("unwinding/after-record"))).await;
    assert!(matches!(end, End::Killed), "{end:?}");
    disruptions::tear_group_and_content(&testbed.cluster);
    testbed
}

#[tokio::test(start_paused = true)]
async fn frees_storage_of_removed_content_by_handles() {
    let testbed = torn().await;
    assert!(testbed.run_daemon(None).await.is("Failed"));
    invariants::undone(&testbed, "shop").await.unwrap();
}

/// A user saves a member by importing it. The imported object belongs to the user, and the driver is not
/// called to free the rest of its group.
#[tokio::test(start_paused = true)]
async fn does_not_free_storage_imported_by_others() {
    let testbed = torn().await;
    let content = testbed.list("volumesnapshotcontents", None).remove(0);
    let saved = json!({
        "metadata": {"name": "saved"},
        "spec": {
            "deletionPolicy": "Retain",
            "driver": content["spec"]["driver"],
            "source": {"snapshotHandle": content["status"]["snapshotHandle"]},
            "volumeSnapshotRef": {"name": "saved", "namespace": "elsewhere"},
        },
    });
    testbed.hand().create("volumesnapshotcontents", saved).expect("created");
    assert!(testbed.run_daemon(None).await.is("Failed"));
    assert_eq!(testbed.cluster.ledger().physical_snapshots, 2, "both, because a group is freed as one");
    let left = testbed.list("volumesnapshotcontents", None);
    assert!(left.len() == 1 && left[0]["metadata"]["name"] == "saved", "{left:?}");
    assert_eq!(testbed.group_objects(), 0);
}
