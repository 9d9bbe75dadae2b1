//! Proves that the drills catch each planted defect, and prints the invariant that catches it.
//!
//! `cargo test --features planted --test planted -- --nocapture`. Not part of a plain `cargo test`: no other
//! build contains the defects. The drills have no knowledge of them. They are the usual drills, in the usual
//! order, until one fails.

use stillpoint::domain::planted::{DEFECTS, choose};
use stillpoint::drill::pool;
use stillpoint::drill::search::hunt;

/// Returns the names in `STILLPOINT_PLANTED`, separated by commas; all names if it is unset.
fn wanted() -> Vec<&'static str> {
    let chosen = std::env::var("STILLPOINT_PLANTED").unwrap_or_default();
    let names = DEFECTS.iter().map(|(name, _)| *name);
    names.filter(|name| chosen.is_empty() || chosen.split(',').any(|one| one == *name)).collect()
}

/// Number of cases after which a defect counts as missed.
const LIMIT: usize = 3000;

#[test]
fn every_planted_defect_is_caught() {
    println!("{:<18} {:>6}  {:<52} BY THE DRILL", "DEFECT", "RUNS", "CAUGHT BY");
    let mut missed = Vec::new();
    for name in wanted() {
        choose(Some(name));
        let hunt = hunt(1, LIMIT);
        choose(None);
        // A case that also fails without the defect does not count.
        let caught = hunt.caught.filter(|played| {
            let alone = pool::play_alone(&played.case);
            alone.broken.iter().for_each(|broken| println!("{} fails by itself: {broken}", played.case));
            alone.held()
        });
        match caught {
            Some(played) => {
                let by = played.broken.first().map_or("", |broken| broken.invariant.name());
                println!("{name:<18} {:>6}  {by:<52} {}", hunt.runs, played.case);
                for broken in &played.broken {
                    println!("    {}", broken.to_string().chars().take(160).collect::<String>());
                }
            }
            None => {
                println!("{name:<18} {:>6}  nothing", hunt.runs);
                missed.push(name);
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
