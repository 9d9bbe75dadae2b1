//! Tests disruptions in the release: every member is kept, whatever changes between the pivot and the last
//! fresh read.
//!
//! The points are those that an incarnation without disruptions passes. The disruption acts once, at one of
//! them.

use std::sync::Arc;
use std::time::Duration;

use stillpoint::machine::kit::Point;
use stillpoint::sim::{Cluster, Config};

use crate::testbed::{Passed, Testbed};
use crate::{disruptions, invariants};

const MEMBERS: usize = 3;

/// A change to the cluster.
type Act = fn(&Cluster);

async fn set_up(config: Config) -> Testbed {
    let testbed = Testbed::new(config);
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup("shop");
    testbed
}

/// Returns the points from the last fresh read before the pivot to the last one of the release.
async fn points(config: Config) -> Vec<Point> {
    let testbed = set_up(config).await;
    let passed = Passed::default();
    let end = testbed.run_daemon_with(passed.watch(), Arc::default()).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    let all = passed.distinct();
    let at = |name: &str| all.iter().position(|point| point.to_string() == name).expect(name);
    all[at("clear-names/before-intent")..at("cleaned/before-record")].to_vec()
}

async fn meddled(config: Config, at: Point, act: Act) -> Result<Vec<String>, String> {
    let testbed = set_up(config).await;
    let end = testbed.run_daemon_acting(at, act, None).await;
    invariants::settled(&testbed).await;
    let verdict = match end {
        _ if end.is("Completed") => invariants::completed(&testbed, "shop", MEMBERS).await,
        other => Err(format!("ended as {other:?}")),
    };
    match verdict {
        Ok(()) => Ok(testbed.rows().await),
        Err(reason) => Err(format!("{reason}\n{}", testbed.shown().await)),
    }
}

/// Acts at each point that `chosen` accepts. Returns the rows that were decided in all incarnations together.
async fn at_each(name: &str, config: fn() -> Config, act: Act, chosen: fn(&str) -> bool) -> Vec<String> {
    let (mut rows, mut failures, mut count) = (Vec::new(), Vec::new(), 0);
    for point in points(config()).await.into_iter().filter(|point| chosen(&point.to_string())) {
        count += 1;
        match meddled(config(), point, act).await {
            Ok(more) => rows.extend(more),
            Err(reason) => failures.push(format!("{name} at {point}: {reason}")),
        }
    }
    println!("{name}: {count} points, {} ended wrong", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(count > 0);
    rows
}

fn everywhere(_: &str) -> bool {
    true
}

#[tokio::test(start_paused = true)]
async fn rebuilds_one_deleted_member() {
    let one: Act = |cluster| disruptions::delete_member(cluster, "orders-db-1");
    let rows = at_each("a member deleted", Config::default, one, everywhere).await;
    assert!(rows.iter().any(|row| row == "release/5-rebuild"), "{rows:?}");
    assert!(rows.iter().any(|row| row == "release/late-stub"), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn rebuilds_two_deleted_members() {
    let two: Act = |cluster| {
        disruptions::delete_member(cluster, "orders-db-0");
        disruptions::delete_member(cluster, "orders-db-2");
    };
    at_each("two members deleted", Config::default, two, everywhere).await;
}

#[tokio::test(start_paused = true)]
async fn slow_controllers_also_rebuild_all_deleted_members() {
    let all: Act =
        |cluster| (0..MEMBERS).for_each(|i| disruptions::delete_member(cluster, &format!("orders-db-{i}")));
    at_each("all members deleted", Config::default, all, everywhere).await;
    let slow = || Config { controller_qps: Some(5.0), ..Config::default() };
    at_each("all members deleted, 5 calls a second", slow, all, everywhere).await;
    let stale = || Config { cache_lag_ms: 400, ..Config::default() };
    at_each("all members deleted, stale caches", stale, all, everywhere).await;
}

#[tokio::test(start_paused = true)]
async fn another_client_may_delete_the_group() {
    let act: Act = |cluster| disruptions::delete_first(cluster, "volumegroupsnapshots");
    at_each("the group deleted", Config::default, act, everywhere).await;
}

#[tokio::test(start_paused = true)]
async fn another_client_may_delete_the_group_content() {
    let act: Act = |cluster| disruptions::delete_first(cluster, "volumegroupsnapshotcontents");
    at_each("the content deleted", Config::default, act, everywhere).await;
}

/// After the decision to delete the group, another read does not help: the API cannot delete one object under
/// the condition that another one is unchanged. The last instant at which a policy can be repaired is
/// therefore the read before that decision.
fn before_the_delete(point: &str) -> bool {
    ["clear-names/", "detach/"].iter().any(|step| point.starts_with(step))
}

#[tokio::test(start_paused = true)]
async fn repairs_reverted_policy_before_group_deletion() {
    let group: Act = disruptions::unretain;
    let rows = at_each("the group's policy set back", Config::default, group, before_the_delete).await;
    assert!(rows.iter().any(|row| row == "release/mend-policies"), "{rows:?}");
    let member: Act = disruptions::unretain_member;
    let rows = at_each("a member's policy set back", Config::default, member, everywhere).await;
    assert!(rows.iter().any(|row| row == "release/mend-policies"), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn restores_labels_removed_before_the_pivot() {
    let testbed = set_up(Config::default()).await;
    let at = "retained/after-record".parse().expect("a point");
    let end = testbed.run_daemon_acting(at, disruptions::unlabel_member, None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::completed(&testbed, "shop", MEMBERS).await, Ok(()), "{}", testbed.shown().await);
    assert!(testbed.rows().await.iter().any(|row| row == "retained/mend-labels"));
}

#[tokio::test(start_paused = true)]
async fn the_controller_may_be_restarted() {
    let act: Act = |cluster| cluster.restart("snapshot-controller");
    at_each("snapshot-controller restarted", Config::default, act, everywhere).await;
    let act: Act = |cluster| cluster.restart("csi-snapshotter");
    at_each("csi-snapshotter restarted", Config::default, act, everywhere).await;
}

/// Pauses the controller at a point. It resumes five minutes later, with its old caches.
fn freeze(cluster: &Cluster) {
    cluster.set_frozen("snapshot-controller", true);
    let cluster = cluster.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(300)).await;
        cluster.set_frozen("snapshot-controller", false);
    });
}

#[tokio::test(start_paused = true)]
async fn the_controller_may_be_frozen() {
    let rows = at_each("snapshot-controller frozen", Config::default, freeze, everywhere).await;
    assert!(rows.iter().any(|row| row == "release/5-delete-group"), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn release_waits_for_frozen_controller() {
    let testbed = set_up(Config::default()).await;
    let at = "detach/before-intent".parse().expect("a point");
    let looks = async {
        testbed.pass(200).await;
        let shown = testbed.list("groupsnapshots", Some("shop")).remove(0)["status"].take();
        let text = shown["waitingFor"].as_str().unwrap_or_default();
        assert!(text.starts_with("the snapshot-controller to see the released members: "), "{shown:#}");
        assert!(text.contains("volumesnapshot-as-source-protection back on"), "{shown:#}");
        assert_eq!(testbed.list("volumegroupsnapshots", None).len(), 1, "nothing is deleted before that");
    };
    let (end, ()) = tokio::join!(testbed.run_daemon_acting(at, freeze, None), looks);
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::completed(&testbed, "shop", MEMBERS).await, Ok(()), "{}", testbed.shown().await);
}
