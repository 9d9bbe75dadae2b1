//! A Backup is taken to its end: members are ordinary snapshots, the group objects are gone, nothing leaks.

use crate::stage::{End, Stage};
use stillpoint::sim::Config;

#[tokio::test(start_paused = true)]
async fn a_labelled_database_is_cut_as_one_group() {
    let stage = Stage::new(Config::default());
    stage.claims("shop", "orders-db", 3).await;
    stage.claims("shop", "cache", 2).await;
    stage.claim("shop", "scratch", None);
    stage.backup("shop");

    let end = stage.live(None).await;

    assert!(matches!(&end, End::Phase(phase) if phase == "Completed"), "{end:?} {:#}", stage.nightly());
    let snapshots = stage.list("volumesnapshots", Some("shop"));
    assert_eq!(snapshots.len(), 5, "a snapshot for each claim of a group, none for the others");
    for snapshot in &snapshots {
        assert_eq!(snapshot["status"]["readyToUse"], true);
        assert!(snapshot["metadata"]["ownerReferences"].is_null(), "{snapshot:#}");
        assert!(snapshot["metadata"]["deletionTimestamp"].is_null());
    }
    assert_eq!(stage.group_objects(), 0, "no group object of a finished run");
    let ledger = stage.cluster.ledger();
    assert_eq!((ledger.physical_snapshots, ledger.leaked, ledger.phantom), (5, 0, 0), "{ledger:?}");
}

#[tokio::test(start_paused = true)]
async fn with_a_class_that_retains_from_the_start_every_content_still_carries_the_receipt() {
    let stage = Stage::new(Config::default());
    let class = "csi-hostpath-groupsnapclass";
    let mut object = stage.hand().get("volumegroupsnapshotclasses", None, class).expect("the class");
    stage.hand().delete("volumegroupsnapshotclasses", None, class, Default::default()).expect("deleted");
    object["deletionPolicy"] = "Retain".into();
    object["metadata"]["resourceVersion"] = serde_json::Value::Null;
    object["metadata"]["uid"] = serde_json::Value::Null;
    stage.hand().create("volumegroupsnapshotclasses", object).expect("created anew");
    stage.claims("shop", "orders-db", 3).await;
    stage.backup("shop");

    let end = stage.live(None).await;

    assert!(matches!(&end, End::Phase(phase) if phase == "Completed"), "{end:?} {:#}", stage.nightly());
    crate::invariants::completed(&stage, "shop", 3).await.expect("what holds after every run");
    assert_eq!(stage.writes(), 4 * 3 + 4);
}
