//! Tests the cost of a run: writes depend on the size of its group, reads on nothing but the group.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use stillpoint::engine::backup_spec::Defaults;
use stillpoint::engine::crash_points::CrashPoints;
use stillpoint::sim::{Cluster, Config};

use crate::invariants;
use crate::testbed::Testbed;

async fn set_up(members: usize) -> Testbed {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", members).await;
    testbed
}

async fn completes(testbed: &Testbed, members: usize) {
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    let verdict = invariants::completed(testbed, "shop", members).await;
    assert_eq!(verdict, Ok(()), "{}", testbed.shown().await);
}

#[tokio::test(start_paused = true)]
async fn group_of_n_takes_4n_plus_4_writes() {
    for members in [1, 3, 10, 50] {
        let testbed = set_up(members).await;
        testbed.backup("shop");
        completes(&testbed, members).await;
        println!("{members} members: {} writes, {} in all", testbed.writes(), all_writes(&testbed));
        assert_eq!(testbed.writes(), 4 * members as u64 + 4, "{members} members");
    }
}

#[tokio::test(start_paused = true)]
async fn restoring_names_takes_one_more_write_per_member() {
    for members in [1, 3, 10, 50] {
        let mut testbed = set_up(members).await;
        testbed.defaults = Defaults { keep_group_name: true, ..Defaults::default() };
        testbed.backup("shop");
        completes(&testbed, members).await;
        println!("{members} members, names put back: {} writes", testbed.writes());
        assert_eq!(testbed.writes(), 5 * members as u64 + 4, "{members} members");
        for member in testbed.list("volumesnapshots", Some("shop")) {
            assert!(member["status"]["volumeGroupSnapshotName"].is_string(), "{member:#}");
        }
    }
}

fn all_writes(testbed: &Testbed) -> u64 {
    testbed.cluster.api().tally().writes("stillpoint")
}

#[tokio::test(start_paused = true)]
async fn publishes_quickly_passed_states_in_one_write() {
    let testbed = set_up(3).await;
    testbed.backup("shop");
    completes(&testbed, 3).await;
    let tally = testbed.cluster.api().tally().0.remove("stillpoint").unwrap_or_default();
    let of = |verb: &str, resource: &str| tally.get(verb).and_then(|calls| calls.get(resource)).copied();
    assert_eq!(of("create", "groupsnapshots"), Some(1));
    // At the beginning and at the end. A read that first checks for the object would be one more call.
    assert_eq!(of("patch", "groupsnapshots/status"), Some(2));
    let shown = testbed.list("groupsnapshots", Some("shop")).remove(0);
    let conditions = shown["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let passed = conditions.iter().filter(|condition| condition["type"] != "Atomic").count();
    assert_eq!(passed, 5, "all that it passed is told: {shown:#}");
}

/// Counts the daemon's reads of single objects and its lists.
fn reads(testbed: &Testbed) -> u64 {
    let tally = testbed.cluster.api().tally();
    tally.calls("stillpoint", "get") + tally.calls("stillpoint", "list")
}

/// Creates unrelated objects in the same namespace.
async fn crowd(testbed: &Testbed, count: usize) {
    for index in 0..count {
        testbed.claim("shop", &format!("other-{index}"), None);
    }
    testbed
        .until(|testbed| {
            testbed
                .list("persistentvolumeclaims", Some("shop"))
                .iter()
                .all(|c| c["status"]["phase"] == "Bound")
        })
        .await;
    for index in 0..count {
        let snapshot = json!({
            "metadata": {"name": format!("other-{index}"), "namespace": "shop"},
            "spec": {"source": {"persistentVolumeClaimName": format!("other-{index}")}},
        });
        testbed.hand().create("volumesnapshots", snapshot).expect("a new VolumeSnapshot");
    }
    testbed
        .until(|testbed| {
            testbed.list("volumesnapshots", Some("shop")).iter().all(|s| s["status"]["readyToUse"] == true)
        })
        .await;
}

/// Counts the reads of a run that begins after the caches are filled.
async fn reads_of_a_run(others: usize) -> u64 {
    let testbed = set_up(3).await;
    crowd(&testbed, others).await;
    let asked = async {
        testbed.pass(10).await;
        let before = reads(&testbed);
        testbed.backup("shop");
        testbed.until(|testbed| testbed.ended().is_some()).await;
        reads(&testbed) - before
    };
    // The Backup is created during this incarnation, so that the incarnation itself cannot wait for its end.
    tokio::select! {
        reads = asked => reads,
        problem = testbed.life(CrashPoints::none()) => panic!("{problem}"),
    }
}

#[tokio::test(start_paused = true)]
async fn reads_do_not_grow_with_the_namespace() {
    let (alone, crowded) = (reads_of_a_run(0).await, reads_of_a_run(50).await);
    println!("reads of a run of 3: {alone} alone, {crowded} beside 50 other snapshots and claims");
    assert_eq!(alone, crowded);
}

/// Returns the reads of the next Backup, by verb and resource, and its duration on simulated time.
async fn reads_of_next(testbed: &Testbed, name: &str) -> (BTreeMap<String, u64>, Duration) {
    let reads = || {
        let verbs = testbed.cluster.api().tally().0.remove("stillpoint").unwrap_or_default();
        let of = |verb: &'static str| {
            let counts = verbs.get(verb).cloned().unwrap_or_default();
            counts.into_iter().map(move |(resource, count)| (format!("{verb} {resource}"), count))
        };
        of("get").chain(of("list")).collect::<BTreeMap<_, _>>()
    };
    let (before, begun) = (reads(), tokio::time::Instant::now());
    testbed.backup_named(name, json!({"includedNamespaces": ["shop"]}));
    testbed.until(|testbed| testbed.ended_as(name).is_some()).await;
    let took = begun.elapsed();
    assert_eq!(testbed.ended_as(name).as_deref(), Some("Completed"));
    let mut made = reads();
    made.iter_mut().for_each(|(key, count)| *count -= before.get(key).copied().unwrap_or(0));
    made.retain(|_, count| *count > 0);
    (made, took)
}

