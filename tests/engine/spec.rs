//! Tests the spec of a Backup: the objects that are cut or excluded, and the messages about both.

use serde_json::{Value, json};
use stillpoint::engine::crash_points::CrashPoints;
use stillpoint::machine::kit::Point;
use stillpoint::sim::Config;
use stillpoint::sim::actors::driver::DriverConfig;
use stillpoint::sim::api_server::{FaultDecision, StreamFault};

use crate::disruptions;
use crate::testbed::{End, Testbed};

fn point(text: &str) -> Point {
    text.parse().expect("a point")
}

/// Returns the notes of the daemon's Events with this reason, in the order of their names.
fn notes(testbed: &Testbed, reason: &str) -> Vec<String> {
    let events = testbed.list("events", None).into_iter().filter(|event| event["reason"] == reason);
    events.map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Runs the daemon until the Backup has ended and every warning that its status counts is an Event.
async fn live_until_told(testbed: &Testbed) -> Value {
    let told = |testbed: &Testbed| {
        let warnings = testbed.nightly()["status"]["warnings"].as_u64().unwrap_or(0);
        testbed.ended().is_some() && notes(testbed, "BackupWarning").len() as u64 >= warnings
    };
    testbed.run_daemon_until(CrashPoints::none(), told).await;
    testbed.nightly()
}

fn snapshots(backup: &Value) -> [i64; 2] {
    ["csiVolumeSnapshotsAttempted", "csiVolumeSnapshotsCompleted"]
        .map(|field| backup["status"][field].as_i64().unwrap_or(-1))
}

#[tokio::test(start_paused = true)]
async fn field_unknown_to_velero_fails_backup() {
    let testbed = Testbed::new(Config::default());
    testbed.cluster.api().preserve_unknown_fields("backups");
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup_with(json!({"includeNamespaces": ["other"], "hooks": {"resource": []}}));
    let end = testbed.run_daemon(None).await;
    assert!(end.is("FailedValidation"), "{end:?} {:#}", testbed.nightly());
    let errors = testbed.nightly()["status"]["validationErrors"].take();
    println!("{errors:#}");
    let starts = |at: usize, text: &str| errors[at].as_str().is_some_and(|error| error.starts_with(text));
    assert!(starts(0, "spec.hooks.resource: ") && starts(1, "spec.includeNamespaces: "), "{errors}");
    assert!(
        errors[1].as_str().is_some_and(|error| error.contains("write spec.includedNamespaces")),
        "{errors}"
    );
    assert_eq!((testbed.writes(), testbed.group_records().await.len()), (0, 0), "nothing was begun");
}

#[tokio::test(start_paused = true)]
async fn label_key_on_no_pvc_fails_backup() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup_with(
        json!({"includedNamespaces": ["shop"], "volumeGroupSnapshotLabelKey": "velero.io/volume-groups"}),
    );
    let end = testbed.run_daemon(None).await;
    let backup = testbed.nightly();
    assert!(end.is("Failed"), "{end:?} {backup:#}");
    println!("{:#}", backup["status"]);
    let expected = "SP0002 no PVC in namespace shop carries the label velero.io/volume-groups, which \
                    spec.volumeGroupSnapshotLabelKey names: nothing was cut (2 PVCs carry velero.io/volume-group); correct \
                    the label key, or label the PVCs of a group, and create the Backup again under a new name";
    assert_eq!(backup["status"]["failureReason"], expected);
    assert_eq!((&backup["status"]["errors"], snapshots(&backup)), (&json!(1), [0, 0]));
}

#[tokio::test(start_paused = true)]
async fn default_label_key_stays_default_after_restart() {
    for killed in ["backup/formed/before-record", "backup/formed/after-record"] {
        let mut testbed = Testbed::new(Config::default());
        testbed.defaults.label_key = Some("example.com/group".to_owned());
        testbed.claims("shop", "orders-db", 2).await;
        testbed.backup("shop");
        assert!(matches!(testbed.run_daemon(Some(point(killed))).await, End::Killed), "{killed}");
        let backup = live_until_told(&testbed).await;
        assert_eq!(backup["status"]["phase"], "Completed", "{killed}: a flag may fit other Backups alone");
        assert_eq!(backup["spec"]["volumeGroupSnapshotLabelKey"], "example.com/group", "{killed}");
        let [note] = &notes(&testbed, "BackupWarning")[..] else { panic!("{killed}: one warning") };
        assert!(note.starts_with("no PVC in namespace shop carries the label example.com/group"), "{note}");
    }
}

