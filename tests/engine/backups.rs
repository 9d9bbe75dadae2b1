//! A Backup is killed at each of its own crash points, and ends with the same groups: each begun once, each cut
//! once, each with its recorded end.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use crate::share::{few_or_all, plays_all, share};
use crate::testbed::{End, Passed, Testbed};
use serde_json::json;
use stillpoint::audit::replay;
use stillpoint::domain::ids::StreamId;
use stillpoint::domain::plan::BackupRef;
use stillpoint::drill::stale_daemon::jitter;
use stillpoint::engine::runs::fold_backup;
use stillpoint::journal::{Entry, Journal, MemoryStore, StreamState};
use stillpoint::machine::backup::{AskedGroup, BackupMachine, Milestone, Phase, earlier};
use stillpoint::machine::group::Event;
use stillpoint::machine::kit::Point;
use stillpoint::records::{Decoded, decode, encode_earlier_backup};
use stillpoint::sim::Config;

/// One incarnation, which is killed at this point, and the points that it passed.
async fn incarnation(testbed: &Testbed, kill: Option<Point>) -> (End, Vec<Point>) {
    let passed = Passed::default();
    let (points, killed) = passed.watch_until(kill);
    let end = testbed.run_daemon_with(points, killed).await;
    let points = passed.distinct().into_iter().filter(|point| point.is_of::<BackupMachine>());
    (end, points.collect())
}

/// Runs the daemon without a kill, with a kill at each point of the Backup, and with second kills after it.
/// Calls `judge` after each case, and returns the numbers of points and cases.
async fn sweep<F: Future<Output = Testbed>>(
    set_up: impl Fn() -> F,
    judge: impl Fn(&Testbed, &[Entry], &str),
) -> (Vec<Point>, usize) {
    let rehearsal = set_up().await;
    let (_, points) = incarnation(&rehearsal, None).await;
    judge(&rehearsal, &rehearsal.entries().await, "not killed");
    let mut cases = 1;
    for first in &points {
        let testbed = set_up().await;
        assert!(matches!(incarnation(&testbed, Some(*first)).await.0, End::Killed), "{first}");
        let (_, again) = incarnation(&testbed, None).await;
        judge(&testbed, &testbed.entries().await, &first.to_string());
        cases += 1;
        for second in &share(again, 5) {
            let testbed = set_up().await;
            incarnation(&testbed, Some(*first)).await;
            assert!(matches!(incarnation(&testbed, Some(*second)).await.0, End::Killed), "{first}, {second}");
            incarnation(&testbed, None).await;
            judge(&testbed, &testbed.entries().await, &format!("{first}, then {second}"));
            cases += 1;
        }
    }
    (points, cases)
}

