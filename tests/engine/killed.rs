//! Tests that the daemon recovers and finishes after kills at every point, reply faults and disruptions.
//!
//! These drills are the share of the generated ones that every test run includes. It has all singles for 2
//! members with fast controllers. Of the pairs of kills, disruptions, reply faults and long downtimes, it has
//! a share chosen by seed. `STILLPOINT_TESTS=all` adds slow and stale controllers, and 1, 3 and 5 members.
//! `STILLPOINT_DRILLS=all` runs everything that `stillpoint drill run --all` does. `STILLPOINT_SEED` chooses
//! the share.

use std::collections::BTreeSet;

use stillpoint::drill::campaign::{Campaign, Wanted};
use stillpoint::drill::pool;
use stillpoint::drill::scenario::Case;
use stillpoint::machine::kit::Point;
use stillpoint::machine::points;

use crate::share::plays_all;

fn wanted() -> Wanted {
    let seed = std::env::var("STILLPOINT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    match std::env::var("STILLPOINT_DRILLS").as_deref() {
        Ok("all") => Wanted::all(seed),
        _ if plays_all() => Wanted::usual(seed),
        _ => Wanted::quick(seed),
    }
}

/// Points that only a disruption, a reply fault or a slow controller leads to. Drills pass them depending on
/// their shares. Kills at the requests of a user are covered in `asked`. Kills at the deletion of leftovers in
/// a rollback are covered only by the shares and `drill run --all`. Kills at a claim are covered by pairs
/// alone, all of which `.ci/run` runs.
const RARE: [&str; 16] = [
    // tests/engine/backups.rs kills at these.
    "backup/formed-again/",
    "backup/groups-ended/",
    "backup/partially-failed/",
    "claim/",
    "drop-replaced/",
    "rebuild/",
    "make-stub/",
    "drop-stub/",
    "mark-content/",
    "undo-create/",
    "undo-delete-content/",
    "undo-delete-snapshots/",
    "undo-delete-contents/",
    "retried/",
    "stuck/",
    "asked/",
];

#[test]
fn drops_replaced_content_despite_daemon_kill() {
    let moments = ["before-intent", "after-intent", "mid-effects", "after-effects", "after-outcome"];
    let case = |moment: &str| -> Case {
        let lost = "complete,n=2,rival=delete-vs@delete-group/after-effects";
        format!("{lost},kill=drop-replaced/{moment},seed=1").parse().expect("a case")
    };
    let played = pool::play_all(&moments.map(case), &|_| {});
    for one in &played {
        assert!(one.held(), "{}: {:?}", one.case, one.broken);
        assert!(one.rows.contains("release/8-drop-replaced"), "{}", one.case);
    }
}

#[test]
fn generated_drills_pass() {
    let wanted = wanted();
    let began = std::time::Instant::now();
    let campaign = Campaign::play(&wanted, &|_| {});
    let (cases, took) = (campaign.played.len(), began.elapsed());
    let broken: Vec<_> = campaign.played.iter().filter(|played| !played.held()).collect();
    for one in &broken {
        println!("{}: {}", one.case, one.end);
        one.broken.iter().for_each(|broken| println!("    {broken}"));
        println!("  again: stillpoint drill run --case {}", one.case);
    }
    println!("seed {}: {cases} drills in {took:?}, {} broken", wanted.seed, broken.len());
    let least = if plays_all() { 800 } else { 200 };
    assert!(broken.is_empty() && cases > least, "{} of {cases}", broken.len());
    // The generator covers every point of the machine: a new step is killed at without a change here.
    let killed: BTreeSet<Point> = campaign.played.iter().flat_map(|one| one.case.kills.clone()).collect();
    let forgotten: Vec<String> = points::all()
        .into_iter()
        .filter(|point| !killed.contains(point))
        .map(|point| point.to_string())
        .filter(|name| !RARE.iter().any(|rare| name.starts_with(rare)))
        .collect();
    assert!(forgotten.is_empty(), "no drill is killed at {forgotten:?}");
}
