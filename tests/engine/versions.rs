//! Tests each version of `groupsnapshot.storage.k8s.io` that a cluster can serve.

use crate::invariants;
use crate::testbed::Testbed;
use stillpoint::sim::Config;

async fn backed_up_where_served(versions: &[&str]) -> Testbed {
    let config = Config {
        groupsnapshot_versions: versions.iter().map(|version| (*version).to_owned()).collect(),
        ..Config::default()
    };
    let testbed = Testbed::new(config);
    testbed.claims("shop", "orders-db", 3).await;
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Completed"), "{versions:?}: {end:?}\n{}", testbed.shown().await);
    let verdict = invariants::completed(&testbed, "shop", 3).await;
    assert_eq!(verdict, Ok(()), "{versions:?}\n{}", testbed.shown().await);
    testbed
}

#[tokio::test(start_paused = true)]
async fn supports_each_api_version_alone_and_combined() {
    for versions in [vec!["v1"], vec!["v1beta2"], vec!["v1beta1"], vec!["v1beta2", "v1beta1"]] {
        let testbed = backed_up_where_served(&versions).await;
        println!("{versions:?}: {} writes", testbed.writes());
        assert_eq!(testbed.writes(), 16);
    }
}

/// A v1beta1 content has no list of the members' snapshots: the handles come from the members.
#[tokio::test(start_paused = true)]
async fn receipt_names_handles_that_group_omits() {
    let testbed = backed_up_where_served(&["v1beta1"]).await;
    let shown = testbed.list("groupsnapshots", Some("shop")).remove(0)["status"]["receipt"].take();
    let handles = testbed.cluster.ledger().handles.physical_snapshots;
    let members = shown["members"].as_array().expect("members");
    assert_eq!(members.len(), 3, "{shown:#}");
    for member in members {
        let handle = member["snapshotHandle"].as_str().unwrap_or_default();
        assert!(handles.iter().any(|known| known == handle), "{member:#}");
    }
}

#[tokio::test(start_paused = true)]
async fn backup_fails_with_reason_without_group_api() {
    let testbed = Testbed::new(Config { groupsnapshot_versions: Vec::new(), ..Config::default() });
    testbed.claims("shop", "orders-db", 3).await;
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    let reason = testbed.nightly()["status"]["failureReason"].clone();
    println!("no group API: {end:?} {reason}");
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    assert!(reason.is_string());
    assert_eq!(testbed.writes(), 0);
}
