//! Tests an older incarnation of the daemon that still runs on a copy of the journal.
//!
//! The newer daemon takes the run over, and the older one ends without another write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stillpoint::domain::problem::Code;
use stillpoint::drill::rows::Rows;
use stillpoint::drill::split_brain::{Direction, SplitBrain, fight};
use stillpoint::drill::stale_daemon::copy;
use stillpoint::engine::crash_points::{CrashPoints, Verdict};
use stillpoint::machine::kit::Point;
use stillpoint::sim::Config;
use stillpoint::sim::api_server::{Answer, FaultDecision};

use crate::invariants;
use crate::share::{few_or_all, plays_all, share};
use crate::testbed::{End, Passed, Testbed};

const MEMBERS: usize = 3;

/// Counts the writes of a daemon to objects of the snapshot API, including refused ones.
fn writes(testbed: &Testbed, agent: &str) -> u64 {
    let tally = testbed.cluster.api().tally();
    let verbs = tally.0.get(agent).cloned().unwrap_or_default();
    let writes = verbs.into_iter().filter(|(verb, _)| !["get", "list", "watch"].contains(&verb.as_str()));
    let of_snapshots = |resource: &str| resource.starts_with("volume");
    writes
        .flat_map(|(_, resources)| resources)
        .filter(|(resource, _)| of_snapshots(resource))
        .map(|(_, count)| count)
        .sum()
}

/// Points at which the older daemon is cut off from the API server: before, during and after its own claim.
const CUT_OFF: [&str; 4] =
    ["claim/before-intent", "claim/after-intent", "claim/after-effects", "claim/after-outcome"];

async fn overtaken(died_at: Point, cut_off: &'static str) -> Result<(), String> {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup("shop");
    let first = testbed.run_daemon(Some(died_at)).await;
    if !matches!(first, End::Killed) {
        return Err(format!("the first life: {first:?}"));
    }
    let older = copy(&testbed.disk);
    // The newer daemon has one start more than the older one.
    drop(testbed.entries().await);

    testbed.cluster.set_frozen("snapshot-controller", true);
    let away = Arc::new(AtomicBool::new(false));
    let (is_away, goes_away) = (away.clone(), away.clone());
    testbed.cluster.api().set_faults(Box::new(move |call| {
        if call.agent != "older" || !is_away.load(Ordering::SeqCst) {
            return FaultDecision::none();
        }
        FaultDecision::of(false, Answer::Status(503, None))
    }));
    let points = CrashPoints::ask(move |point| {
        if point.to_string() == cut_off {
            goes_away.store(true, Ordering::SeqCst);
        }
        Verdict::GoOn
    });
    let cluster = testbed.cluster.clone();
    let mut older_life = std::pin::pin!(testbed.unbound_life_on(&older, "older/test", points));
    tokio::select! {
        problem = &mut older_life => return Err(format!("the older one ended early: {problem}")),
        () = testbed.until(|_| away.load(Ordering::SeqCst)) => {}
    }
    let newer = async {
        testbed.pass(30).await;
        let groups = testbed.list("volumegroupsnapshots", None);
        let stands = groups.iter().any(|group| group["metadata"]["deletionTimestamp"].is_null());
        let before = (writes(&testbed, "older"), stands);
        away.store(false, Ordering::SeqCst);
        testbed.pass(300).await;
        cluster.set_frozen("snapshot-controller", false);
        before
    };
    let patient = tokio::time::timeout(std::time::Duration::from_secs(3600), &mut older_life);
    let (end, (before, stands), older_end) = tokio::join!(testbed.run_daemon(None), newer, patient);
    // The claim of the older daemon tests the epoch that it knew, and is refused. If the newer daemon has
    // deleted the group already, there is nothing left to claim. The older daemon then finds the run at its
    // end, with nothing left to write.
    let after = writes(&testbed, "older") - before;
    let fenced = match &older_end {
        Ok(problem) => problem.code == Code::Overtaken,
        Err(_) => !stands,
    };
    if !fenced || after > 1 {
        return Err(format!("the older one ended with {older_end:?} and tried {after} writes"));
    }
    match end {
        _ if end.is("Completed") => invariants::completed(&testbed, "shop", MEMBERS).await,
        other => Err(format!("the newer one: {other:?}\n{}", testbed.shown().await)),
    }
}

