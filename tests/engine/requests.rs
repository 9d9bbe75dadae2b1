//! Tests the requests that a Backup can make, and the messages for requests that are not supported.

use serde_json::{Value, json};
use stillpoint::domain::labels;
use stillpoint::engine::backup_spec::Defaults;
use stillpoint::engine::crash_points::{CrashPoints, Verdict};
use stillpoint::records;
use stillpoint::sim::Config;

use crate::testbed::Testbed;
use crate::{disruptions, invariants};

async fn completes(testbed: &Testbed, members: usize) {
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    let verdict = invariants::completed(testbed, "shop", members).await;
    assert_eq!(verdict, Ok(()), "{}", testbed.shown().await);
}

// ---- names ------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn label_value_may_be_an_invalid_name() {
    let long = "A.very_long-label-value-that-has-as-many-characters-as-allowed";
    for group in ["Group_A", "0", long] {
        let testbed = Testbed::new(Config::default());
        testbed.claims("shop", "db", 0).await;
        for index in 0..3 {
            testbed.claim("shop", &format!("db-{index}"), Some(group));
        }
        testbed.until(|testbed| testbed.list("persistentvolumes", None).len() == 3).await;
        testbed.pass(1).await;
        testbed.backup("shop");
        completes(&testbed, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn backup_name_may_exceed_label_value_length() {
    let name = "nightly-of-everything-that-is-in-the-shop-and-of-all-that-is-behind-it-".repeat(2) + "x";
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup_named(&name, json!({"includedNamespaces": ["shop"]}));
    testbed.run_daemon_until(CrashPoints::none(), |testbed| testbed.ended_as(&name).is_some()).await;
    assert_eq!(testbed.ended_as(&name).as_deref(), Some("Completed"));
    assert_eq!(invariants::completed(&testbed, "shop", 2).await, Ok(()));
    for member in testbed.list("volumesnapshots", Some("shop")) {
        let label = member["metadata"]["labels"][labels::BACKUP_NAME].as_str().unwrap_or_default();
        assert!(label.len() == 63 && name.starts_with(&label[..57]), "{label}: Velero's GetValidName");
    }
}

// ---- nothing to do ----------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn backup_without_labelled_pvc_completes_with_warning() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 0).await;
    testbed.claim("shop", "scratch", None);
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    let status = testbed.nightly()["status"].take();
    assert_eq!((&status["errors"], &status["warnings"]), (&json!(0), &json!(1)), "{status:#}");
    assert_eq!(testbed.list("groupsnapshots", None), Vec::<Value>::new());
    assert_eq!(testbed.writes(), 0);
}

// ---- groups that are refused ------------------------------------------------------------------------------

pub const GROUP_CLASS_OF_CLAIM: &str = "velero.io/csi-volume-group-snapshot-class";

pub fn claim(testbed: &Testbed, group: &str, index: usize, spec: Value, annotations: Value) {
    let claim = json!({
        "metadata": {
            "name": format!("{group}-{index}"),
            "namespace": "shop",
            "labels": {"velero.io/volume-group": group},
            "annotations": annotations,
        },
        "spec": spec,
    });
    testbed.hand().create("persistentvolumeclaims", claim).expect("a new claim");
}

pub fn claim_spec(storage_class: &str) -> Value {
    json!({
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": "1Gi"}},
    })
}

pub fn unbound(testbed: &Testbed) {
    claim(testbed, "unfit", 0, claim_spec("no-such-class"), json!({}));
}

pub fn missing_class(testbed: &Testbed) {
    claim(testbed, "unfit", 0, claim_spec("csi-hostpath-sc"), json!({GROUP_CLASS_OF_CLAIM: "no-such-class"}));
}

pub fn two_drivers(testbed: &Testbed) {
    let volume = json!({
        "metadata": {"name": "by-hand"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": "other.csi.example.com", "volumeHandle": "by-hand"},
        },
    });
    testbed.hand().create("persistentvolumes", volume).expect("a new volume");
    let mut spec = claim_spec("");
    spec["volumeName"] = json!("by-hand");
    claim(testbed, "unfit", 0, spec, json!({}));
    claim(testbed, "unfit", 1, claim_spec("csi-hostpath-sc"), json!({}));
}

pub fn two_default_classes(testbed: &Testbed) {
    let class = json!({
        "metadata": {"name": "another", "labels": {labels::GROUP_CLASS_DEFAULT: "true"}},
        "driver": "hostpath.csi.k8s.io",
        "deletionPolicy": "Delete",
    });
    testbed.hand().create("volumegroupsnapshotclasses", class).expect("a new class");
    claim(testbed, "unfit", 0, claim_spec("csi-hostpath-sc"), json!({}));
}

/// Runs the group `good` beside the group `unfit`: the former completes, the latter is refused with the
/// reason.
async fn refused(prepare: fn(&Testbed), code: &str, words: &[&str]) {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 0).await;
    let class = testbed.list("volumegroupsnapshotclasses", None)[0]["metadata"]["name"].clone();
    for index in 0..2 {
        let named = json!({GROUP_CLASS_OF_CLAIM: class});
        claim(&testbed, "good", index, claim_spec("csi-hostpath-sc"), named);
    }
    prepare(&testbed);
    testbed.pass(30).await;
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    let status = testbed.nightly()["status"].take();
    assert!(end.is("PartiallyFailed"), "{end:?}\n{}", testbed.shown().await);
    let reason = status["failureReason"].as_str().unwrap_or_default();
    println!("{reason}");
    assert_eq!(status["errors"], 1, "{status:#}");
    for word in [code, "shop/unfit"].iter().chain(words) {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    assert_eq!(invariants::completed(&testbed, "shop", 2).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn refused_group_does_not_block_the_others() {
    refused(unbound, "SP0004", &["unfit-0", "not bound", "Pending"]).await;
    refused(missing_class, "SP0006", &["no-such-class", "does not exist"]).await;
    refused(two_drivers, "SP0005", &["other.csi.example.com", "hostpath.csi.k8s.io"]).await;
    refused(two_default_classes, "SP0006", &["several", "another"]).await;
}

#[tokio::test(start_paused = true)]
async fn cuts_nothing_without_class_for_release() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    crate::disruptions::delete_first(&testbed.cluster, "volumesnapshotclasses");
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    let reason = testbed.nightly()["status"]["failureReason"].clone();
    assert!(reason.as_str().is_some_and(|reason| reason.contains("SP0007")), "{reason}");
    assert_eq!(testbed.writes(), 0, "refused before any effect");
    assert_eq!(testbed.cluster.storage().calls().get("CreateVolumeGroupSnapshot"), None);
}

// ---- Backups that are refused -----------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn unsupported_fields_fail_validation_with_message() {
    let cases = [
        (json!({"snapshotMoveData": true}), "spec.snapshotMoveData:"),
        (json!({"hooks": {"resources": [{"name": "freeze"}]}}), "spec.hooks:"),
        (json!({"includedNamespaces": ["shop-*"]}), "spec.includedNamespaces: the pattern \"shop-*\""),
        (json!({"csiSnapshotTimeout": "soon"}), "spec.csiSnapshotTimeout:"),
    ];
    for (spec, sentence) in cases {
        let testbed = Testbed::new(Config::default());
        testbed.claims("shop", "orders-db", 2).await;
        testbed.backup_with(spec);
        let end = testbed.run_daemon(None).await;
        assert!(end.is("FailedValidation"), "{end:?}\n{}", testbed.shown().await);
        let errors = testbed.nightly()["status"]["validationErrors"].take();
        let errors: Vec<&str> = errors.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert!(errors.len() == 1 && errors[0].starts_with(sentence), "{errors:?}");
        assert_eq!(testbed.writes(), 0);
        // The journal contains its binding to the cluster, and no record of a group or of a Backup.
        let entries = testbed.entries().await;
        let of_a_run: Vec<_> =
            entries.iter().filter_map(|entry| records::decode(&entry.record).ok()).collect();
        assert_eq!(of_a_run, [], "a refused Backup is not a request");
    }
}

// ---- written into the Backup ------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn spec_records_effective_label_key() {
    let mut testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup("shop");
    completes(&testbed, 2).await;
    assert_eq!(testbed.nightly()["spec"]["volumeGroupSnapshotLabelKey"], "velero.io/volume-group");

    testbed = Testbed::new(Config::default());
    testbed.defaults = Defaults { label_key: Some("example.com/group".to_owned()), ..Defaults::default() };
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Completed"), "{end:?}");
    assert_eq!(testbed.nightly()["spec"]["volumeGroupSnapshotLabelKey"], "example.com/group");
    assert_eq!(testbed.list("volumesnapshots", None).len(), 0, "nothing carries that key");
}

