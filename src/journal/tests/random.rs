//! Random sequences of appends, archivings, kills and losses, compared with a model of what has to be live.
//!
//! `SEEDS=400` plays more of them, `SEED=7` one of them with its steps.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::archive::Policy;
use super::archiving::archives;
use super::*;

pub(super) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("readable").map(|entry| entry.expect("readable").path()) {
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &target)
        } else {
            fs::copy(&entry, &target).map(|_| ()).expect("copied")
        }
    }
}

/// Ends the journal at a call, and keeps the index as it was at its last sync.
pub(super) struct Kill {
    pub left: AtomicU64,
    pub sled: PathBuf,
    pub synced: Option<PathBuf>,
}

impl FaultInjection for Kill {
    fn before(&self, _: Call) -> std::io::Result<Answer> {
        match self.left.load(Ordering::SeqCst) {
            0 => Err(std::io::Error::other("killed")),
            left => {
                self.left.store(left - 1, Ordering::SeqCst);
                Ok(Answer::Go)
            }
        }
    }

    fn after(&self, call: Call) {
        if let (Call::SledSync, Some(synced)) = (call, &self.synced) {
            let _ = fs::remove_dir_all(synced);
            copy(&self.sled, synced);
        }
    }
}

#[derive(Debug, Clone)]
struct Run {
    state: StreamState,
    texts: Vec<String>,
    first: u64,
    last: u64,
    /// A stream that its first record refers to, all of whose records were live then.
    needs: Option<u128>,
}

#[derive(Default)]
struct Model {
    runs: BTreeMap<u128, Run>,
    next: u128,
    archived_through: u64,
    lost_archives: bool,
    /// An append whose result is unknown.
    pending: Option<(u128, Run)>,
}

pub(super) const REFERS: u16 = 16;

pub(super) fn links(record: &Record) -> Vec<uuid::Uuid> {
    let numbers = record.payload.chunks_exact(16).filter(|_| record.kind == REFERS);
    numbers.take(1).map(|bytes| stream(u128::from_be_bytes(bytes.try_into().expect("16 bytes")))).collect()
}

pub(super) fn keeps(record: &Record) -> bool {
    record.payload.starts_with(b"keep")
}

pub(super) fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, now: || 77, links, keeps, ..impatient() }
}

#[derive(Clone, Copy, Debug)]
struct Features {
    interleave: bool,
    reopen_holding: bool,
    kills: bool,
    lose_sled: bool,
    lose_archives: bool,
    roll_back: bool,
    large: bool,
}

struct Sim {
    rng: fastrand::Rng,
    model: Model,
    dir: tempfile::TempDir,
    segment_bytes: u64,
    features: Features,
    trace: Vec<String>,
    opens: u64,
    archivings: u64,
    kills: u64,
}

impl Sim {
    /// One append. Returns false if the journal was killed.
    async fn append(&mut self, journal: &Journal, quiet: bool) -> Result<bool, String> {
        let rng = &mut self.rng;
        let live: Vec<u128> = self
            .model
            .runs
            .iter()
            .filter(|(_, run)| run.state != StreamState::Finished)
            .map(|(number, _)| *number)
            .collect();
        let fresh = live.is_empty() || (live.len() < 12 && rng.u8(..3) == 0);
        let number = if fresh { self.model.next + 1 } else { live[rng.usize(..live.len())] };
        let before = self.model.runs.get(&number).cloned();
        let mut count = 1 + rng.usize(..2) * rng.usize(..3);
        let size = match rng.u8(..20) {
            0 if self.features.large => 65_500,
            1 if self.features.large => 30_000,
            2..8 => 300,
            _ => 0,
        };
        if size > 1000 {
            count = 1
        }
        let state = match before.as_ref().map(|run| run.state) {
            Some(StreamState::Holding) => match rng.u8(..8) {
                0 if self.features.reopen_holding => StreamState::Open,
                0..5 => StreamState::Holding,
                _ => StreamState::Finished,
            },
            _ => match rng.u8(..10) {
                0..6 => StreamState::Open,
                6..8 => StreamState::Holding,
                _ => StreamState::Finished,
            },
        };
        let mut after =
            before.clone().unwrap_or(Run { state, texts: vec![], first: 0, last: 0, needs: None });
        let seq = after.texts.len() as u64;
        let mut records = vec![];
        for at in 0..count {
            let word = if rng.bool() { "keep" } else { "drop" };
            let text = format!("{word} {number} {} {}", seq + at as u64 + 1, "x".repeat(size));
            after.texts.push(text.clone());
            records.push(record(&text));
        }
        if fresh && !quiet && rng.u8(..3) == 0 && state == StreamState::Open {
            let targets: Vec<u128> = self
                .model
                .runs
                .iter()
                .filter(|(_, run)| run.first > self.model.archived_through && run.needs.is_none())
                .map(|(n, _)| *n)
                .collect();
            if !targets.is_empty() {
                let target = targets[rng.usize(..targets.len())];
                after.needs = Some(target);
                let mut payload = target.to_be_bytes().to_vec();
                payload.extend(b"0123456789abcdef");
                after.texts[0] = String::from_utf8_lossy(&payload).into_owned();
                records[0] = Record { kind: REFERS, version: 1, time_ns: 1, payload };
            }
        }
        after.state = state;
        self.trace
            .push(format!("append {number} seq {seq}+{count} {state:?} size {size} needs {:?}", after.needs));
        match journal.append(stream(number), seq, records, state).await {
            Ok(appended) => {
                after.last = appended.last.position;
                if after.first == 0 {
                    after.first = appended.first
                }
                self.trace.push(format!("  -> {}..{}", appended.first, appended.last.position));
                self.model.runs.insert(number, after);
                self.model.next = self.model.next.max(number);
                Ok(true)
            }
            Err(AppendError::Stopped { .. }) => {
                self.model.pending = Some((number, after));
                self.model.next = self.model.next.max(number);
                Ok(false)
            }
            Err(other) => Err(format!("append to {number}: {other}")),
        }
    }

