//! Tests the table of causes × states × profiles.
//!
//! `cargo test` runs a seeded share that takes at most a minute. The whole table takes some minutes:
//! `STILLPOINT_CROSS=all cargo test --test engine under::cross -- --nocapture`. `STILLPOINT_CROSS=TEXT` runs
//! the cells whose name `CAUSE / STATE / PROFILE` contains the text (several texts are separated by commas).
//! `STILLPOINT_CROSS_SEED=N` draws another share.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cause::{Cause, Family};
use super::causes;
use super::cell::{self, Did};
use super::profile::Profile;
use super::state::{self, State};

/// Number of cells of the default share.
const SHARE: usize = 160;
/// Seed of the default share, and of every cell.
const SEED: u64 = 4;

/// Indices of a cause, a state and a profile.
type Place = (usize, usize, usize);

struct Cross {
    causes: Vec<Cause>,
    states: Vec<State>,
}

impl Cross {
    fn new() -> Self {
        Self { causes: causes::all(), states: state::all() }
    }

    /// Returns every valid cell.
    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for (c, cause) in self.causes.iter().enumerate() {
            for (s, state) in self.states.iter().enumerate() {
                let alone = state.at.is_none();
                if (cause.from_the_start && !alone) || cause.not_in.contains(&state.name.as_str()) {
                    continue;
                }
                places.extend((0..Profile::ALL.len()).map(|p| (c, s, p)));
            }
        }
        places
    }

    fn name(&self, (c, s, p): Place) -> String {
        format!("{} / {} / {}", shown(&self.causes[c]), self.states[s].name, Profile::ALL[p].name())
    }

    /// Runs one cell on its own simulated time.
    fn cell(&self, (c, s, p): Place) -> Result<Did, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let run = || runtime.block_on(cell::run(&self.causes[c], &self.states[s], Profile::ALL[p], SEED));
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("it panicked".to_owned()))
    }

    /// Runs these cells on all processors.
    fn run(&self, places: &[Place]) -> BTreeMap<Place, Result<Did, String>> {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        let work = || {
            while let Some(place) = places.get(next.fetch_add(1, Ordering::SeqCst)) {
                let begun = std::time::Instant::now();
                let did = self.cell(*place);
                let short = did.as_ref().map_or_else(|reason| format!("WRONG: {reason}\n"), Did::short);
                println!("{:>6.2} s  {}: {short}", begun.elapsed().as_secs_f64(), self.name(*place));
                done.lock().expect("no poison").insert(*place, did);
            }
        };
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        done.into_inner().expect("no poison")
    }

    /// Prints the ends of the cells by family and profile.
    fn summary(&self, done: &BTreeMap<Place, Result<Did, String>>) {
        let mut counts: BTreeMap<(Family, usize), [usize; 5]> = BTreeMap::new();
        for ((c, _, p), did) in done {
            let family = match self.causes[*c].family {
                Family::Behaviour(_) => Family::Behaviour(0),
                other => other,
            };
            let count = counts.entry((family, *p)).or_default();
            let waited = did.as_ref().is_ok_and(|did| did.waited_for.is_some());
            let resumed = did.as_ref().is_ok_and(|did| did.resumed);
            let end = match did {
                Ok(did) if did.phase == "Completed" => 0,
                Ok(_) => 1,
                Err(_) => 4,
            };
            count[end] += 1;
            count[2] += usize::from(waited);
            count[3] += usize::from(resumed);
        }
        println!(
            "\n| family | profile | C | F | of these waited | resumed | wrong |\n|---|---|---|---|---|---|---|"
        );
        for ((family, p), [completed, failed, waited, resumed, wrong]) in counts {
            let family = match family {
                Family::Behaviour(_) => "behaviours",
                Family::Driver => "driver",
                Family::Cluster => "cluster",
                Family::Fault => "faults",
            };
            let profile = Profile::ALL[p].name();
            println!("| {family} | {profile} | {completed} | {failed} | {waited} | {resumed} | {wrong} |");
        }
    }

    fn print(&self, done: &BTreeMap<Place, Result<Did, String>>) {
        println!(
            "C completed, F failed after a full undo (with its code), /2 in its second attempt, * waited and said so, ! stuck, said so, and resumed by a person"
        );
        for (p, profile) in Profile::ALL.iter().enumerate() {
            let states: Vec<&str> = self.states.iter().map(|state| state.name.as_str()).collect();
            println!(
                "\n{}\n| cause | {} |\n|---|{}",
                profile.name(),
                states.join(" | "),
                "---|".repeat(states.len())
            );
            for (c, cause) in self.causes.iter().enumerate() {
                let cells: Vec<String> = (0..self.states.len())
                    .map(|s| match done.get(&(c, s, p)) {
                        Some(Ok(did)) => did.short(),
                        Some(Err(_)) => "WRONG".to_owned(),
                        None => String::new(),
                    })
                    .collect();
                if cells.iter().any(|cell| !cell.is_empty()) {
                    println!("| {} | {} |", shown(cause), cells.join(" | "));
                }
            }
        }
        let mut waits: BTreeMap<&str, usize> = BTreeMap::new();
        for text in done.values().flatten().filter_map(|did| did.waited_for.as_deref()) {
            *waits.entry(text).or_default() += 1;
        }
        println!("\nwhat was waited for:");
        for (text, count) in waits {
            println!("{count:>5}  {text}");
        }
    }
}

fn shown(cause: &Cause) -> String {
    match cause.family {
        Family::Behaviour(number) => format!("{number:02} {}", cause.name),
        Family::Driver => format!("driver: {}", cause.name),
        Family::Cluster => format!("cluster: {}", cause.name),
        Family::Fault => format!("fault: {}", cause.name),
    }
}

#[test]
fn run_ends_or_reports_wait_under_every_cause() {
    let cross = Cross::new();
    let mut places = cross.places();
    let count = places.len();
    let wanted = std::env::var("STILLPOINT_CROSS").unwrap_or_default();
    if wanted.is_empty() {
        let seed =
            std::env::var("STILLPOINT_CROSS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
        println!("seed {seed}");
        fastrand::Rng::with_seed(seed).shuffle(&mut places);
        places.truncate(SHARE);
        places.sort_unstable();
    } else if wanted != "all" {
        places.retain(|place| wanted.split(',').any(|text| cross.name(*place).contains(text)));
    }
    let begun = std::time::Instant::now();
    let done = cross.run(&places);
    cross.print(&done);
    cross.summary(&done);
    let broken: Vec<String> = done
        .iter()
        .filter_map(|(place, did)| Some(format!("{}: {}", cross.name(*place), did.as_ref().err()?)))
        .collect();
    println!("{} of {count} cells in {:.1?}, {} ended wrong", places.len(), begun.elapsed(), broken.len());
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}