#[tokio::test(start_paused = true)]
async fn backup_without_pvcs_completes_with_warning() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 0).await;
    testbed.backup("shop");
    let backup = live_until_told(&testbed).await;
    assert_eq!((&backup["status"]["phase"], &backup["status"]["warnings"]), (&json!("Completed"), &json!(1)));
    assert_eq!(notes(&testbed, "BackupWarning"), ["there is no PVC in namespace shop: nothing was cut"]);
    assert_eq!(snapshots(&backup), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn ignored_fields_and_skipped_pvcs_cause_warnings() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.claim("shop", "scratch", None);
    testbed.backup_with(json!({"includedNamespaces": ["shop"], "ttl": "720h", "storageLocation": "default"}));
    let backup = live_until_told(&testbed).await;
    assert_eq!((&backup["status"]["phase"], &backup["status"]["warnings"]), (&json!("Completed"), &json!(3)));
    let mut told = notes(&testbed, "BackupWarning");
    told.sort();
    println!("{told:#?}");
    let starts = ["1 PVC carries no value of the label", "spec.storageLocation: ", "spec.ttl: "];
    assert!(told.iter().zip(starts).all(|(note, start)| note.starts_with(start)), "{told:?}");
    assert_eq!(snapshots(&backup), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn duplicate_namespace_is_cut_once() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup_with(json!({"includedNamespaces": ["shop", "shop", "gone"]}));
    let end = testbed.run_daemon(None).await;
    assert!(end.is("PartiallyFailed"), "{end:?} {:#}", testbed.nightly());
    assert_eq!(testbed.nightly()["status"]["errors"], 1, "the missing namespace");
    assert_eq!(crate::invariants::completed(&testbed, "shop", 2).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn skips_excluded_namespace_and_refuses_it_if_named() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.claims("bank", "ledger", 2).await;
    let exclude = json!({"metadata": {"labels": {"velero.io/exclude-from-backup": "true"}}});
    testbed.hand().merge_patch("namespaces", None, "bank", None, exclude).expect("labelled");
    testbed.backup_with(json!({"includedNamespaces": ["*"]}));
    let backup = live_until_told(&testbed).await;
    assert_eq!(backup["status"]["phase"], "Completed", "{backup:#}");
    let note = notes(&testbed, "BackupWarning").concat();
    assert!(note.contains("velero.io/exclude-from-backup=true") && note.contains("\"bank\""), "{note}");
    assert_eq!(testbed.list("volumesnapshots", Some("bank")).len(), 0);
    testbed.backup_named("named", json!({"includedNamespaces": ["bank"]}));
    testbed.run_daemon_until(CrashPoints::none(), |testbed| testbed.ended_as("named").is_some()).await;
    let named = testbed.hand().get("backups", Some("stillpoint"), "named").expect("the Backup");
    assert_eq!(named["status"]["phase"], "Failed");
    let reason = named["status"]["failureReason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("SP0002 namespace bank: the Backup includes this namespace"), "{reason}");
}

/// The watch of the classes is late: the class is read before the group is refused.
#[tokio::test(start_paused = true)]
async fn finds_class_created_with_its_backup() {
    for plural in ["volumegroupsnapshotclasses", "volumesnapshotclasses"] {
        let testbed = Testbed::new(Config::default());
        testbed.claims("shop", "orders-db", 2).await;
        let mut class = testbed.list(plural, None).pop().expect("a class");
        let name = class["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        testbed.hand().delete(plural, None, &name, Default::default()).expect("deleted");
        class["metadata"]["resourceVersion"] = Value::Null;
        class["metadata"]["uid"] = Value::Null;
        let looks = std::cell::Cell::new(0);
        let ended = |testbed: &Testbed| {
            looks.set(looks.get() + 1);
            match looks.get() {
                // The caches are complete at this instant.
                100 => delay_events_of(testbed, plural),
                120 => {
                    testbed.hand().create(plural, class.clone()).expect("created anew");
                    testbed.backup("shop");
                }
                _ => {}
            }
            looks.get() > 120 && testbed.ended().is_some()
        };
        testbed.run_daemon_until(CrashPoints::none(), ended).await;
        assert_eq!(testbed.ended().as_deref(), Some("Completed"), "{plural}: {:#}", testbed.nightly());
    }
}

/// From now on the daemon's watches of these objects report changes 3 s late.
fn delay_events_of(testbed: &Testbed, plural: &'static str) {
    testbed.cluster.api().set_faults(Box::new(move |call| {
        let late = StreamFault { delay_ms: 3_000, ..StreamFault::default() };
        match (call.agent.as_str(), call.verb.as_str(), call.plural == plural) {
            ("stillpoint", "watch", true) => FaultDecision { stream: late, ..FaultDecision::none() },
            _ => FaultDecision::none(),
        }
    }));
    testbed.cluster.api().drop_watches();
}

#[tokio::test(start_paused = true)]
async fn counts_snapshots_as_velero_does() {
    let driver = DriverConfig { unimplemented: true, ..DriverConfig::default() };
    let testbed = Testbed::new(Config { driver, ..Config::default() });
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup("shop");
    assert!(testbed.run_daemon(None).await.is("Failed"));
    assert_eq!(snapshots(&testbed.nightly()), [2, 0], "attempted, and none was made");

    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 3).await;
    testbed.claims("shop", "cache", 2).await;
    testbed.backup("shop");
    // Killed before the end was published: the next incarnation counts from the journal.
    assert!(matches!(testbed.run_daemon(Some(point("backup/completed/after-record"))).await, End::Killed));
    assert!(testbed.run_daemon(None).await.is("Completed"));
    assert_eq!(snapshots(&testbed.nightly()), [5, 5]);
}

#[tokio::test(start_paused = true)]
async fn advises_creating_a_group_class() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    disruptions::delete_first(&testbed.cluster, "volumegroupsnapshotclasses");
    testbed.backup("shop");
    assert!(testbed.run_daemon(None).await.is("Failed"));
    let reason = testbed.nightly()["status"]["failureReason"].take();
    let reason = reason.as_str().unwrap_or_default();
    println!("{reason}");
    assert!(
        reason.contains("create a VolumeGroupSnapshotClass with driver: hostpath.csi.k8s.io"),
        "{reason}"
    );
    assert!(!reason.contains("kubectl label"), "{reason}");
}
