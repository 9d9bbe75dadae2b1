//! Tests a Backup up to its end: members are ordinary snapshots, the group objects are deleted, nothing leaks.

use crate::testbed::{End, Testbed};
use stillpoint::machine::kit::fold;
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
async fn journal_has_what_reclaim_and_restore_need() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    assert!(matches!(&end, End::Phase(phase) if phase == "Completed"), "{end:?} {:#}", testbed.nightly());

    let records = testbed.group_records().await;
    let run = records.iter().try_fold(None, |run, record| fold(run, record).map(Some));
    let run = run.expect("a group run").expect("records");
    let claims = testbed.list("persistentvolumeclaims", Some("shop"));
    for (member, claim) in run.plan.members.iter().zip(&claims) {
        let spec = member.spec.as_ref().expect("recorded");
        assert_eq!(spec.storage_class.as_deref(), claim["spec"]["storageClassName"].as_str());
        assert_eq!(spec.requested.as_deref(), claim["spec"]["resources"]["requests"]["storage"].as_str());
        assert_eq!(serde_json::json!(spec.access_modes), claim["spec"]["accessModes"]);
        assert_eq!(serde_json::json!(spec.labels), claim["metadata"]["labels"]);
    }
    let receipt = run.state.receipt.as_ref().expect("a receipt");
    let provenance = receipt.provenance.as_ref().expect("recorded");
    let class = testbed.hand().get("volumegroupsnapshotclasses", None, &receipt.group_class).expect("there");
    let system = testbed.hand().get("namespaces", None, "kube-system").expect("there");
    let binding = testbed.hand().get("configmaps", Some("stillpoint"), "stillpoint-journal").expect("there");
    assert_eq!(provenance.class_uid.as_ref().map(|uid| uid.0.as_str()), class["metadata"]["uid"].as_str());
    assert_eq!(provenance.cluster.as_deref(), system["metadata"]["uid"].as_str());
    assert_eq!(provenance.journal.as_deref(), binding["data"]["journal"].as_str());
    assert!(provenance.created_at.is_some_and(|at| at.0 > 0), "{provenance:?}");
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