    fn policy(&mut self) -> Policy {
        let copied_percent = [1000, 1000, 25, 60][self.rng.usize(..4)];
        let records = [1, 1, u64::MAX, 3][self.rng.usize(..4)];
        Policy { records, before_ns: i64::MIN, copied_percent }
    }

    async fn archive(&mut self, journal: &Journal) -> Result<bool, String> {
        let policy = self.policy();
        let interleave = self.features.interleave && self.rng.bool();
        self.trace.push(format!("archive {policy:?} interleave {interleave}"));
        let own = journal.clone();
        let mut future = Box::pin(async move { own.archive(policy, 5).await });
        let (mut alive, mut appends) = (true, 0);
        let result = if interleave {
            loop {
                if let std::task::Poll::Ready(result) = futures::poll!(&mut future) {
                    break result;
                }
                if alive && appends < 12 && self.rng.u8(..3) == 0 {
                    alive = self.append(journal, true).await?;
                    appends += 1;
                } else {
                    tokio::task::yield_now().await;
                    std::thread::sleep(std::time::Duration::from_micros(50));
                }
            }
        } else {
            future.await
        };
        self.archivings += 1;
        match result {
            Ok(archived) => {
                self.trace.push(format!(
                    "  -> {:?} copied {} stays {:?}",
                    archived
                        .archives
                        .iter()
                        .map(|c| (c.first, c.last.position, c.carry.copies, c.carry.from))
                        .collect::<Vec<_>>(),
                    archived.copied,
                    archived.stays.map(|s| s.first)
                ));
                if let Some(last) = archived.archives.last() {
                    self.model.archived_through = last.last.position
                }
                Ok(alive)
            }
            Err(JournalError::Stopped { .. } | JournalError::Io { .. }) if self.features.kills => Ok(false),
            Err(JournalError::Reopened { .. }) if self.features.reopen_holding => {
                self.trace.push("  -> reopened".into());
                Ok(alive)
            }
            Err(other) => Err(format!("archive: {other:?}")),
        }
    }