/// Returns the points at which the group exists in the cluster.
async fn points() -> Vec<Point> {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup("shop");
    let passed = Passed::default();
    let end = testbed.run_daemon_with(passed.watch(), Arc::default()).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    let all = passed.distinct();
    let at = |name: &str| all.iter().position(|point| point.to_string() == name).expect(name);
    all[at("create/after-effects")..=at("delete-group/after-intent")].to_vec()
}

#[tokio::test(start_paused = true)]
async fn overtaken_incarnation_ends_without_another_write() {
    let (mut broken, mut count) = (Vec::new(), 0);
    for (index, point) in share(points().await, 4).into_iter().enumerate() {
        let cut_off = CUT_OFF[index % CUT_OFF.len()];
        count += 1;
        if let Err(reason) = overtaken(point, cut_off).await {
            broken.push(format!("first died at {point}, older cut off at {cut_off}: {reason}"));
        }
    }
    println!("an older life beside the newer one: {count} points, {} ended wrong", broken.len());
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

/// Points at which the incarnation is killed that leaves its journal to both daemons.
const LEFT_AT: [&str; 5] = [
    "created/after-record",
    "vs-bound/after-record",
    "relabelled/after-record",
    "retain/mid-effects",
    "retained/after-record",
];

async fn duels(direction: Direction, seeds: std::ops::RangeInclusive<u64>) {
    let (mut broken, mut count, mut shown) = (Vec::new(), 0, false);
    for (seed, at) in seeds.flat_map(|seed| LEFT_AT.map(|at| (seed, at))) {
        let died_at = at.parse().expect("a point");
        let fought = fight(&SplitBrain { direction, died_at, members: MEMBERS, seed }).await;
        count += 1;
        println!("{direction:?}, left at {at}, seed {seed}: newer {}, older: {}", fought.newer, fought.older);
        if !shown && fought.older.contains("newer epoch") {
            shown = true;
            println!("  the older one's journal:\n    {}", fought.older_journal.join("\n    "));
            println!("  the newer one's journal:\n    {}", fought.newer_journal.join("\n    "));
        }
        broken.extend(fought.broken.iter().map(|one| format!("left at {at}, seed {seed}: {one}")));
    }
    println!("{direction:?}: {count} duels, {} broken", broken.len());
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    // A small number of seeds shows it only by chance.
    assert!(shown || !plays_all(), "the older one was overtaken in none of them");
}

#[tokio::test(start_paused = true)]
async fn older_rollback_does_not_disturb_newer_release() {
    // A rollback is quick: with the first seed it is over before the newer incarnation has claimed the group.
    duels(Direction::OlderUndoes, 1..=few_or_all(2, 4)).await;
}

#[tokio::test(start_paused = true)]
async fn older_release_does_not_disturb_newer_rollback() {
    duels(Direction::NewerUndoes, 1..=few_or_all(1, 4)).await;
}

/// Without its Backup, which shows the claim of the newer daemon first, the group itself shows it.
#[tokio::test(start_paused = true)]
async fn group_of_deleted_backup_shows_that_it_is_overtaken() {
    let mut testbed = Testbed::new(Config::default());
    let rows = Rows::default();
    testbed.metrics = Arc::new(rows.clone());
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup("shop");
    let first = testbed.run_daemon(Some("created/after-record".parse().expect("a point"))).await;
    assert!(matches!(first, End::Killed), "{first:?}");
    let older = copy(&testbed.disk);
    // The newer daemon has one start more than the older one.
    drop(testbed.entries().await);
    testbed.cluster.set_frozen("snapshot-controller", true);
    testbed.hand().delete("backups", Some("stillpoint"), "nightly", Default::default()).expect("deleted");
    let older = testbed.unbound_life_on(&older, "older/test", CrashPoints::none());
    let newer = testbed.run_daemon_until(CrashPoints::none(), |_| rows.all().contains("any/overtaken"));
    let (problem, ()) = tokio::join!(older, newer);
    assert_eq!(problem.code, Code::Overtaken, "{problem}");
}
