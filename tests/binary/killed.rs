//! The daemon is killed by SIGKILL at every crash point of a run, starts again and finishes: nothing leaks,
//! nothing is lost, no volume is cut twice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::invariants::{completed, uids};
use crate::process::ended;
use crate::stage::Stage;

const MEMBERS: usize = 3;
/// Writes of a run without a kill: create, relabel, retain members and group, clear, detach, delete twice.
const WRITES: u64 = 4 * MEMBERS as u64 + 4;
/// Maximum number of writes of one recovery, in addition to the missing writes.
const RECOVERY: u64 = 3;
const SIGKILL: i32 = 9;
/// Number of cases that run concurrently.
const AT_ONCE: usize = 3;
/// Restores the group name on the members, in one more step with one write for each member.
const KEEP: &str = "--keep-group-name";

/// The places of the crash points of a run without failures, in order.
const PLACES: [&str; 19] = [
    "backup/planned",
    "backup/formed",
    "backup/start-groups",
    "planned",
    "create",
    "created",
    "cut",
    "vs-bound",
    "relabel",
    "relabelled",
    "retain",
    "retained",
    "clear-names",
    "detach",
    "delete-group",
    "delete-content",
    "cleaned",
    "completed",
    "backup/completed",
];

/// All crash points of these places.
fn points(places: &[&str]) -> Vec<String> {
    let listed = ended(&["drill", "points", "-o", "json"]).with(0).json();
    let listed: Vec<String> = serde_json::from_value(listed).expect("a list of names");
    let of = |place: &str| {
        let begin = format!("{place}/");
        let found: Vec<String> = listed.iter().filter(|point| point.starts_with(&begin)).cloned().collect();
        assert!(found.len() >= 2, "{place} has the points {found:?}");
        found
    };
    places.iter().flat_map(|place| of(place)).collect()
}

/// Kills one daemon after the other, each at its crash point, then lets one daemon finish. Returns the line
/// of the table.
fn killed_at(kills: &[&str], more: &[&str], most: u64) -> String {
    let mut stage = Stage::with_group(MEMBERS);
    let (mut states, mut writes, mut before) = (vec![], vec![], 0);
    let mut known = vec![];
    for point in kills {
        let mut daemon = stage.daemon(&[&["--crash-at", point], more].concat());
        assert_eq!(daemon.end(), (None, Some(SIGKILL)), "the end of the daemon at {point}");
        states.push(stage.state());
        writes.push((stage.writes() - before).to_string());
        before = stage.writes();
        known = uids(&stage.snapshots());
    }
    let mut daemon = stage.daemon(more);
    let phase = stage.phase(&mut daemon);
    assert_eq!(phase, "Completed", "after {kills:?}");
    writes.push((stage.writes() - before).to_string());
    assert!(stage.writes() <= most, "{writes:?} writes, at most {most} were to be made");
    let uids = uids(&stage.snapshots());
    assert!(known.iter().all(|uid| uids.contains(uid)), "{known:?} at the kill, {uids:?} at the end");
    completed(&stage, daemon, MEMBERS, more.contains(&KEEP));
    let (kills, states, writes) = (kills.join(", "), states.join(", "), writes.join(" + "));
    format!("{kills:<58} {states:<24} {phase:<11} {writes}")
}

/// Runs all cases, `at_once` at a time, each on its own cluster; then prints the table.
fn table<T: Sync>(at_once: usize, cases: &[T], case: impl Fn(&T) -> String + Sync) {
    let (next, lines) = (AtomicUsize::new(0), Mutex::new(vec![]));
    let work = || {
        while let Some((index, one)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            cases.get(index).map(|one| (index, one))
        } {
            let line = catch_unwind(AssertUnwindSafe(|| case(one)));
            lines.lock().expect("no poison").push((index, line.ok()));
        }
    };
    std::thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work))));
    let mut lines = lines.into_inner().expect("no poison");
    lines.sort();
    println!("{:<58} {:<24} {:<11} WRITES OF THE LIVES", "KILLED (SIGKILL) AT", "STATE AT DEATH", "THEN");
    lines
        .iter()
        .for_each(|(index, line)| println!("{}", line.clone().unwrap_or(format!("case {index}: failed"))));
    let failed: Vec<usize> =
        lines.iter().filter(|(_, line)| line.is_none()).map(|(index, _)| *index).collect();
    assert!(failed.is_empty() && lines.len() == cases.len(), "cases {failed:?} of {}", cases.len());
}

#[test]
fn finishes_after_restart_at_every_crash_point() {
    let points = points(&PLACES);
    assert!(points.len() >= 24, "{points:?}");
    table(AT_ONCE, &points, |point| killed_at(&[point], &[], WRITES + RECOVERY));
}

#[test]
#[ignore = "takes a minute of real time; CI plays it; `cargo test` plays the same kills on simulated time"]
fn at_every_point_of_putting_the_names_back_it_finishes_in_its_next_life() {
    let points = points(&["restore-names", "cleaned"]);
    let most = WRITES + MEMBERS as u64 + RECOVERY;
    // All cases run at once: most of their time they wait for the 60 s until the names are restored.
    table(points.len(), &points, |point| killed_at(&[point], &[KEEP], most));
}

#[test]
fn finishes_after_second_kill_during_recovery() {
    let pairs = [
        ["backup/formed/after-record", "planned/before-record"],
        ["create/after-intent", "create/after-effects"],
        ["create/after-effects", "claim/mid-effects"],
        ["created/after-record", "claim/after-intent"],
        ["cut/after-record", "claim/after-effects"],
        ["vs-bound/before-record", "claim/after-outcome"],
        ["relabel/mid-effects", "relabel/mid-effects"],
        ["retain/after-effects", "retained/before-record"],
        ["clear-names/mid-effects", "detach/mid-effects"],
        ["detach/after-intent", "detach/after-effects"],
        ["delete-group/after-effects", "delete-content/after-intent"],
        ["delete-content/after-effects", "cleaned/before-record"],
        ["cleaned/after-record", "completed/after-record"],
        ["completed/before-record", "backup/completed/before-record"],
    ];
    table(AT_ONCE, &pairs, |pair| killed_at(pair, &[], WRITES + 2 * RECOVERY));
}
