//! Measures a journal over a long time: the cost of disk, memory and start after many finished runs, with
//! archives, without archives, and with a run that never ends.
//!
//! Ignored by default: `cargo test --release --test journal long_life -- --ignored --nocapture`.
//! `STILLPOINT_RUNS=10000` omits the largest size. Runs are written directly. Each has twenty records of
//! 400 bytes in two streams, like the records of a group of three members and its Backup. Starts are
//! measured in separate processes: the time and the peak memory. The first start comes right after the
//! writes, the other value is the median of three.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use futures::future::join_all;
use stillpoint::journal::archive::Policy;
use stillpoint::journal::{Journal, Record, StreamState};
use stillpoint::records::{journal_options, kind};

use crate::common::{block_on, record, stream};

const RECORDS: usize = 18;
const PAYLOAD: usize = 400;
/// Number of records from which the daemon archives.
const ARCHIVED_FROM: u64 = 20_000;
const VARIABLE: &str = "STILLPOINT_TEST_OPENED";

/// How a journal is archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Without archiving.
    Unarchived,
    /// With the archiving of the daemon.
    Archived,
    /// As `Archived`, and the first run never ends.
    Stuck,
    /// As `Archived`, and a tenth of the runs do not end for a long time.
    Open,
    /// As `Archived`, and the storage of no run is freed. The archives are removed.
    Holding,
    /// All records are archived at once, at the end. This measures whether the database frees its room.
    Late,
}

impl Life {
    fn word(self) -> &'static str {
        match self {
            Life::Unarchived => "none",
            Life::Archived => "daemon's",
            Life::Stuck => "and 1 stuck",
            Life::Open => "10 % open",
            Life::Holding => "all hold",
            Life::Late => "at the end",
        }
    }
}

/// A run and its Backup. The record in the middle is its receipt.
async fn run(journal: &Journal, number: u128, life: Life) {
    let (backup, group) = (stream(number << 1), stream(number << 1 | 1));
    let state = match life {
        Life::Open if number.is_multiple_of(10) => StreamState::Open,
        Life::Holding => StreamState::Holding,
        _ => StreamState::Finished,
    };
    let mut records = vec![Record { kind: kind::GROUP_INTENDED, ..record(PAYLOAD) }; RECORDS];
    records[RECORDS / 2].kind = kind::GROUP_RECEIPT_PART;
    journal.append(backup, 0, vec![record(PAYLOAD)], StreamState::Open).await.expect("appended");
    journal.append(group, 0, records, state).await.expect("appended");
    journal.append(backup, 1, vec![record(PAYLOAD)], StreamState::Finished).await.expect("appended");
}

/// Removes all archives, and checks that each run still has its receipt.
fn without_archives(dir: &Path, runs: u128) {
    for entry in fs::read_dir(dir.join("archive")).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "seg") {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
    let (journal, opened) = Journal::open_thread(dir, journal_options()).expect("opened");
    assert_eq!((opened.streams.len(), opened.repairs), (0, vec![]));
    for number in 1..=runs {
        let live = block_on(journal.live(stream(number << 1 | 1))).expect("readable");
        assert!(live.iter().any(|entry| entry.record.kind == kind::GROUP_RECEIPT_PART), "run {number}");
    }
}

fn written(dir: &Path, runs: u128, life: Life) {
    let (journal, _) = Journal::open_thread(dir, journal_options()).expect("opened");
    if life == Life::Stuck {
        let records = vec![record(PAYLOAD); RECORDS];
        block_on(journal.append(stream(u128::MAX), 0, records, StreamState::Open)).expect("appended");
    }
    let mut next = 0;
    while next < runs {
        let batch = 64.min(runs - next);
        block_on(join_all((next..next + batch).map(|number| run(&journal, number + 1, life))));
        next += batch;
        if matches!(life, Life::Archived | Life::Stuck | Life::Open | Life::Holding) && next % 512 < 64 {
            let policy = Policy { records: ARCHIVED_FROM, ..Policy::everything() };
            block_on(journal.archive(policy, 0)).expect("archived");
        }
    }
    if life == Life::Late {
        block_on(journal.archive(Policy::everything(), 0)).expect("archived");
    }
}

