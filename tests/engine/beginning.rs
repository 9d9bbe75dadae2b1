//! Runs of one Backup begin beside each other: none of them holds up another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use stillpoint::engine::crash_points::{CrashPoints, Verdict};
use stillpoint::machine::group::GroupMachine;
use stillpoint::machine::kit::{Moment, Place, Point};

use crate::testbed::Testbed;

fn before_plan() -> Point {
    Point::new(Place::planned::<GroupMachine>(), Moment::BeforeRecord)
}

async fn groups(count: usize) -> Testbed {
    let testbed = Testbed::new(stillpoint::sim::Config::default());
    for group in 0..count {
        testbed.claims("shop", &format!("db-{group}"), 1).await;
    }
    testbed.backup_with(json!({"includedNamespaces": ["shop"]}));
    testbed
}

#[tokio::test(start_paused = true)]
async fn run_that_cannot_begin_holds_up_no_other() {
    let testbed = groups(3).await;
    let begun = AtomicU64::new(0);
    // The first run begins before the crash point in the middle of all starts, the other two after it.
    let points = CrashPoints::ask(move |point| match point == before_plan() {
        true if begun.fetch_add(1, Ordering::SeqCst) == 1 => Verdict::Halt,
        _ => Verdict::GoOn,
    });
    let completed = |testbed: &Testbed| {
        let runs = testbed.list("groupsnapshots", None);
        runs.iter().filter(|run| run["status"]["state"] == "Completed").count() == 2
    };
    testbed.run_daemon_until(points, completed).await;
}

/// One barrier for each plan would be 32 syncs of the journal before the last run begins.
#[tokio::test(start_paused = true)]
async fn plans_of_one_backup_share_barriers() {
    const GROUPS: u64 = 32;
    let testbed = groups(GROUPS as usize).await;
    let (disk, planned) = (testbed.disk.clone(), Arc::new(AtomicU64::new(0)));
    let syncs = Arc::new((AtomicU64::new(u64::MAX), AtomicU64::new(0)));
    let (counted, seen) = (planned.clone(), syncs.clone());
    let after_plan = Point::new(Place::planned::<GroupMachine>(), Moment::AfterRecord);
    let points = CrashPoints::ask(move |point| {
        if point == before_plan() {
            seen.0.fetch_min(disk.syncs(), Ordering::SeqCst);
        }
        if point == after_plan {
            counted.fetch_add(1, Ordering::SeqCst);
            seen.1.fetch_max(disk.syncs(), Ordering::SeqCst);
        }
        Verdict::GoOn
    });
    let all = planned.clone();
    testbed.run_daemon_until(points, move |_| all.load(Ordering::SeqCst) == GROUPS).await;
    let used = syncs.1.load(Ordering::SeqCst) - syncs.0.load(Ordering::SeqCst);
    println!("{GROUPS} plans: {used} barriers");
    assert!(used <= GROUPS / 4, "{used} barriers for {GROUPS} plans");
}