    async fn check(&mut self, journal: &Journal) -> Result<(), String> {
        // An archiving that was killed may have archived.
        let entries = journal.entries(1, 1 << 20).await.map_err(|e| format!("entries: {e:?}"))?;
        let through = entries
            .iter()
            .filter_map(|entry| super::super::archive::Checkpoint::of(&entry.record))
            .map(|c| c.last.position)
            .max();
        self.model.archived_through = self.model.archived_through.max(through.unwrap_or(0));
        if let Some((number, after)) = self.model.pending.take() {
            let live = journal.live(stream(number)).await.map_err(|e| format!("live {number}: {e:?}"))?;
            let stored = live.last().is_some_and(|last| last.seq == after.texts.len() as u64);
            self.trace.push(format!("pending append to {number}: stored {stored}"));
            if stored {
                let mut after = after;
                after.last = live.last().expect("some").position;
                if after.first == 0 {
                    after.first = live[0].position
                }
                self.model.runs.insert(number, after);
            }
        }
        let needed: Vec<u128> = self
            .model
            .runs
            .values()
            .filter(|run| run.state == StreamState::Open)
            .filter_map(|run| run.needs)
            .collect();
        for (number, run) in &self.model.runs {
            let live =
                texts(&journal.live(stream(*number)).await.map_err(|e| format!("live {number}: {e:?}"))?);
            let whole = run.state == StreamState::Open || needed.contains(number);
            let mut want = run.texts.clone();
            if !whole {
                let last = run.texts.len();
                want = want
                    .into_iter()
                    .enumerate()
                    .filter(|(at, text)| {
                        run.state == StreamState::Holding && (text.starts_with("keep") || at + 1 == last)
                    })
                    .map(|(_, t)| t)
                    .collect();
            }
            if let Some(missing) = want.iter().find(|text| !live.contains(text)) {
                return Err(format!(
                    "stream {number} {:?} last {}: live lacks {:.60}",
                    run.state, run.last, missing
                ));
            }
            if !self.model.lost_archives {
                let all = texts(
                    &journal.stream(stream(*number)).await.map_err(|e| format!("stream {number}: {e:?}"))?,
                );
                let known = relaxed()
                    && run.state == StreamState::Finished
                    && run.texts.starts_with(&all)
                    && live == all;
                if all != run.texts && !known {
                    return Err(format!("stream {number}: {} records of {}", all.len(), run.texts.len()));
                }
            }
            if run.state == StreamState::Finished && run.last <= self.model.archived_through {
                for seq in [0, run.texts.len() as u64] {
                    match journal.append(stream(*number), seq, vec![record("again")], StreamState::Open).await
                    {
                        Err(AppendError::Archived { .. }) => {}
                        other => return Err(format!("archived {number} appended again at {seq}: {other:?}")),
                    }
                }
            }
        }
        Ok(())
    }

    async fn go(&mut self, lives: usize) -> Result<(), String> {
        let synced = tempfile::tempdir_in("/dev/shm").expect("dir");
        let mut sled_lost = true;
        for life in 0..lives {
            let dir = self.dir.path().to_owned();
            let roll_back = self.features.roll_back && self.rng.bool();
            let faults = Arc::new(Kill {
                left: AtomicU64::new(u64::MAX),
                sled: dir.join("sled"),
                synced: roll_back.then(|| synced.path().join("sled")),
            });
            if self.features.kills && self.rng.u8(..4) == 0 {
                faults.left.store(self.rng.u64(0..25), Ordering::SeqCst);
            }
            let opened = Journal::open_thread(
                &dir,
                Options { faults: Some(faults.clone()), ..options(self.segment_bytes) },
            );
            let (journal, opened) = match opened {
                Ok(opened) => opened,
                Err(_) if faults.left.load(Ordering::SeqCst) == 0 => {
                    self.trace.push("open killed".into());
                    self.kills += 1;
                    continue;
                }
                Err(error) => return Err(format!("open: {error:?}")),
            };
            self.opens += 1;
            self.trace.push(format!("opened at {} records {}", opened.head.position, opened.records));
            faults.left.store(u64::MAX, Ordering::SeqCst);
            let rebuilt: Vec<_> = opened
                .repairs
                .iter()
                .filter(|repair| matches!(repair, Repair::IndexRebuilt { .. }))
                .collect();
            let known = |repair: &&Repair| {
                relaxed()
                    && matches!(repair, Repair::IndexRebuilt { why, .. } if why.contains("lacks the copied"))
            };
            if !sled_lost && !rebuilt.iter().all(known) {
                return Err(format!("rebuilt without a loss: {rebuilt:?}"));
            }
            if opened.repairs.len() > rebuilt.len() {
                return Err(format!("repairs {:?}", opened.repairs));
            }
            sled_lost = false;
            self.check(&journal).await?;
            let mut open: Vec<_> =
                opened.streams.iter().map(|(id, entries)| (id.as_u128(), texts(entries))).collect();
            open.sort();
            let want: Vec<_> = self
                .model
                .runs
                .iter()
                .filter(|(_, run)| run.state == StreamState::Open)
                .map(|(n, run)| (*n, run.texts.clone()))
                .collect();
            if open != want {
                return Err(format!(
                    "open streams {:?}, expected {:?}",
                    open.iter().map(|(n, t)| (*n, t.len())).collect::<Vec<_>>(),
                    want.iter().map(|(n, t)| (*n, t.len())).collect::<Vec<_>>()
                ));
            }
            let mut alive = true;
            let ops = self.rng.usize(..25);
            for _ in 0..ops {
                if self.features.kills && self.rng.u8(..20) == 0 {
                    let n = self.rng.u64(0..30);
                    self.trace.push(format!("kill in {n}"));
                    faults.left.store(n, Ordering::SeqCst);
                }
                alive = if self.rng.u8(..6) == 0 {
                    self.archive(&journal).await?
                } else {
                    self.append(&journal, false).await?
                };
                if !alive {
                    self.kills += 1;
                    break;
                }
            }
            if alive && faults.left.load(Ordering::SeqCst) > 1 << 40 && self.rng.bool() {
                self.check(&journal).await?;
            }
            drop(journal);
            self.trace.push(format!("closed life {life}"));
            if roll_back && self.rng.bool() && synced.path().join("sled").exists() {
                self.trace.push("index back at its last sync".into());
                fs::remove_dir_all(dir.join("sled")).expect("removed");
                copy(&synced.path().join("sled"), &dir.join("sled"));
            }
            if self.features.lose_sled && self.rng.u8(..5) == 0 {
                self.trace.push("lose sled".into());
                let _ = fs::remove_dir_all(dir.join("sled"));
                sled_lost = true;
            }
            if self.features.lose_archives && self.rng.u8(..6) == 0 {
                self.trace.push("lose archives".into());
                archives(&dir, "seg").iter().for_each(|path| fs::remove_file(path).expect("removed"));
                self.model.lost_archives = true;
            }
            if self.rng.u8(..3) == 0 {
                let snapshot = Snapshot::open(&dir).map_err(|e| format!("snapshot: {e:?}"))?;
                let found = snapshot.verify(None);
                if !matches!(found.verdict, Verdict::Intact | Verdict::NeedsArchive) {
                    return Err(format!("verify: {found:?} {:?}", snapshot.refusal()));
                }
            }
        }
        Ok(())
    }
}