#[tokio::test(start_paused = true)]
async fn restores_names_if_velero_needs_the_members() {
    let mut testbed = Testbed::new(Config::default());
    testbed.defaults = Defaults { keep_group_name: true, ..Defaults::default() };
    testbed.claims("shop", "orders-db", 3).await;
    testbed.backup("shop");
    completes(&testbed, 3).await;
    testbed.pass(600).await;
    assert_eq!(invariants::completed(&testbed, "shop", 3).await, Ok(()));
    for member in testbed.list("volumesnapshots", Some("shop")) {
        let name = member["status"]["volumeGroupSnapshotName"].as_str().unwrap_or_default();
        assert!(name.starts_with("sp-orders-db-"), "{member:#}");
        assert!(member["metadata"]["labels"][labels::EXCLUDE_FROM_BACKUP].is_null(), "{member:#}");
    }
    assert_eq!(testbed.writes(), 5 * 3 + 4);
}

/// A snapshot-controller whose cache still contains the group would restore the ownership of the members. The
/// garbage collector would then delete them after the run was recorded as done.
#[tokio::test(start_paused = true)]
async fn restores_names_after_caches_drop_the_group() {
    for cache_lag_ms in [400, 10_000, 40_000] {
        let mut testbed = Testbed::new(Config { cache_lag_ms, ..Config::default() });
        testbed.defaults = Defaults { keep_group_name: true, ..Defaults::default() };
        testbed.claims("shop", "orders-db", 3).await;
        testbed.backup("shop");
        completes(&testbed, 3).await;
        testbed.pass(600).await;
        let held = invariants::completed(&testbed, "shop", 3).await;
        assert_eq!(held, Ok(()), "caches {cache_lag_ms} ms old");
        assert_eq!(testbed.writes(), 5 * 3 + 4, "no member was rebuilt");
    }
}