/// Size in bytes of the files below a directory that have this extension, or any extension.
fn bytes(dir: &Path, extension: Option<&str>) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
    let counts = |path: &Path| extension.is_none_or(|e| path.extension().is_some_and(|found| found == e));
    entries
        .map(|path| match path.is_dir() {
            true => bytes(&path, extension),
            false if counts(&path) => size(&path),
            false => 0,
        })
        .sum()
}

/// Not an independent test: the process whose start and memory are measured.
#[test]
fn opened() {
    let Some(dir) = std::env::var_os(VARIABLE) else { return };
    let begun = Instant::now();
    let (_journal, opened) = Journal::open_thread(Path::new(&dir), journal_options()).expect("opened");
    let took = begun.elapsed();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim();
    let peak: u64 = peak.trim_end_matches(" kB").parse().unwrap_or_default();
    println!("measured: {} {} {} {peak}", took.as_micros(), opened.records, opened.streams.len());
}

/// One start: microseconds, live records, runs to resume, kilobytes.
fn start(dir: &Path) -> [u64; 4] {
    let mut this = Command::new(std::env::current_exe().expect("this binary"));
    this.args(["--exact", "long_life::opened", "--nocapture"]).env(VARIABLE, dir);
    let said = String::from_utf8_lossy(&this.output().expect("started").stdout).into_owned();
    let said = said.lines().find_map(|line| line.split_once("measured: ")).expect("it says what it took").1;
    let mut numbers = said.split(' ').map(|number| number.parse().expect("a number"));
    [(); 4].map(|()| numbers.next().expect("four numbers"))
}

fn line(dir: &Path, runs: u128, life: Life) -> String {
    let begun = Instant::now();
    written(dir, runs, life);
    let took = begun.elapsed().as_secs();
    let mib = |name: &str, extension| bytes(&dir.join(name), extension) as f64 / f64::from(1 << 20);
    let (sled, log, archives) = (mib("sled", None), mib("log", None), mib("archive", Some("seg")));
    let kib = |extension| bytes(&dir.join("archive"), Some(extension)).div_ceil(1024);
    let indexes = kib("ids");
    if life == Life::Holding {
        without_archives(dir, runs);
    }
    let [first, ..] = start(dir);
    let mut starts = [(); 3].map(|()| start(dir));
    starts.sort_unstable();
    let [micros, live, resumed, peak] = starts[1];
    let open = match life {
        Life::Stuck => 1,
        Life::Open => u64::try_from(runs / 10).expect("some"),
        _ => 0,
    };
    assert_eq!(resumed, open, "runs to resume");
    let [first, micros] = [first, micros].map(|micros| micros as f64 / 1e3);
    let peak = peak / 1024;
    format!(
        "{runs:>7}  {:<11}  {took:>5} s  {sled:>8.1}  {log:>8.1}  {archives:>8.1}  {indexes:>7}  {live:>8}  {first:>9.0}  {micros:>8.0}  {peak:>7}",
        life.word()
    )
}

#[test]
#[ignore = "figures, of minutes"]
fn long_life() {
    let most = std::env::var("STILLPOINT_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    println!("sled, log, archives and memory in MiB, indexes in KiB, starts in ms");
    println!(
        "   runs  archives     written      sled       log  archives  indexes      live  1st start     start   memory"
    );
    for runs in [1_000, 10_000, 100_000].into_iter().filter(|runs| *runs <= most) {
        let lives = [Life::Unarchived, Life::Archived, Life::Stuck, Life::Open, Life::Holding, Life::Late];
        for life in lives.into_iter().filter(|life| *life != Life::Late || runs == 10_000) {
            let dir = tempfile::tempdir().expect("a directory");
            println!("{}", line(dir.path(), runs, life));
        }
    }
}
