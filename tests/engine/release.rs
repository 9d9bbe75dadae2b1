//! Compares Velero's release order, which loses members, with Stillpoint's, which keeps them: same group, same
//! controllers.
//!
//! Velero (`pvc_action.go`) removes owner references and finalizers while the members still name their group,
//! sets the content to Retain, and deletes content and group. The snapshot-controller restores the owner on a
//! member that names an existing group, and the members are deleted with the group.

use std::time::Duration;

use serde_json::{Value, json};
use stillpoint::sim::Config;
use stillpoint::sim::api_server::Preconditions;
use tokio::time::sleep;

use crate::invariants;
use crate::testbed::Testbed;

const MEMBERS: usize = 4;

/// Three speeds of the controllers.
fn profiles() -> [(&'static str, Config); 3] {
    [
        ("no limit", Config::default()),
        ("5 calls a second", Config { controller_qps: Some(5.0), ..Config::default() }),
        ("stale caches", Config { cache_lag_ms: 400, ..Config::default() }),
    ]
}

async fn set_up(config: Config) -> Testbed {
    let testbed = Testbed::new(config);
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

/// Performs Velero's calls one by one, 40 ms each, with a pause after each of its steps.
async fn velero_takes_the_group(testbed: &Testbed, pause: Duration) {
    let call = Duration::from_millis(40);
    let hand = testbed.hand();
    let group = json!({
        "metadata": {"name": "velero-orders-db", "namespace": "shop"},
        "spec": {
            "volumeGroupSnapshotClassName": testbed.list("volumegroupsnapshotclasses", None)[0]["metadata"]["name"],
            "source": {"selector": {"matchLabels": {"velero.io/volume-group": "orders-db"}}},
        },
    });
    hand.create("volumegroupsnapshots", group).expect("a new group");
    testbed
        .until(|testbed| {
            let members = testbed.list("volumesnapshots", Some("shop"));
            let ready = |member: &Value| {
                member["status"]["readyToUse"] == true
                    && member["status"]["volumeGroupSnapshotName"].is_string()
            };
            members.len() == MEMBERS && members.iter().all(ready)
        })
        .await;
    for member in testbed.list("volumesnapshots", Some("shop")) {
        let strip = json!({"metadata": {
            "labels": {"velero.io/backup-name": "nightly"}, "ownerReferences": null, "finalizers": null,
        }});
        hand.merge_patch("volumesnapshots", Some("shop"), name(&member), None, strip).expect("stripped");
        sleep(call).await;
    }
    sleep(pause).await;
    let content = testbed.list("volumegroupsnapshotcontents", None).remove(0);
    let retain = json!({"spec": {"deletionPolicy": "Retain"}});
    hand.merge_patch("volumegroupsnapshotcontents", None, name(&content), None, retain).expect("retained");
    sleep(call + pause).await;
    let any = Preconditions::default;
    hand.delete("volumegroupsnapshotcontents", None, name(&content), any()).expect("deleted");
    sleep(call + pause).await;
    hand.delete("volumegroupsnapshots", Some("shop"), "velero-orders-db", any()).expect("deleted");
    testbed.until(|testbed| testbed.group_objects() == 0).await;
    testbed.pass(60).await;
}

async fn what_velero_keeps(profile: &str, config: Config, pause: Duration) -> usize {
    let testbed = set_up(config).await;
    velero_takes_the_group(&testbed, pause).await;
    let kept = testbed.list("volumesnapshots", Some("shop")).len();
    let ledger = testbed.cluster.ledger();
    println!(
        "Velero's order, {profile}, {pause:?} a step: {kept} of {MEMBERS} kept, {} leaked",
        ledger.leaked
    );
    assert_eq!(ledger.physical_snapshots, MEMBERS, "{profile}: no storage was freed");
    assert_eq!(ledger.leaked, MEMBERS - kept, "{profile}: {ledger:?}");
    kept
}

#[tokio::test(start_paused = true)]
async fn velero_order_loses_all_members_eventually() {
    for (profile, config) in profiles() {
        assert_eq!(what_velero_keeps(profile, config, Duration::from_secs(5)).await, 0, "{profile}");
    }
}

#[tokio::test(start_paused = true)]
async fn velero_order_keeps_members_of_slow_controllers() {
    let mut kept = Vec::new();
    for (profile, config) in profiles() {
        kept.push(what_velero_keeps(profile, config, Duration::ZERO).await);
    }
    assert_eq!(kept[0], 0, "a controller that keeps up loses them all");
    assert!(kept[1] < MEMBERS, "a controller at its default rate loses some");
}

async fn ours_keeps_all(profile: &str, testbed: &Testbed) {
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    let kept = testbed.list("volumesnapshots", Some("shop")).len();
    println!("our order, {profile}: {kept} of {MEMBERS} kept, {} leaked", testbed.cluster.ledger().leaked);
    assert!(end.is("Completed"), "{profile}: {end:?}\n{}", testbed.shown().await);
    // Members that are lost disappear some time after the group is deleted.
    testbed.pass(60).await;
    let verdict = invariants::completed(testbed, "shop", MEMBERS).await;
    assert_eq!(verdict, Ok(()), "{profile}:\n{}", testbed.shown().await);
}

#[tokio::test(start_paused = true)]
async fn our_order_keeps_every_member() {
    for (profile, config) in profiles() {
        ours_keeps_all(profile, &set_up(config).await).await;
    }
}

#[tokio::test(start_paused = true)]
async fn our_order_needs_no_default_class() {
    for (profile, config) in profiles() {
        let testbed = set_up(config).await;
        let class = testbed.list("volumesnapshotclasses", None).remove(0);
        let no_default = json!({"metadata": {"annotations": null}});
        testbed
            .hand()
            .merge_patch("volumesnapshotclasses", None, name(&class), None, no_default)
            .expect("no default any more");
        ours_keeps_all(&format!("{profile}, no default class"), &testbed).await;
        for member in testbed.list("volumesnapshots", Some("shop")) {
            assert!(member["status"]["error"].is_null(), "{member:#}");
            assert_eq!(member["spec"]["volumeSnapshotClassName"], class["metadata"]["name"]);
        }
    }
}
