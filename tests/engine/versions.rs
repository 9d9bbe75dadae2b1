//! Whichever version of `groupsnapshot.storage.k8s.io` a cluster serves.

use crate::invariants;
use crate::stage::Stage;
use stillpoint::sim::Config;

async fn backed_up_where_served(versions: &[&str]) -> Stage {
    let config = Config {
        groupsnapshot_versions: versions.iter().map(|version| (*version).to_owned()).collect(),
        ..Config::default()
    };
    let stage = Stage::new(config);
    stage.claims("shop", "orders-db", 3).await;
    stage.backup("shop");
    let end = stage.live(None).await;
    assert!(end.is("Completed"), "{versions:?}: {end:?}\n{}", stage.shown().await);
    let verdict = invariants::completed(&stage, "shop", 3).await;
    assert_eq!(verdict, Ok(()), "{versions:?}\n{}", stage.shown().await);
    stage
}

#[tokio::test(start_paused = true)]
async fn each_version_will_do_alone_and_with_the_others() {
    for versions in [vec!["v1"], vec!["v1beta2"], vec!["v1beta1"], vec!["v1beta2", "v1beta1"]] {
        let stage = backed_up_where_served(&versions).await;
        println!("{versions:?}: {} writes", stage.writes());
        assert_eq!(stage.writes(), 16);
    }
}

/// v1beta1 has no list of the members' snapshots in its content: the handles come from the members.
#[tokio::test(start_paused = true)]
async fn a_receipt_names_every_handle_also_where_the_group_lists_none() {
    let stage = backed_up_where_served(&["v1beta1"]).await;
    let shown = stage.list("groupsnapshots", Some("shop")).remove(0)["status"]["receipt"].take();
    let handles = stage.cluster.ledger().handles.physical_snapshots;
    let members = shown["members"].as_array().expect("members");
    assert_eq!(members.len(), 3, "{shown:#}");
    for member in members {
        let handle = member["snapshotHandle"].as_str().unwrap_or_default();
        assert!(handles.iter().any(|known| known == handle), "{member:#}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_group_api_the_backup_fails_with_the_reason() {
    let stage = Stage::new(Config { groupsnapshot_versions: Vec::new(), ..Config::default() });
    stage.claims("shop", "orders-db", 3).await;
    stage.backup("shop");
    let end = stage.live(None).await;
    let reason = stage.nightly()["status"]["failureReason"].clone();
    println!("no group API: {end:?} {reason}");
    assert!(end.is("Failed"), "{end:?}\n{}", stage.shown().await);
    assert!(reason.is_string());
    assert_eq!(stage.writes(), 0);
}
