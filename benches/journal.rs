//! Measures the cost of durability: appends compared with raw writes to the same disk, and the cost of long
//! journals.
//!
//! `cargo bench --bench journal`; `STILLPOINT_BENCH_RECORDS=1000000` adds a journal of a million records.
//!
//! An append returns when its record would survive a loss of power. The same run also measures the cost that
//! any program pays for that: the bytes of one record and one fdatasync. It does so at the end of a file that
//! grows, and in place. The latter is the minimum. The journal's file grows by segments, so most of its
//! barriers are of that kind. Concurrent appends share a barrier, so one record among 64 costs a fraction of a
//! single one.

#[path = "support/history.rs"]
mod history;
#[path = "support/process.rs"]
mod process;
#[path = "support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use uuid::Uuid;

use stillpoint::journal::{Journal, Record, Snapshot, StreamState};
use stillpoint::records::journal_options;

use history::fill;
use process::{Taken, measured};
use support::{Samples, ms, table};

/// Bytes of a payload: a decision of a small group.
const PAYLOAD: usize = 400;
const WARM_UPS: usize = 5;
const ROUNDS: usize = 60;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    if let Some(dir) = std::env::var_os(OPEN) {
        return opened(Path::new(&dir));
    }
    runtime.block_on(appends());
    histories(&runtime);
}

fn stream(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn record() -> Record {
    Record { kind: 1, version: 1, time_ns: 0, payload: vec![0x5a; PAYLOAD] }
}

/// Measures concurrent appends of several streams. Each round is one sample, next to one sample of the raw
/// disk.
async fn appends() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), journal_options()).expect("a new journal");
    let mut growing = File::create(dir.path().join("growing")).expect("a new file");
    let mut in_place = in_place(&dir.path().join("in-place")).expect("a new file");
    let mut rows = Vec::new();
    let mut streams = 0..;
    for at_once in [1, 16, 64_usize] {
        let mut taken = [vec![], vec![], vec![]];
        for round in 0..WARM_UPS + ROUNDS {
            let ids: Vec<Uuid> = streams.by_ref().take(at_once).map(stream).collect();
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

async fn append(journal: &Journal, streams: Vec<Uuid>) -> Duration {
    let begun = Instant::now();
    let all = streams.into_iter().map(|id| journal.append(id, 0, vec![record()], StreamState::Finished));
    for appended in join_all(all).await {
        appended.expect("appended");
    }
    begun.elapsed()
}

/// Writes the bytes of one record and calls fdatasync once.
fn write(file: &mut File) -> Duration {
    let begun = Instant::now();
    file.write_all(&[0x5a; PAYLOAD]).and_then(|()| file.sync_data()).expect("written");
    begun.elapsed()
}

/// Creates a file whose space is already allocated.
fn in_place(path: &Path) -> std::io::Result<File> {
    let mut file = File::create(path)?;
    file.write_all(&vec![0; (WARM_UPS + ROUNDS) * PAYLOAD * 3])?;
    file.sync_all()?;
    file.rewind()?;
    Ok(file)
}

/// Name of the variable that makes this program open a journal and exit: see [`opened`].
const OPEN: &str = "STILLPOINT_BENCH_OPEN";

/// Name of the variable with the largest number of records. A million takes some minutes and 1 GB of disk.
const RECORDS: &str = "STILLPOINT_BENCH_RECORDS";

/// Measures long journals: their size on disk, and the time that a daemon and an auditor wait for them. Each
/// command runs in its own process, so that its memory is measured alone.
fn histories(runtime: &tokio::runtime::Runtime) {
    let most = std::env::var(RECORDS).ok().and_then(|text| text.parse().ok()).unwrap_or(100_000_usize);
    let this = std::env::current_exe().expect("this program");
    let (mut disk, mut time) = (Vec::new(), Vec::new());
    for records in [10_000, 100_000, 1_000_000].into_iter().filter(|records| *records <= most) {
        let dir = tempfile::tempdir().expect("a directory");
        let records = runtime.block_on(fill(dir.path(), records));
        disk.push(on_disk(dir.path(), records));
        let path = dir.path().display().to_string();
        let this = this.display().to_string();
        let stillpoint = env!("CARGO_BIN_EXE_stillpoint");
        let journal = |command: &str| measured(stillpoint, &["journal", command, "--journal", &path], &[]);
        time.push(row("open (a daemon's start)", records, || measured(&this, &[], &[(OPEN, &path)])));
        time.push(row("journal verify", records, || journal("verify")));
        time.push(row("journal replay", records, || journal("replay")));
    }
    table("bytes of a record on disk", ["records", "payload", "database", "log"], &disk);
    table(
        "whole journals, median of 3 processes",
        ["what", "records", "median", "spread", "processor", "per record", "peak memory"],
        &time,
    );
}

/// Opens the journal that the environment names, as a daemon does, and exits.
fn opened(dir: &Path) {
    let (journal, opened) = Journal::open_thread(dir, journal_options()).expect("the journal");
    assert!(opened.records > 0 && opened.streams.is_empty(), "finished runs are not handed out");
    drop(journal);
}

fn row(what: &str, records: u64, mut measure: impl FnMut() -> Taken) -> [String; 7] {
    let taken: Vec<Taken> = (0..3).map(|_| measure()).collect();
    let wall = Samples::new(taken.iter().map(|taken| taken.wall).collect());
    let processor = Samples::new(taken.iter().map(|taken| taken.processor).collect()).median();
    let peak = taken.iter().map(|taken| taken.peak).max().unwrap_or(0);
    [
        what.to_owned(),
        records.to_string(),
        ms(wall.median()),
        wall.spread(),
        ms(processor),
        format!("{:.2} us", processor.as_secs_f64() * 1e6 / records as f64),
        format!("{} MiB", peak >> 20),
    ]
}

fn on_disk(dir: &Path, records: u64) -> [String; 4] {
    let each = |bytes: u64| format!("{} bytes", bytes / records);
    let snapshot = Snapshot::open(dir).expect("readable");
    let payload = snapshot.entries().flatten().map(|entry| entry.record.payload.len() as u64).sum();
    let (database, evidence) = (size(&dir.join("sled")), size(&dir.join("log")));
    [records.to_string(), each(payload), each(database), each(evidence)]
}

/// Returns the bytes of all files below a directory.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => size(&entry.path()),
            false => entry.metadata().map_or(0, |file| file.len()),
        })
        .sum()
}