fn uid(testbed: &Testbed) -> String {
    testbed.nightly()["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

/// Every group has one plan, the recorded ends are those of the runs, and a replay decides the same.
fn is_consistent(testbed: &Testbed, entries: &[Entry], case: &str) {
    let mut plans = BTreeMap::new();
    for entry in entries {
        if let Ok(Decoded::Group(timed)) = decode(&entry.record)
            && matches!(timed.event, Event::Planned(_))
        {
            *plans.entry(entry.stream).or_insert(0) += 1;
        }
    }
    assert!(plans.values().all(|count| *count == 1), "{case}: {plans:?}");
    let stream = StreamId::of_backup(&uid(testbed));
    let own: Vec<Entry> = entries.iter().filter(|entry| entry.stream == stream.0).cloned().collect();
    let run = fold_backup(stream, &own).expect("a legal stream").expect("a Backup");
    for (group, end) in run.state.groups.iter().zip(&run.state.ends) {
        let end = end.as_ref().unwrap_or_else(|| panic!("{case}: no end of {}", group.group));
        let last = entries.iter().rfind(|entry| entry.stream == group.run.0);
        assert_eq!(last.map_or([0; 32], |last| last.hash), end.hash, "{case}: {}", group.group);
    }
    let report = replay::replay(entries);
    assert!(report.different.is_empty() && report.not_comparable == 0, "{case}: {report:#?}");
    let ledger = testbed.cluster.ledger();
    assert_eq!((ledger.leaked, ledger.phantom), (0, 0), "{case}");
}

/// Groups of one and of eight members, which end at different times, and a namespace that does not exist.
async fn three_groups() -> Testbed {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "cache", 1).await;
    testbed.claims("shop", "queue", 1).await;
    testbed.claims("shop", "orders-db", 8).await;
    testbed.backup_with(json!({"includedNamespaces": ["shop", "nowhere"]}));
    testbed
}

#[tokio::test(start_paused = true)]
async fn backup_survives_a_kill_at_each_of_its_points() {
    let (points, cases) = sweep(three_groups, |testbed, entries, case| {
        assert_eq!(testbed.ended().as_deref(), Some("PartiallyFailed"), "{case}");
        let status = &testbed.nightly()["status"];
        assert_eq!(status["csiVolumeSnapshotsCompleted"], json!(10), "{case}: {status:#}");
        assert_eq!(testbed.cluster.ledger().physical_snapshots, 10, "{case}");
        is_consistent(testbed, entries, case);
    })
    .await;
    println!("{} points of a Backup, {cases} cases, all ended right", points.len());
    for milestone in [Milestone::Formed, Milestone::GroupsEnded, Milestone::PartiallyFailed] {
        let passed = points.iter().any(|point| point.milestone_of::<BackupMachine>() == Some(milestone));
        assert!(passed, "no kill at {}", milestone.name());
    }
    assert!(cases > if plays_all() { 100 } else { 30 }, "{cases}");
}

/// Groups that end at almost the same time: one ends while the end of another one is recorded.
#[tokio::test(start_paused = true)]
async fn groups_that_end_together_are_all_recorded() {
    for seed in 0..few_or_all(2, 8) {
        let testbed = Testbed::new(Config { seed, ..Config::default() });
        testbed.disk.set_latency(Duration::from_millis(200));
        jitter(&testbed.cluster, seed);
        for group in 0..12 {
            testbed.claims("shop", &format!("db-{group}"), 1 + group % 3).await;
        }
        testbed.backup("shop");
        let begun = "backup/start-groups/after-outcome".parse().expect("a point");
        assert!(matches!(testbed.run_daemon(Some(begun)).await, End::Killed));
        let end = testbed.run_daemon(None).await;
        assert!(end.is("Completed"), "seed {seed}: {end:?}\n{}", testbed.shown().await);
        is_consistent(&testbed, &testbed.entries().await, &format!("seed {seed}"));
    }
}

/// A journal of the first release, which accepted a Backup of two groups and was killed before their plans. One
/// of them has lost its PVCs since.
async fn accepted_by_earlier_release() -> Testbed {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup("shop");
    let uid = uid(&testbed);
    let backup =
        BackupRef { namespace: "stillpoint".into(), name: "nightly".into(), uid: uid.as_str().into() };
    let key = "velero.io/volume-group";
    let asked = |group: &str| AskedGroup {
        namespace: "shop".into(),
        group: group.into(),
        run: StreamId::of_group(&uid, "shop", key, group),
    };
    let accepted = earlier::Event::Accepted {
        backup,
        label_key: key.into(),
        groups: vec![asked("gone"), asked("orders-db")],
        refused: vec![],
        warnings: vec![],
    };
    let record = encode_earlier_backup(&accepted, testbed.clock.now()).expect("it fits");
    let (journal, _) =
        Journal::open_task(MemoryStore::open(&testbed.disk).expect("free")).expect("a journal");
    journal.append(StreamId::of_backup(&uid), 0, vec![record], StreamState::Open).await.expect("appended");
    drop(journal);
    testbed.disk.crash();
    testbed
}

#[tokio::test(start_paused = true)]
async fn backup_of_earlier_release_forms_missing_groups_once_more() {
    let (points, cases) = sweep(accepted_by_earlier_release, |testbed, entries, case| {
        assert_eq!(testbed.ended().as_deref(), Some(Phase::PartiallyFailed.name()), "{case}");
        let reason = testbed.nightly()["status"]["failureReason"].as_str().unwrap_or_default().to_owned();
        assert!(reason.contains("group shop/gone: the group changed before its plan"), "{case}: {reason}");
        assert_eq!(testbed.cluster.ledger().physical_snapshots, 2, "{case}");
        is_consistent(testbed, entries, case);
    })
    .await;
    println!("{} points of an older Backup, {cases} cases, all ended right", points.len());
    let again = Some(Milestone::FormedAgain);
    assert!(points.iter().any(|point| point.milestone_of::<BackupMachine>() == again), "{points:?}");
}