// ---- several Backups, and deleted ones --------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn second_backup_cuts_same_pvcs_again() {
    let config = Config { controller_qps: Some(5.0), ..Config::default() };
    let testbed = Testbed::new(config);
    testbed.claims("shop", "orders-db", 3).await;
    testbed.backup("shop");
    let second = std::sync::atomic::AtomicBool::new(false);
    let hand = testbed.hand().clone();
    let points = CrashPoints::ask(move |point| {
        if point.to_string() == "created/after-record"
            && !second.swap(true, std::sync::atomic::Ordering::SeqCst)
        {
            let backup = json!({
                "metadata": {"name": "weekly", "namespace": "stillpoint"},
                "spec": {"includedNamespaces": ["shop"]},
            });
            hand.create("backups", backup).expect("a second Backup");
        }
        Verdict::GoOn
    });
    testbed
        .run_daemon_until(points, |testbed| {
            let ended = |name: &str| {
                let backup = testbed.hand().get("backups", Some("stillpoint"), name);
                backup.is_ok_and(|backup| backup["status"]["completionTimestamp"].is_string())
            };
            ended("nightly") && ended("weekly")
        })
        .await;
    for name in ["nightly", "weekly"] {
        assert_eq!(testbed.ended_as(name).as_deref(), Some("Completed"), "{}", testbed.shown().await);
    }
    let snapshots = testbed.list("volumesnapshots", Some("shop"));
    let ledger = testbed.cluster.ledger();
    assert_eq!(snapshots.len(), 6);
    assert_eq!((ledger.physical_snapshots, ledger.leaked, ledger.phantom), (6, 0, 0), "{ledger:?}");
    assert_eq!(testbed.group_objects(), 0);
}

/// Point after which a run receives no changes of the cluster any more.
const LAST_POINT: &str = "cleaned/after-record";

