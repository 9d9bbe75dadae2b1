//! Tests the journal through its public interface.

mod appending;
mod archiving;
mod bad_bytes;
mod barrier;
mod carrying;
mod converting;
mod interleaving;
mod opening;
mod power;
mod random;
mod reading;
mod rebuilding;
mod schema;
mod stopping;

use super::testing::{record, stream};
use super::*;

/// Appends one record and returns the result.
async fn append(journal: &Journal, number: u128, seq: u64, text: &str) -> Result<Appended, AppendError> {
    journal.append(stream(number), seq, vec![record(text)], StreamState::Open).await
}

fn on(disk: &Disk) -> (Journal, Opened) {
    let store = MemoryStore::open(disk).expect("the disk is free");
    Journal::open_task(store).expect("an intact journal")
}

/// Every how many of the cases of a set of tests are played: all with `STILLPOINT_TESTS=all`, as in CI.
fn every(step: usize) -> usize {
    if std::env::var("STILLPOINT_TESTS").is_ok_and(|tests| tests == "all") { 1 } else { step }
}

/// Options without wait times.
fn impatient() -> Options {
    Options { lock_attempts: 1, ballast_bytes: 0, ..Options::default() }
}

fn texts(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.record.payload).into_owned()).collect()
}