/// Whether the known defects (1: an index is rebuilt because of stale copies; 2: a read ends early) are passed over.
fn relaxed() -> bool {
    std::env::var("RELAXED").is_ok()
}

async fn simulate(name: &str, seeds: std::ops::Range<u64>, features: Features) {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse::<u64>().expect("a seed"));
    let (mut failed, mut opens, mut archivings, mut kills, mut ran) = (vec![], 0, 0, 0, 0);
    for seed in seeds.filter(|seed| only.is_none_or(|only| only == *seed)) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let segment_bytes = rng.u64(700..3000);
        let mut sim = Sim {
            rng,
            model: Model::default(),
            dir: directory(),
            segment_bytes,
            features,
            trace: vec![],
            opens: 0,
            archivings: 0,
            kills: 0,
        };
        let result = sim.go(8).await;
        ran += 1;
        opens += sim.opens;
        archivings += sim.archivings;
        kills += sim.kills;
        if let Err(error) = result {
            println!("{name} seed {seed}: {:.300}", error);
            if only.is_some() {
                sim.trace.iter().for_each(|line| println!("  {line:.200}"));
            }
            failed.push(seed);
        }
    }
    println!(
        "{name}: {ran} seeds, {opens} opens, {archivings} archivings, {kills} kills, {} failed",
        failed.len()
    );
    assert!(failed.is_empty(), "{name}: failed seeds {failed:?}");
}

fn seeds() -> std::ops::Range<u64> {
    let count =
        std::env::var("SEEDS").ok().map_or(16 / every(16) as u64, |count| count.parse().expect("a number"));
    0..count
}

const PLAIN: Features = Features {
    interleave: false,
    reopen_holding: false,
    kills: false,
    lose_sled: false,
    lose_archives: false,
    roll_back: false,
    large: false,
};

#[tokio::test]
async fn random_plain() {
    simulate("plain", seeds(), PLAIN).await
}

#[tokio::test]
async fn random_losses() {
    simulate("losses", seeds(), Features { lose_sled: true, lose_archives: true, ..PLAIN }).await
}

#[tokio::test]
async fn random_kills() {
    simulate("kills", seeds(), Features { kills: true, ..PLAIN }).await
}

#[tokio::test]
async fn random_power() {
    simulate("power", seeds(), Features { kills: true, roll_back: true, ..PLAIN }).await
}

#[tokio::test]
async fn random_kills_and_losses() {
    simulate(
        "kills and losses",
        seeds(),
        Features { kills: true, lose_sled: true, lose_archives: true, large: true, ..PLAIN },
    )
    .await
}

#[tokio::test]
async fn random_interleaved() {
    simulate("interleaved", seeds(), Features { interleave: true, ..PLAIN }).await
}

#[tokio::test]
async fn random_interleaved_kills_and_losses() {
    simulate(
        "interleaved kills and losses",
        seeds(),
        Features {
            interleave: true,
            kills: true,
            lose_sled: true,
            lose_archives: true,
            roll_back: true,
            ..PLAIN
        },
    )
    .await
}
