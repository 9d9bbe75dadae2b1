//! Tests the reports of a run in progress: Events on the Backup and on the GroupSnapshot, log lines, metrics.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use stillpoint::engine::crash_points::CrashPoints;
use stillpoint::engine::telemetry::{Metric, MetricsSink};
use stillpoint::sim::Config;
use stillpoint::sim::actors::driver::DriverConfig;
use tracing_subscriber::layer::SubscriberExt;

use crate::testbed::{End, Testbed};

/// Returns `type kind reason` of the daemon's Events in the order of their times, and their notes.
fn told(testbed: &Testbed) -> Vec<(String, String)> {
    let mut events: Vec<Value> = testbed.list("events", None);
    events.retain(|event| event["reportingComponent"] == "stillpoint.dev/stillpoint");
    events.sort_by_key(|event| event["eventTime"].as_str().unwrap_or_default().to_owned());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |event: &Value| {
        format!(
            "{} {} {}",
            text(&event["type"]),
            text(&event["involvedObject"]["kind"]),
            text(&event["reason"])
        )
    };
    events.iter().map(|event| (line(event), text(&event["message"]))).collect()
}

fn has(told: &[(String, String)], line: &str) -> bool {
    told.iter().any(|(found, _)| found == line)
}

#[tokio::test(start_paused = true)]
async fn reports_each_state_and_each_group_end() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup_with(json!({"includedNamespaces": ["shop", "nowhere"]}));
    testbed
        .run_daemon_until(CrashPoints::none(), |testbed| {
            has(&told(testbed), "Warning Backup PartiallyFailed")
        })
        .await;
    let told = told(&testbed);
    for state in ["Created", "VSBound", "Relabelled", "Retained", "Cleaned", "Completed"] {
        assert!(has(&told, &format!("Normal GroupSnapshot {state}")), "{state}: {told:#?}");
        assert_eq!(has(&told, &format!("Normal Backup {state}")), state == "Completed", "{state}: {told:#?}");
    }
    let refused = told.iter().find(|(line, _)| line == "Warning Backup GroupRefused");
    assert!(refused.is_some_and(|(_, note)| note.contains("SP0003")), "{told:#?}");
    let shown = testbed.list("groupsnapshots", Some("shop"));
    let of_run: Vec<Value> = testbed.list("events", Some("shop"));
    let ours: Vec<&Value> =
        of_run.iter().filter(|e| e["involvedObject"]["kind"] == "GroupSnapshot").collect();
    assert!(
        ours.iter().all(|event| event["involvedObject"]["uid"] == shown[0]["metadata"]["uid"]),
        "{ours:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn reports_rollback_as_warning_with_reason() {
    let fail_with = Some(("Internal".to_owned(), "the array is on fire".to_owned()));
    let driver = DriverConfig { fail_with, ..DriverConfig::default() };
    let testbed = Testbed::new(Config { driver, ..Config::default() });
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup("shop");
    testbed
        .run_daemon_until(CrashPoints::none(), |testbed| has(&told(testbed), "Warning Backup Failed"))
        .await;
    let told = told(&testbed);
    for line in
        ["Warning Backup Unwinding", "Warning GroupSnapshot Unwinding", "Warning GroupSnapshot Failed"]
    {
        let found = told.iter().find(|(found, _)| found == line);
        assert!(found.is_some_and(|(_, note)| note.contains("SP0013")), "{line}: {told:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn run_does_not_wait_for_rejected_events() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.rbac.deny("create events");
    testbed.backup("shop");
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(told(&testbed), []);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no poison").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns the lines that an incarnation logs. It runs twice for that.
async fn logged(config: fn() -> Config) -> Vec<Value> {
    let lines = Lines::default();
    let writer = lines.clone();
    let layer =
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(move || writer.clone());
    let targets = tracing_subscriber::filter::Targets::new().with_target("stillpoint", tracing::Level::DEBUG);
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(targets).with(layer));
    // A callsite that another thread reaches for the first time while this subscriber is being set may be
    // cached as disabled. The first run reaches all of them once; the second run follows a rebuild of the
    // cache.
    for _ in 0..2 {
        tracing::callsite::rebuild_interest_cache();
        lines.0.lock().expect("no poison").clear();
        let testbed = Testbed::new(config());
        testbed.claims("shop", "orders-db", 2).await;
        testbed.backup("shop");
        let end = testbed.run_daemon(None).await;
        assert!(matches!(end, End::Phase(_)), "{end:?}");
    }
    let text = String::from_utf8(lines.0.lock().expect("no poison").clone()).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test(start_paused = true)]
async fn logs_incomplete_end_as_warning_with_reason() {
    let all = logged(|| {
        let fail_with = Some(("Internal".to_owned(), "the array is on fire".to_owned()));
        let driver = DriverConfig { fail_with, ..DriverConfig::default() };
        Config { driver, ..Config::default() }
    })
    .await;
    for milestone in ["unwinding", "failed"] {
        let line = all.iter().find(|line| line["message"] == milestone).expect("a line");
        println!("{line}");
        let reason = line["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("the array is on fire"), "{line:#}");
        assert_eq!((&line["level"], &line["code"]), (&json!("WARN"), &json!("SP0013")), "{line:#}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_log_line_names_run_and_step() {
    let all = logged(Config::default).await;
    let of = |message: &str| all.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
    let decided = of("decided");
    assert!(decided.len() > 10, "{all:#?}");
    for line in decided.iter().chain(&of("Retained")).chain(&of("step done")) {
        let run = &line["spans"][0];
        let named = run["group"] == "shop/orders-db" || run["name"] == "backup" && run["backup"] == "nightly";
        assert!(run["run"].is_string() && named, "{line:#}");
    }
    let steps: Vec<&str> = of("step done").iter().filter_map(|line| line["span"]["step"].as_str()).collect();
    println!("{}", of("step done").first().map(ToString::to_string).unwrap_or_default());
    assert!(steps.contains(&"create") && steps.contains(&"detach"), "{steps:?}");
}

#[derive(Default)]
struct Notes(Mutex<Vec<Metric>>);

impl MetricsSink for Notes {
    fn record(&self, metric: Metric) {
        self.0.lock().expect("no poison").push(metric);
    }
}

#[tokio::test(start_paused = true)]
async fn records_every_relevant_metric() {
    let mut testbed = Testbed::new(Config::default());
    let notes = Arc::new(Notes::default());
    testbed.metrics = notes.clone();
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup_with(json!({"includedNamespaces": ["shop", "nowhere"]}));
    testbed.run_daemon(None).await;
    let notes = notes.0.lock().expect("no poison").clone();
    let effects = |kind: &str| {
        let done = |note: &&Metric| matches!(note, Metric::Effect { kind: k, outcome: "done" } if *k == kind);
        notes.iter().filter(done).count()
    };
    assert_eq!((effects("createGroup"), effects("detachMember"), effects("setContentPolicy")), (1, 2, 2));
    let count = |wanted: fn(&Metric) -> bool| notes.iter().filter(|note| wanted(note)).count();
    assert_eq!(count(|note| matches!(note, Metric::RunEnded("Completed"))), 1);
    assert_eq!(count(|note| matches!(note, Metric::BackupEnded("PartiallyFailed"))), 1);
    assert_eq!(count(|note| matches!(note, Metric::GroupRefused(code) if *code as u16 == 3)), 1);
    assert_eq!(count(|note| matches!(note, Metric::Step { step: "delete-group", .. })), 1);
    assert!(count(|note| matches!(note, Metric::Appended { .. })) > 10);
}

#[tokio::test(start_paused = true)]
async fn predicted_time_beyond_deadline_causes_warning() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 3).await;
    testbed.backup_with(
        json!({"includedNamespaces": ["shop"], "csiSnapshotTimeout": "5s", "itemOperationTimeout": "6s"}),
    );
    testbed
        .run_daemon_until(CrashPoints::none(), |testbed| {
            testbed.ended().is_some() && has(&told(testbed), "Warning Backup BackupWarning")
        })
        .await;
    assert_eq!(testbed.ended().as_deref(), Some("Completed"));
    assert_eq!(testbed.nightly()["status"]["warnings"], 2, "one for each deadline");
    assert!(told(&testbed).iter().any(|(_, note)| note == "1 group is complete"), "{:#?}", told(&testbed));
    let warning =
        told(&testbed).into_iter().find(|(line, _)| line.contains("BackupWarning")).expect("an Event").1;
    println!("{warning}");
    assert!(
        warning.starts_with("group shop/orders-db: 3 members") && warning.contains("imeout ("),
        "{warning}"
    );
}
