//! Runs drills of all kinds in a random order until one fails, to measure how long a defect stays undetected.

use std::num::NonZero;

use crate::drill::campaign::{DISTURBED, singles};
use crate::drill::pool;
use crate::drill::runner::{CaseResult, Setup};
use crate::drill::scenario::{Case, Profile, Target};

/// Result of a search.
#[derive(Debug)]
pub struct Search {
    /// Number of cases up to and including the one that failed.
    pub runs: usize,
    /// First case that failed.
    pub caught: Option<CaseResult>,
}

/// Number of members of each group.
const MEMBERS: usize = 2;

/// Runs the rehearsals first. Then runs their singles, disruptions, reply faults and long downtimes, one of each
/// kind in turn, each kind in the order that the seed gives: a kind with few cases is not drowned by one with
/// many. The cases run on testbeds that `setup` has changed. Stops at the first case of which `fails` is true, or
/// after `limit` cases.
pub fn search(seed: u64, limit: usize, setup: Setup, fails: fn(&CaseResult) -> bool) -> Search {
    let profiles = [Profile::Plain, Profile::Stale];
    let targets = Target::ALL.iter().flat_map(|target| [false, true].map(|retain| (*target, retain)));
    let rehearsals: Vec<Case> = targets
        .flat_map(|(target, retain)| profiles.map(|p| Case::plain(target, MEMBERS, retain, p, seed)))
        .collect();
    let rehearsed = pool::play_all_with(&rehearsals, setup, &|_| {});
    if let Some(at) = rehearsed.iter().position(fails) {
        return Search { runs: at + 1, caught: rehearsed.into_iter().nth(at) };
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let kinds = [singles as fn(&CaseResult) -> Vec<Case>].into_iter().chain(DISTURBED);
    let kinds = kinds.map(|kind| {
        let mut cases: Vec<Case> = rehearsed.iter().flat_map(kind).collect();
        random.shuffle(&mut cases);
        cases
    });
    let mut cases = in_turn(kinds.collect());
    cases.truncate(limit.saturating_sub(rehearsed.len()));
    let mut runs = rehearsed.len();
    let at_once = 4 * std::thread::available_parallelism().map_or(1, NonZero::get);
    for cases in cases.chunks(at_once) {
        let played = pool::play_all_with(cases, setup, &|_| {});
        if let Some(at) = played.iter().position(fails) {
            return Search { runs: runs + at + 1, caught: played.into_iter().nth(at) };
        }
        runs += played.len();
    }
    Search { runs, caught: None }
}

/// One case of each kind in turn, until all are taken.
fn in_turn(kinds: Vec<Vec<Case>>) -> Vec<Case> {
    let mut kinds: Vec<_> = kinds.into_iter().map(Vec::into_iter).collect();
    let mut cases = Vec::new();
    loop {
        let before = cases.len();
        cases.extend(kinds.iter_mut().filter_map(Iterator::next));
        if cases.len() == before {
            return cases;
        }
    }
}
