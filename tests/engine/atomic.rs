//! Tests groups whose members were not cut at one instant: group and Backup report it, and it is rolled back
//! if required.

use serde_json::Value;
use stillpoint::domain::atomicity::Demand;
use stillpoint::domain::time::Millis;
use stillpoint::sim::Config;
use stillpoint::sim::actors::driver::DriverConfig;

use crate::invariants;
use crate::testbed::Testbed;

/// Creates a Backup of three members that the driver cuts over 45 s, under the given demand.
async fn backed_up(demand: Demand) -> (Testbed, String) {
    backed_up_by(DriverConfig { skew_ms: 45_000, ..DriverConfig::default() }, demand).await
}

async fn backed_up_by(driver: DriverConfig, demand: Demand) -> (Testbed, String) {
    let mut testbed = Testbed::new(Config { driver, ..Config::default() });
    testbed.defaults.atomicity = demand;
    testbed.claims("shop", "orders-db", 3).await;
    testbed.backup("shop");
    testbed.run_daemon(None).await;
    // Events are written after the end of the run.
    tokio::select! {
        problem = testbed.life(stillpoint::engine::crash_points::CrashPoints::none()) => panic!("{problem}"),
        () = testbed.pass(30) => {}
    }
    testbed.disk.crash();
    let phase = testbed.ended().unwrap_or_default();
    (testbed, phase)
}

fn atomic(testbed: &Testbed) -> Value {
    let status = testbed.list("groupsnapshots", Some("shop"))[0]["status"].take();
    let conditions = status["conditions"].as_array().expect("conditions");
    conditions.iter().find(|one| one["type"] == "Atomic").cloned().unwrap_or_default()
}

/// Returns `kind reason` and note of the daemon's warnings.
fn warned(testbed: &Testbed) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ours = testbed.list("events", None).into_iter().filter(|event| {
        event["reportingComponent"] == "stillpoint.dev/stillpoint" && event["type"] == "Warning"
    });
    let line = |event: Value| {
        let about = format!("{} {}", text(&event["involvedObject"]["kind"]), text(&event["reason"]));
        (about, text(&event["message"]))
    };
    ours.map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn skewed_members_cause_a_warning() {
    let (testbed, phase) = backed_up(Demand::default()).await;
    assert_eq!(phase, "Completed", "{}", testbed.shown().await);
    let condition = atomic(&testbed);
    assert_eq!((&condition["status"], &condition["reason"]), (&"False".into(), &"SkewTooLarge".into()));
    let backup = testbed.nightly();
    let said = "the driver cut the members 45.0 s apart, orders-db-0 first and orders-db-2 last";
    let annotation =
        backup["metadata"]["annotations"]["stillpoint.dev/warnings"].as_str().unwrap_or_default();
    assert!(annotation.starts_with(&format!("group shop/orders-db: {said}")), "{annotation}");
    assert_eq!((&backup["status"]["warnings"], &backup["status"]["errors"]), (&1.into(), &0.into()));
    let warned = warned(&testbed);
    for about in ["GroupSnapshot SkewTooLarge", "Backup BackupWarning"] {
        assert!(warned.iter().any(|(one, note)| one == about && note.contains(said)), "{about}: {warned:#?}");
    }
    assert_eq!(testbed.list("groupsnapshots", Some("shop"))[0]["status"]["skewMs"], 45_000);
    assert_eq!(invariants::completed(&testbed, "shop", 3).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn required_atomicity_rolls_back_skewed_members() {
    let (testbed, phase) = backed_up(Demand { required: true, ..Demand::default() }).await;
    assert_eq!(phase, "Failed", "{}", testbed.shown().await);
    let reason = testbed.nightly()["status"]["failureReason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("SP0025") && reason.contains("45.0 s apart"), "{reason}");
    assert!(reason.contains("--require-atomic"), "what to do: {reason}");
    assert_eq!(atomic(&testbed)["status"], "False");
    assert_eq!(testbed.cluster.ledger().physical_snapshots, 0, "the storage is freed");
    assert_eq!(invariants::undone(&testbed, "shop").await, Ok(()));
    let fold = testbed.group_records().await;
    let retained = format!("{fold:?}").contains("Retain,");
    assert!(!retained, "nothing was retained before");
}

#[tokio::test(start_paused = true)]
async fn skew_below_limit_causes_no_warning() {
    let (testbed, phase) = backed_up(Demand { max_skew: Millis::from_secs(45), required: true }).await;
    assert_eq!(phase, "Completed", "{}", testbed.shown().await);
    assert_eq!(atomic(&testbed)["status"], "True");
    assert_eq!(testbed.nightly()["status"]["warnings"], 0);
    assert_eq!(warned(&testbed), []);
}

/// The VolumeSnapshot of such a member reports 1970.
#[tokio::test(start_paused = true)]
async fn zero_creation_time_is_not_skew() {
    for required in [false, true] {
        let driver = DriverConfig { omits_times: 1, ..DriverConfig::default() };
        let (testbed, phase) = backed_up_by(driver, Demand { required, ..Demand::default() }).await;
        assert_eq!(phase, if required { "Failed" } else { "Completed" }, "{}", testbed.shown().await);
        let condition = atomic(&testbed);
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&"Unknown".into(), &"CreationTimeUnknown".into())
        );
        let said = "the driver reports no creation time of 1 member (orders-db-2)";
        assert!(condition["message"].as_str().unwrap_or_default().contains(said), "{condition}");
        assert_eq!(testbed.list("groupsnapshots", Some("shop"))[0]["status"]["skewMs"], Value::Null);
        assert!(
            warned(&testbed)
                .iter()
                .any(|(about, note)| { about == "GroupSnapshot CreationTimeUnknown" && note.contains(said) })
        );
    }
}
