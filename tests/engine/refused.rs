//! Tests refusals as a user sees them: the object, the reason, and how to fix it.
//!
//! The other groups go on, nothing is left behind, and the daemon keeps running.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use stillpoint::domain::limits;
use stillpoint::engine::crash_points::CrashPoints;
use stillpoint::sim::actors::driver::DriverConfig;
use stillpoint::sim::api_server::{Answer, FaultDecision};
use stillpoint::sim::{Config, api_server};

use crate::requests::{
    GROUP_CLASS_OF_CLAIM, claim, claim_spec, missing_class, two_default_classes, two_drivers, unbound,
};
use crate::testbed::Testbed;
use crate::{disruptions, invariants};

fn reason(testbed: &Testbed) -> String {
    testbed.nightly()["status"]["failureReason"].as_str().unwrap_or_default().to_owned()
}

/// Stored message of each case as a user sees it: `# case`, then the message. `UPDATE_FIXTURES=1` rewrites the
/// file.
const KEPT: &str = "tests/engine/refusals.txt";
static WRITING: Mutex<()> = Mutex::new(());

fn kept() -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(KEPT);
    let text = fs::read_to_string(path).unwrap_or_default();
    let parts = text.split("# ").filter_map(|part| part.split_once('\n'));
    parts.map(|(case, message)| (case.to_owned(), message.trim().to_owned())).collect()
}

/// Prints the message and compares it with the stored one, word by word.
#[track_caller]
fn show(case: &str, message: &str) {
    println!("{case}\n    {message}");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = kept();
        all.insert(case.to_owned(), message.to_owned());
        let text: Vec<String> = all.iter().map(|(case, message)| format!("# {case}\n{message}\n")).collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(KEPT);
        fs::write(path, text.join("\n")).expect("the kept messages are written");
    }
    assert_eq!(kept().get(case).map(String::as_str), Some(message), "{case}: see {KEPT}");
}

/// Creates a PVC that is bound manually to a volume with this source.
fn on_volume(testbed: &Testbed, source: Value) {
    let mut volume = json!({
        "metadata": {"name": "by-hand"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
        },
    });
    volume["spec"].as_object_mut().expect("a spec").extend(source.as_object().expect("a source").clone());
    testbed.hand().create("persistentvolumes", volume).expect("a new volume");
    let mut spec = claim_spec("");
    spec["volumeName"] = json!("by-hand");
    claim(testbed, "unfit", 0, spec, json!({}));
}

fn no_csi(testbed: &Testbed) {
    on_volume(testbed, json!({"nfs": {"server": "files", "path": "/"}}));
}

fn class_of_another_driver(testbed: &Testbed) {
    let class = json!({
        "metadata": {"name": "foreign"}, "driver": "other.csi.example.com", "deletionPolicy": "Delete",
    });
    testbed.hand().create("volumegroupsnapshotclasses", class).expect("a new class");
    claim(testbed, "unfit", 0, claim_spec("csi-hostpath-sc"), json!({GROUP_CLASS_OF_CLAIM: "foreign"}));
}

fn too_many(testbed: &Testbed) {
    for index in 0..=limits::MAX_MEMBERS {
        claim(testbed, "unfit", index, claim_spec("csi-hostpath-sc"), json!({}));
    }
}

/// Runs the group `good` beside the group `unfit`: the former completes, the latter is refused with the
/// reason.
async fn beside_a_good_one(case: &str, prepare: fn(&Testbed), words: &[&str]) {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 0).await;
    let class = testbed.list("volumegroupsnapshotclasses", None)[0]["metadata"]["name"].clone();
    for index in 0..2 {
        claim(&testbed, "good", index, claim_spec("csi-hostpath-sc"), json!({GROUP_CLASS_OF_CLAIM: class}));
    }
    prepare(&testbed);
    testbed.pass(30).await;
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    assert!(end.is("PartiallyFailed"), "{case}: {end:?}\n{}", testbed.shown().await);
    let reason = reason(&testbed);
    show(case, &reason);
    for word in words {
        assert!(reason.contains(word), "{case}: {word}: {reason}");
    }
    assert_eq!(invariants::completed(&testbed, "shop", 2).await, Ok(()), "{case}");
}