/// Checks that the GroupSnapshot and an Event about it report the deletion of the Backup.
fn is_said(testbed: &Testbed) {
    let run = testbed.list("groupsnapshots", Some("shop")).remove(0);
    let conditions = run["status"]["conditions"].as_array().expect("conditions");
    let said = conditions.iter().find(|one| one["type"] == "BackupDeleted").expect("a condition");
    let message = said["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("Backup stillpoint/nightly was deleted while its groups run"), "{message}");
    assert!(message.contains("are kept and never freed by Stillpoint"), "{message}");
    assert_eq!(run["status"]["message"], message);
    let warned = |event: &Value| {
        event["reason"] == "BackupDeleted" && event["involvedObject"]["uid"] == run["metadata"]["uid"]
    };
    assert!(testbed.list("events", Some("shop")).iter().any(warned), "{run:#}");
}

/// Deletes the Backup at that point. The run still ends, and reports that the Backup is deleted if it is still
/// going on.
async fn deleted_at(at: &str) {
    let testbed = Testbed::new(Config { controller_qps: Some(5.0), ..Config::default() });
    testbed.claims("shop", "orders-db", 3).await;
    testbed.backup("shop");
    let (hand, deletes_at) = (testbed.hand().clone(), at.to_owned());
    let points = CrashPoints::ask(move |point| {
        if point.to_string() == deletes_at {
            // The point is passed only once, and the Backup may be deleted already.
            let _ = hand.delete("backups", Some("stillpoint"), "nightly", Default::default());
        }
        Verdict::GoOn
    });
    testbed
        .run_daemon_until(points, |testbed| {
            let shown = testbed.list("groupsnapshots", Some("shop"));
            !shown.is_empty() && shown.iter().all(|run| run["status"]["completionTime"].is_string())
        })
        .await;
    assert_eq!(testbed.list("backups", None).len(), 0);
    assert_eq!(invariants::completed(&testbed, "shop", 3).await, Ok(()), "{}", testbed.shown().await);
    if at != LAST_POINT {
        is_said(&testbed);
    }
    // A later incarnation finds nothing left to do, and no object to report to.
    let before = testbed.writes();
    tokio::select! {
        problem = testbed.life(CrashPoints::none()) => panic!("{problem}"),
        () = testbed.pass(120) => {}
    }
    testbed.disk.crash();
    assert_eq!(testbed.writes(), before);
}

#[tokio::test(start_paused = true)]
async fn run_survives_deletion_of_its_backup() {
    for at in ["create/before-intent", "vs-bound/after-record", "detach/after-effects", LAST_POINT] {
        deleted_at(at).await;
    }
}

/// The procedure of docs/groups.md, with the receipt that the GroupSnapshot shows.
#[tokio::test(start_paused = true)]
async fn documented_steps_free_completed_group() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 3).await;
    testbed.backup("shop");
    completes(&testbed, 3).await;
    let run = testbed.list("groupsnapshots", Some("shop")).remove(0);
    let (spec, receipt) = (&run["spec"], &run["status"]["receipt"]);
    let members = receipt["members"].as_array().expect("members");
    let handles: Vec<&Value> = members.iter().map(|member| &member["snapshotHandle"]).collect();
    let content = json!({
        "metadata": {"name": "free-orders-db"},
        "spec": {
            "deletionPolicy": "Delete",
            "driver": spec["driver"],
            "volumeGroupSnapshotClassName": spec["volumeGroupSnapshotClassName"],
            "source": {"groupSnapshotHandles": {
                "volumeGroupSnapshotHandle": receipt["groupHandle"],
                "volumeSnapshotHandles": handles,
            }},
            "volumeGroupSnapshotRef": {"namespace": "shop", "name": "free-orders-db"},
        },
    });
    let group = json!({
        "metadata": {"namespace": "shop", "name": "free-orders-db"},
        "spec": {"source": {"volumeGroupSnapshotContentName": "free-orders-db"}},
    });
    testbed.hand().create("volumegroupsnapshotcontents", content).expect("a content");
    testbed.hand().create("volumegroupsnapshots", group).expect("a group");
    let ready =
        |group: &Value| group["status"]["readyToUse"] == true && group["metadata"]["finalizers"].is_array();
    testbed.until(|testbed| testbed.list("volumegroupsnapshots", Some("shop")).iter().all(ready)).await;
    disruptions::delete_all(&testbed.cluster, "volumegroupsnapshots");
    testbed.until(|testbed| testbed.group_objects() == 0).await;
    assert_eq!(testbed.cluster.ledger().physical_snapshots, 0, "the driver has freed the storage");
    disruptions::delete_all(&testbed.cluster, "volumesnapshots");
    testbed.until(|testbed| testbed.list("volumesnapshots", None).is_empty()).await;
    disruptions::delete_all(&testbed.cluster, "volumesnapshotcontents");
    testbed.until(|testbed| testbed.list("volumesnapshotcontents", None).is_empty()).await;
    let ledger = testbed.cluster.ledger();
    assert_eq!((ledger.physical_snapshots, ledger.leaked, ledger.phantom), (0, 0, 0), "{ledger:?}");
}
