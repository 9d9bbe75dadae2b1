//! What durability costs: appends against raw writes to the same disk, and an open of a long journal.
//!
//! `cargo bench --bench journal`. An append returns when its record would survive a loss of power. Beside it, in the
//! same run, stands what any program pays for that: one record's bytes and one fdatasync, at the end of a file that
//! grows, and in place, which is the least there is (the journal's file grows by segments, so most of its barriers
//! are of this kind). Appends at once share a barrier, so a record among 64 costs a fraction of one alone.

#[path = "support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use stillpoint::journal::{Journal, Options, Record, StreamId, StreamState};

use support::{Samples, ms, table};

/// Bytes of a payload: a decision of a small group.
const PAYLOAD: usize = 400;
const WARM_UPS: usize = 5;
const ROUNDS: usize = 60;
/// Records of a finished run.
const RECORDS_OF_RUN: usize = 20;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(appends());
    runtime.block_on(opens());
}

fn stream(number: u128) -> StreamId {
    StreamId(uuid::Uuid::from_u128(number))
}

fn record() -> Record {
    Record { kind: 1, version: 1, time_ns: 0, payload: vec![0x5a; PAYLOAD] }
}

/// Appends of as many streams at once; each round is one sample, next to one of the raw disk.
async fn appends() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), Options::default()).expect("a new journal");
    let mut growing = File::create(dir.path().join("growing")).expect("a new file");
    let mut in_place = in_place(&dir.path().join("in-place")).expect("a new file");
    let mut rows = Vec::new();
    let mut streams = 0..;
    for at_once in [1, 16, 64_usize] {
        let mut taken = [vec![], vec![], vec![]];
        for round in 0..WARM_UPS + ROUNDS {
            let ids: Vec<StreamId> = streams.by_ref().take(at_once).map(stream).collect();
            let took = [append(&journal, ids).await, write(&mut growing), write(&mut in_place)];
            if round >= WARM_UPS {
                taken.iter_mut().zip(took).for_each(|(all, one)| all.push(one));
            }
        }
        let [appended, growing, in_place] = taken.map(Samples::new);
        rows.push([
            at_once.to_string(),
            ms(appended.median()),
            appended.spread(),
            ms(appended.median() / u32::try_from(at_once).unwrap_or(u32::MAX)),
            ms(growing.median()),
            appended.ratio(&growing),
            ms(in_place.median()),
            appended.ratio(&in_place),
        ]);
    }
    table(
        &format!("durable appends of {PAYLOAD} bytes, median of {ROUNDS}"),
        ["at once", "all of them", "spread", "per record", "raw, growing", "ratio", "raw, in place", "ratio"],
        &rows,
    );
}

async fn append(journal: &Journal, streams: Vec<StreamId>) -> Duration {
    let begun = Instant::now();
    let all = streams.into_iter().map(|id| journal.append(id, 0, vec![record()], StreamState::Finished));
    for appended in join_all(all).await {
        appended.expect("appended");
    }
    begun.elapsed()
}

/// One record's bytes and one fdatasync.
fn write(file: &mut File) -> Duration {
    let begun = Instant::now();
    file.write_all(&[0x5a; PAYLOAD]).and_then(|()| file.sync_data()).expect("written");
    begun.elapsed()
}

/// A file that has its space already.
fn in_place(path: &Path) -> std::io::Result<File> {
    let mut file = File::create(path)?;
    file.write_all(&vec![0; (WARM_UPS + ROUNDS) * PAYLOAD * 3])?;
    file.sync_all()?;
    file.rewind()?;
    Ok(file)
}

/// Opens of journals with finished runs, and as many with runs that are not: those are handed out again.
async fn opens() {
    let mut rows = Vec::new();
    for (records, rounds) in [(10_000, 5), (100_000, 3)] {
        let dir = tempfile::tempdir().expect("a directory");
        fill(dir.path(), records).await;
        let (mut took, mut unfinished) = (Vec::new(), 0);
        for _ in 0..rounds {
            let begun = Instant::now();
            let (journal, opened) =
                Journal::open_thread(dir.path(), Options::default()).expect("the journal");
            took.push(begun.elapsed());
            assert_eq!(opened.records, records as u64);
            unfinished = opened.streams.len();
            drop(journal);
        }
        let took = Samples::new(took);
        let per_record = took.median() / u32::try_from(records).unwrap_or(u32::MAX);
        rows.push([
            records.to_string(),
            unfinished.to_string(),
            ms(took.median()),
            took.spread(),
            format!("{:.2} us", per_record.as_secs_f64() * 1e6),
        ]);
    }
    table(
        "open: check the whole chain, hand out the unfinished runs",
        ["records", "unfinished runs", "median", "spread", "per record"],
        &rows,
    );
}

/// Runs of [`RECORDS_OF_RUN`] records, every tenth of them unfinished.
async fn fill(dir: &Path, records: usize) {
    let (journal, _) = Journal::open_thread(dir, Options::default()).expect("a new journal");
    let runs: Vec<usize> = (0..records / RECORDS_OF_RUN).collect();
    for some in runs.chunks(64) {
        let all = some.iter().map(|run| {
            let state = if run % 10 == 0 { StreamState::Open } else { StreamState::Finished };
            journal.append(stream(*run as u128), 0, vec![record(); RECORDS_OF_RUN], state)
        });
        for appended in join_all(all).await {
            appended.expect("appended");
        }
    }
}
