//! Runs cases on all cores: one thread for each core, and one runtime on simulated time for each case.
//!
//! Cases share nothing, so that the order in which they run does not change their results. A case that panics
//! has failed.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::drill::invariants::{Broken, Invariant};
use crate::drill::runner::{CaseResult, Setup, play_with};
use crate::drill::scenario::Case;

/// Runs all cases and calls `told` as each one ends. The results are in the order of the cases.
///
/// # Panics
/// The operating system has no thread or no timer left.
pub fn play_all(cases: &[Case], told: &(dyn Fn(&CaseResult) + Sync)) -> Vec<CaseResult> {
    play_all_with(cases, |_| {}, told)
}

/// As [`play_all`], on testbeds that `setup` has changed.
///
/// # Panics
/// As [`play_all`].
pub fn play_all_with(cases: &[Case], setup: Setup, told: &(dyn Fn(&CaseResult) + Sync)) -> Vec<CaseResult> {
    let next = AtomicUsize::new(0);
    let played = Mutex::new(Vec::with_capacity(cases.len()));
    let work = || {
        while let Some((index, case)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            cases.get(index).map(|case| (index, case))
        } {
            let one = play_alone_with(case, setup);
            told(&one);
            played.lock().expect("nothing panics with the lock").push((index, one));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let mut played = played.into_inner().expect("nothing panics with the lock");
    played.sort_by_key(|(index, _)| *index);
    played.into_iter().map(|(_, one)| one).collect()
}

/// Runs one case on its own runtime.
pub fn play_alone(case: &Case) -> CaseResult {
    play_alone_with(case, |_| {})
}

fn play_alone_with(case: &Case, setup: Setup) -> CaseResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play_with(case, setup))));
    ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let shown = format!("a panic: {}", text.unwrap_or_default());
        CaseResult::lost(case, vec![Broken { invariant: Invariant::Ends, shown }])
    })
}
