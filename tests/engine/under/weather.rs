//! Tests many groups under random faults: all end, and the same seed gives the same bytes.
//!
//! The default is a small share. `STILLPOINT_WEATHER=100 cargo test --test engine under::weather --
//! --nocapture` runs that many groups, and `STILLPOINT_WEATHER_SEED=N` sets another seed. `cargo bench --bench
//! soak` runs 100 groups and reports the speed.

use std::time::Instant;

use stillpoint::drill::soak::{self, Outcome};

use super::profile::Profile;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn run(profile: Profile, seed: u64, groups: usize) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(soak::run(profile.config(seed), groups))
}

/// Returns the first place at which two runs differ.
fn parts<T: PartialEq + std::fmt::Debug>(what: &str, one: &[T], other: &[T]) -> Option<String> {
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    let at = at.or((one.len() != other.len()).then(|| one.len().min(other.len())))?;
    let around = at.saturating_sub(5)..at + 1;
    let show = |all: &[T]| format!("{:#?}", all.get(around.start..around.end.min(all.len())));
    Some(format!("{what} part at {at} of {} and {}: {}\n{}", one.len(), other.len(), show(one), show(other)))
}

#[test]
fn all_groups_end_and_runs_are_reproducible() {
    let groups = variable("STILLPOINT_WEATHER", 12) as usize;
    let seed = variable("STILLPOINT_WEATHER_SEED", 6);
    for (index, profile) in Profile::ALL.into_iter().enumerate() {
        let share = (groups + index) / Profile::ALL.len();
        let begun = Instant::now();
        let first = run(profile, seed, share);
        let took = begun.elapsed();
        println!(
            "seed {seed}, {}: {share} groups, {} members, {:?}, {} requests, {} records, {:.0?} simulated in {took:.1?}",
            profile.name(),
            first.members,
            first.phases,
            first.requests.len(),
            first.entries.len(),
            first.simulated,
        );
        assert!(first.broken.is_empty(), "{}", first.broken.join("\n"));
        let second = run(profile, seed, share);
        assert_eq!(parts("requests", &first.requests, &second.requests), None, "{}", profile.name());
        assert_eq!(parts("journals", &first.entries, &second.entries), None, "{}", profile.name());
        assert_eq!(first.simulated, second.simulated);
    }
}
