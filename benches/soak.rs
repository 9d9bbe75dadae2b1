//! Measures how fast simulated time passes: 100 groups of 1 to 10 members under random faults, in three
//! profiles.
//!
//! `cargo bench --bench soak`. Each profile has its share of the groups, in one incarnation of the daemon on
//! paused time. The measurement covers the work between the waits. Each profile runs twice, and every request
//! and every record must be the same. `STILLPOINT_WEATHER=N` sets another number of groups.

#[path = "support/table.rs"]
mod table;

use std::time::Instant;

use stillpoint::drill::soak::{self, Outcome};
use stillpoint::sim::Config;

use table::table;

const SEED: u64 = 6;

fn main() {
    let groups = std::env::var("STILLPOINT_WEATHER").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let fast = || Config { seed: SEED, ..Config::default() };
    let profiles = [
        ("no limits", fast()),
        ("qps 5, burst 10", Config { controller_qps: Some(5.0), ..fast() }),
        ("stale caches", Config { cache_lag_ms: 400, ..fast() }),
    ];
    let count = profiles.len();
    let mut rows = Vec::new();
    for (index, (name, config)) in profiles.into_iter().enumerate() {
        rows.push(row(name, config, (groups + index) / count));
    }
    let header =
        ["profile", "groups", "members", "ended", "requests", "records", "simulated", "real", "hours/s"];
    table(&format!("seed {SEED}, {groups} groups in bad weather, twice the same"), header, &rows);
}

fn run(config: Config, groups: usize) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(soak::run(config, groups))
}

fn row(name: &str, config: Config, groups: usize) -> [String; 9] {
    let begun = Instant::now();
    let outcome = run(config.clone(), groups);
    let real = begun.elapsed();
    assert!(outcome.broken.is_empty(), "{}", outcome.broken.join("\n"));
    let again = run(config, groups);
    assert!(outcome.requests == again.requests, "{name}: other requests with the same seed");
    assert!(outcome.entries == again.entries, "{name}: another journal with the same seed");
    let ended: Vec<String> = outcome.phases.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    [
        name.to_owned(),
        groups.to_string(),
        outcome.members.to_string(),
        ended.join(", "),
        outcome.requests.len().to_string(),
        outcome.entries.len().to_string(),
        format!("{:.0?}", outcome.simulated),
        format!("{real:.2?}"),
        format!("{:.3}", outcome.simulated.as_secs_f64() / 3600.0 / real.as_secs_f64()),
    ]
}
