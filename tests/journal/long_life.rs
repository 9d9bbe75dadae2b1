//! A long life in figures: what disk, memory and start cost after so many finished runs, with archives and without.
//!
//! Ignored by default: `cargo test --test journal long_life -- --ignored --nocapture`. Runs are written directly, each
//! twenty records of 400 bytes in two streams, as a group of three members and its Backup leave them. The first open
//! after that is timed in a process of its own, whose peak of memory is what it says.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use futures::future::join_all;
use stillpoint::journal::archive::Policy;
use stillpoint::journal::{Journal, Options, StreamState};

use crate::common::{block_on, record, stream};

const RECORDS: usize = 18;
const PAYLOAD: usize = 400;
/// As the daemon does by itself.
const ARCHIVED_FROM: u64 = 20_000;
const VARIABLE: &str = "STILLPOINT_TEST_OPENED";

/// A finished run and its Backup.
async fn run(journal: &Journal, number: u128) {
    let (backup, group) = (stream(number << 1), stream(number << 1 | 1));
    let finished = StreamState::Finished;
    journal.append(backup, 0, vec![record(PAYLOAD)], StreamState::Open).await.expect("appended");
    journal.append(group, 0, vec![record(PAYLOAD); RECORDS], finished).await.expect("appended");
    journal.append(backup, 1, vec![record(PAYLOAD)], finished).await.expect("appended");
}

fn written(dir: &Path, runs: u128, archives: bool) {
    let (journal, _) = Journal::open_thread(dir, Options::default()).expect("opened");
    let mut next = 0;
    while next < runs {
        let batch = 64.min(runs - next);
        block_on(join_all((next..next + batch).map(|number| run(&journal, number + 1))));
        next += batch;
        if archives && next % 512 < 64 {
            let policy = Policy { records: ARCHIVED_FROM, before_ns: i64::MIN };
            block_on(journal.archive(policy, 0)).expect("archived");
        }
    }
}

fn bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() { bytes(&entry.path()) } else { entry.metadata().map_or(0, |m| m.len()) }
        })
        .sum()
}

/// Not a test of its own: the process whose start and memory are measured.
#[test]
fn opened() {
    let Some(dir) = std::env::var_os(VARIABLE) else { return };
    let begun = Instant::now();
    let (_journal, opened) = Journal::open_thread(Path::new(&dir), Options::default()).expect("opened");
    let took = begun.elapsed();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_owned();
    println!("opened in {:>9.1} ms, {} live records, peak {peak}", took.as_secs_f64() * 1e3, opened.records);
}

#[test]
#[ignore = "figures, of minutes"]
fn long_life() {
    let most = std::env::var("STILLPOINT_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    println!("runs     archives  written   sled MiB  evidence MiB  archive MiB  of it indexes");
    for runs in [1_000, 10_000, 100_000].into_iter().filter(|runs| *runs <= most) {
        for archives in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let begun = Instant::now();
            written(dir.path(), runs, archives);
            let took = begun.elapsed().as_secs();
            let mib = |name: &str| bytes(&dir.path().join(name)) as f64 / f64::from(1 << 20);
            let indexes: u64 = fs::read_dir(dir.path().join("archive"))
                .into_iter()
                .flatten()
                .flatten()
                .filter(|entry| entry.path().extension().is_some_and(|e| e == "ids"))
                .map(|entry| entry.metadata().map_or(0, |meta| meta.len()))
                .sum();
            println!(
                "{runs:>7}  {archives:<8} {took:>6} s  {:>8.1}  {:>12.1}  {:>11.1}  {indexes} bytes",
                mib("sled"),
                mib("evidence"),
                mib("archive")
            );
            for again in ["first open", "second open"] {
                let program = std::env::current_exe().expect("this binary");
                let ended = Command::new(program)
                    .args(["--exact", "long_life::opened", "--nocapture"])
                    .env(VARIABLE, dir.path())
                    .output()
                    .expect("started");
                let said = String::from_utf8_lossy(&ended.stdout).into_owned();
                let line = said.lines().find_map(|line| line.split_once("opened in")).map(|(_, line)| line);
                println!("         {again}:{}  sled then {:.1} MiB", line.unwrap_or("nothing"), mib("sled"));
            }
        }
    }
}