/// A consistent list of a real API server takes 70 ms, a get by name 1 ms. A run makes four fresh reads:
/// before the pivot, before each of the two deletes, and after them.
#[tokio::test(start_paused = true)]
async fn run_reads_by_name_and_never_lists() {
    for members in [1, 3, 10] {
        let n = members as u64;
        let testbed = Testbed::new(Config { list_delay_ms: 70, ..Config::default() });
        testbed.claims("shop", "orders-db", members).await;
        let work = async {
            testbed.pass(10).await;
            let (first, took) = reads_of_next(&testbed, "first").await;
            let expected = [
                ("get volumegroupsnapshotcontents", 4 * 2),
                ("get volumegroupsnapshots", 4),
                ("get volumesnapshotcontents", 4 * n),
                ("get volumesnapshots", 4 * n),
                // Checks whether another namespace has a Backup of that name.
                ("list backups", 1),
            ];
            println!("{members} members: {first:?} in {took:?}");
            assert_eq!(first, expected.map(|(key, count)| (key.to_owned(), count)).into());
            // Snapshots that earlier Backups of the same PVCs keep are not read.
            assert_eq!(reads_of_next(&testbed, "second").await.0, first);
            assert_eq!(reads_of_next(&testbed, "third").await.0, first);
        };
        tokio::select! {
            problem = testbed.life(CrashPoints::none()) => panic!("{problem}"),
            () = work => {}
        }
    }
}

/// The permissions of an older release, whose daemon was replaced in the middle of a run.
#[tokio::test(start_paused = true)]
async fn run_lists_if_get_is_forbidden() {
    let testbed = set_up(3).await;
    testbed.backup("shop");
    let rbac = testbed.rbac.clone();
    let deny = move |_: &Cluster| {
        ["volumesnapshots", "volumesnapshotcontents", "volumegroupsnapshots", "volumegroupsnapshotcontents"]
            .iter()
            .for_each(|kind| rbac.deny(&format!("get {kind}")));
    };
    let end = testbed.run_daemon_acting("retained/after-record".parse().expect("a point"), deny, None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::completed(&testbed, "shop", 3).await, Ok(()));
}

/// Counts the daemon's calls by verb, except those that renew the binding of its journal.
fn calls(testbed: &Testbed) -> BTreeMap<String, u64> {
    let tally = testbed.cluster.api().tally();
    let verbs = tally.0.get("stillpoint").cloned().unwrap_or_default();
    let others = |resources: BTreeMap<String, u64>| -> u64 {
        resources.into_iter().filter(|(resource, _)| resource != "configmaps").map(|(_, count)| count).sum()
    };
    verbs.into_iter().map(|(verb, resources)| (verb, others(resources))).collect()
}

/// Counts calls, except renewals of watches.
fn asked(testbed: &Testbed) -> BTreeMap<String, u64> {
    let mut calls = calls(testbed);
    calls.remove("watch");
    calls
}

#[tokio::test(start_paused = true)]
async fn waiting_run_sends_no_requests() {
    for (at, state) in [("create/before-intent", "Created"), ("detach/before-intent", "Retained")] {
        let testbed = set_up(3).await;
        let patient = json!({
            "includedNamespaces": ["shop"], "csiSnapshotTimeout": "10h", "itemOperationTimeout": "10h",
        });
        testbed.backup_with(patient);
        let waits = async {
            testbed.pass(60).await;
            let (before, all) = (asked(&testbed), calls(&testbed));
            testbed.pass(3000).await;
            assert_eq!(asked(&testbed), before, "frozen at {at}");
            let shown = testbed.list("groupsnapshots", Some("shop")).remove(0)["status"].take();
            println!(
                "50 minutes of waiting for {}: {all:?} before, {:?} after",
                shown["waitingFor"],
                calls(&testbed)
            );
            assert_eq!(shown["state"], state, "frozen at {at}: {shown:#}");
            testbed.cluster.set_frozen("snapshot-controller", false);
        };
        let freeze = |cluster: &Cluster| cluster.set_frozen("snapshot-controller", true);
        let at = at.parse().expect("a point");
        let (end, ()) = tokio::join!(testbed.run_daemon_acting(at, freeze, None), waits);
        assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
        assert_eq!(invariants::completed(&testbed, "shop", 3).await, Ok(()));
    }
}
