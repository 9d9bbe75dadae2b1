//! Tests a Backup up to its end: members are ordinary snapshots, the group objects are deleted, nothing leaks.

use crate::testbed::{End, Testbed};
use stillpoint::sim::Config;

#[tokio::test(start_paused = true)]
async fn cuts_labelled_database_as_one_group() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 3).await;
    testbed.claims("shop", "cache", 2).await;
    testbed.claim("shop", "scratch", None);
    testbed.backup("shop");

    let end = testbed.run_daemon(None).await;

    assert!(matches!(&end, End::Phase(phase) if phase == "Completed"), "{end:?} {:#}", testbed.nightly());
    let snapshots = testbed.list("volumesnapshots", Some("shop"));
    assert_eq!(snapshots.len(), 5, "a snapshot for each claim of a group, none for the others");
    for snapshot in &snapshots {
        assert_eq!(snapshot["status"]["readyToUse"], true);
        assert!(snapshot["metadata"]["ownerReferences"].is_null(), "{snapshot:#}");
        assert!(snapshot["metadata"]["deletionTimestamp"].is_null());
    }
    assert_eq!(testbed.group_objects(), 0, "no group object of a finished run");
    let ledger = testbed.cluster.ledger();
    assert_eq!((ledger.physical_snapshots, ledger.leaked, ledger.phantom), (5, 0, 0), "{ledger:?}");
}

#[tokio::test(start_paused = true)]
async fn every_content_has_receipt_with_retaining_class() {
    let testbed = Testbed::new(Config::default());
    let class = "csi-hostpath-groupsnapclass";
    let mut object = testbed.hand().get("volumegroupsnapshotclasses", None, class).expect("the class");
    testbed.hand().delete("volumegroupsnapshotclasses", None, class, Default::default()).expect("deleted");
    object["deletionPolicy"] = "Retain".into();
    object["metadata"]["resourceVersion"] = serde_json::Value::Null;
    object["metadata"]["uid"] = serde_json::Value::Null;
    testbed.hand().create("volumegroupsnapshotclasses", object).expect("created anew");
    testbed.claims("shop", "orders-db", 3).await;
    testbed.backup("shop");

    let end = testbed.run_daemon(None).await;

    assert!(matches!(&end, End::Phase(phase) if phase == "Completed"), "{end:?} {:#}", testbed.nightly());
    crate::invariants::completed(&testbed, "shop", 3).await.expect("what holds after every run");
    assert_eq!(testbed.writes(), 4 * 3 + 4);
}