#[tokio::test(start_paused = true)]
async fn refuses_unsupported_group_and_runs_the_others() {
    beside_a_good_one("unbound claim", unbound, &["SP0004", "unfit-0", "Pending"]).await;
    beside_a_good_one("volume without CSI", no_csi, &["SP0004", "by-hand", "not a CSI volume"]).await;
    beside_a_good_one("two drivers", two_drivers, &["SP0005", "other.csi.example.com"]).await;
    beside_a_good_one("class missing", missing_class, &["SP0006", "does not exist"]).await;
    beside_a_good_one("class of another driver", class_of_another_driver, &["SP0006", "other.csi"]).await;
    beside_a_good_one("two default classes", two_default_classes, &["SP0006", "several"]).await;
    beside_a_good_one("too many members", too_many, &["SP0008", "129", "128"]).await;
}

#[tokio::test(start_paused = true)]
async fn refuses_missing_namespace_and_runs_the_others() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup_with(json!({"includedNamespaces": ["shop", "nowhere"]}));
    let end = testbed.run_daemon(None).await;
    assert!(end.is("PartiallyFailed"), "{end:?}");
    show("unknown namespace", &reason(&testbed));
    assert!(reason(&testbed).contains("SP0003") && reason(&testbed).contains("nowhere"));
    assert_eq!(invariants::completed(&testbed, "shop", 2).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn starts_nothing_without_common_requirements() {
    let none = Config { groupsnapshot_versions: Vec::new(), ..Config::default() };
    for (case, config, drop_class, code) in [
        ("no group snapshot API", none, false, "SP0009"),
        ("no VolumeSnapshotClass", Config::default(), true, "SP0007"),
    ] {
        let testbed = Testbed::new(config);
        testbed.claims("shop", "orders-db", 2).await;
        if drop_class {
            disruptions::delete_first(&testbed.cluster, "volumesnapshotclasses");
        }
        testbed.backup("shop");
        let end = testbed.run_daemon(None).await;
        assert!(end.is("Failed"), "{case}: {end:?}");
        show(case, &reason(&testbed));
        assert!(reason(&testbed).contains(code), "{case}: {}", reason(&testbed));
        assert_eq!((testbed.writes(), testbed.cluster.ledger().physical_snapshots), (0, 0), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn ends_group_if_driver_cannot_cut_groups() {
    let driver = DriverConfig { unimplemented: true, ..DriverConfig::default() };
    let testbed = Testbed::new(Config { driver, ..Config::default() });
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Failed"), "{end:?}");
    show("driver without groups", &reason(&testbed));
    assert!(reason(&testbed).contains("SP0012"), "{}", reason(&testbed));
    assert_eq!(invariants::undone(&testbed, "shop").await, Ok(()));
}

// ---- permissions ------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn refuses_group_early_if_permission_is_missing() {
    for (denied, words) in [
        (
            "patch volumesnapshots/status",
            "patch volumesnapshots.snapshot.storage.k8s.io --subresource=status",
        ),
        ("delete volumesnapshotcontents", "delete volumesnapshotcontents.snapshot.storage.k8s.io"),
        ("create volumegroupsnapshotcontents", "create volumegroupsnapshotcontents.groupsnapshot.storage"),
    ] {
        let testbed = Testbed::new(Config::default());
        testbed.claims("shop", "orders-db", 2).await;
        testbed.rbac.deny(denied);
        testbed.backup("shop");
        let end = testbed.run_daemon(None).await;
        assert!(end.is("Failed"), "{denied}: {end:?}");
        show(&format!("permission missing: {denied}"), &reason(&testbed));
        assert!(
            reason(&testbed).contains("SP0021") && reason(&testbed).contains(words),
            "{}",
            reason(&testbed)
        );
        assert_eq!((testbed.writes(), testbed.cluster.ledger().physical_snapshots), (0, 0), "{denied}");
    }
}

#[tokio::test(start_paused = true)]
async fn next_backup_runs_after_permission_is_granted() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.rbac.deny("delete volumesnapshots");
    testbed.backup("shop");
    let weekly = |testbed: &Testbed| testbed.ended_as("weekly");
    let (rbac, asked) = (testbed.rbac.clone(), std::cell::Cell::new(false));
    testbed
        .run_daemon_until(CrashPoints::none(), |testbed| {
            if testbed.ended().is_some() && !asked.replace(true) {
                rbac.restore();
                testbed.backup_named("weekly", json!({"includedNamespaces": ["shop"]}));
            }
            asked.get() && weekly(testbed).is_some()
        })
        .await;
    assert_eq!(
        (testbed.ended().as_deref(), weekly(&testbed).as_deref()),
        (Some("Failed"), Some("Completed"))
    );
}

// ---- the Backup itself ------------------------------------------------------------------------------------

fn validation_error(testbed: &Testbed) -> String {
    let errors = testbed.nightly()["status"]["validationErrors"].take();
    errors[0].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn rejects_backup_name_used_in_another_namespace() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.hand().create("namespaces", json!({"metadata": {"name": "velero"}})).expect("a namespace");
    let veleros = json!({"metadata": {"name": "nightly", "namespace": "velero"}, "spec": {}});
    testbed.hand().create("backups", veleros).expect("Velero's Backup");
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    assert!(end.is("FailedValidation"), "{end:?}");
    show("a name that Velero has", &validation_error(&testbed));
    assert!(validation_error(&testbed).starts_with("metadata.name: namespace velero has a Backup nightly"));
    assert_eq!((testbed.writes(), testbed.group_records().await.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn refuses_unreadable_backup_and_runs_the_others() {
    for late in [false, true] {
        let testbed = Testbed::new(Config::default());
        testbed.cluster.api().preserve_unknown_fields("backups");
        testbed.claims("shop", "orders-db", 2).await;
        // Valid in the schema of another release, and unknown in this one.
        let malformed = || {
            let spec = json!({"includedNamespaces": ["shop"], "resourcePolicy": {}});
            json!({"metadata": {"name": "broken", "namespace": "stillpoint"}, "spec": spec})
        };
        if !late {
            testbed.hand().create("backups", malformed()).expect("a Backup");
        }
        testbed.backup("shop");
        let asked = std::cell::Cell::new(!late);
        testbed
            .run_daemon_until(CrashPoints::none(), |testbed| {
                if !asked.replace(true) {
                    testbed.hand().create("backups", malformed()).expect("a Backup");
                }
                testbed.ended().is_some() && testbed.ended_as("broken").is_some()
            })
            .await;
        assert_eq!(testbed.ended().as_deref(), Some("Completed"));
        let broken = testbed.hand().get("backups", Some("stillpoint"), "broken").expect("the Backup");
        let error = broken["status"]["validationErrors"][0].as_str().unwrap_or_default();
        assert_eq!(broken["status"]["phase"], "FailedValidation");
        show("malformed Backup", error);
        assert!(error.starts_with("the Backup cannot be read: "), "{error}");
        assert_eq!(invariants::completed(&testbed, "shop", 2).await, Ok(()));
    }
}

// ---- an API server that does not reply --------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn waits_for_api_server_that_is_silent() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup("shop");
    let clock = tokio::time::Instant::now();
    let silent = move |_: &api_server::CallInfo| match clock.elapsed().as_secs() {
        300.. => FaultDecision::none(),
        _ => FaultDecision::of(false, Answer::Drop),
    };
    testbed.cluster.api().set_faults(Box::new(silent));
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert!(clock.elapsed().as_secs() >= 300);
    assert_eq!(invariants::completed(&testbed, "shop", 2).await, Ok(()));
}

/// The members never become ready, so that the cluster changes constantly. The rollback is refused for three
/// minutes.
#[tokio::test(start_paused = true)]
async fn paused_run_does_not_read_every_change() {
    let driver = DriverConfig { not_ready_ms: 1 << 40, ..DriverConfig::default() };
    let testbed = Testbed::new(Config { driver, ..Config::default() });
    testbed.claims("shop", "orders-db", 3).await;
    testbed.backup_with(
        json!({"includedNamespaces": ["shop"], "csiSnapshotTimeout": "3s", "itemOperationTimeout": "4s"}),
    );
    let at = "unwinding/after-record".parse().expect("a point");
    let end = testbed.run_daemon_acting(at, disruptions::refuse_writes, None).await;
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    let reads = testbed.calls.all().iter().filter(|call| !call.writes()).count();
    println!("{reads} reads of the daemon");
    assert!(reads < 1000, "{reads} reads of the daemon");
}
