//! Simulates a page cache that has more than the disk.
//!
//! A daemon writes a frame and dies before its sync. The next start reads the frame from the page cache, and
//! its runs go on from it. Then the power fails. The frame must be on disk: a start makes durable what it read.
//!
//! The kernel believes the pages that the first daemon wrote to be clean, as after a failed sync. So a sync of
//! the second daemon reaches only the sectors that this daemon wrote.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use stillpoint::journal::{Answer, Call, FaultInjection, Head, Journal, Options, StreamState};

use crate::common::{self, append_all, block_on, entries, missing, record, stream};
use crate::power_cut::{Files, SECTOR, cut, directory, files, laid_out};

/// Fails every sync of the log from the n-th on, without a loss of power.
struct Dying(Mutex<u64>);

impl FaultInjection for Dying {
    fn before(&self, call: Call) -> io::Result<Answer> {
        let mut left = self.0.lock().expect("not poisoned");
        if call == Call::LogSync {
            if *left == 0 {
                return Err(io::Error::other("the process is gone"));
            }
            *left -= 1;
        }
        Ok(Answer::Go)
    }

    fn after(&self, _: Call) {}
}

/// Tracks which sectors of the log are on disk.
struct Cache {
    dir: PathBuf,
    /// Whether the start writes the end of the log again.
    settles: bool,
    durable: Mutex<Files>,
    /// The files as the start found them. Their pages are clean.
    found: Files,
}

impl FaultInjection for Cache {
    fn before(&self, call: Call) -> io::Result<Answer> {
        if call == Call::LogSettle {
            for path in segments(&self.dir) {
                File::options().write(true).open(path)?.set_modified(SystemTime::UNIX_EPOCH)?;
            }
        }
        Ok(if call == Call::LogSettle && !self.settles { Answer::Skip } else { Answer::Go })
    }

    fn after(&self, call: Call) {
        let mut durable = self.durable.lock().expect("not poisoned");
        for (path, now) in files(&self.dir) {
            let is_log = path.extension().is_some_and(|extension| extension == "seg");
            match call {
                // A sync of pages that were not written again reaches nothing.
                Call::LogSettle if is_log && is_modified(&self.dir.join(&path)) => {
                    durable.insert(path, now);
                }
                Call::LogCreate | Call::LogSync if is_log => {
                    let image = written(self.found.get(&path), durable.get(&path), &now);
                    durable.insert(path, image);
                }
                Call::OwnerWrite if path.ends_with("owner.json") => drop(durable.insert(path, now)),
                _ => {}
            }
        }
    }
}

fn segments(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "seg");
    files(dir).into_keys().filter(is_log).map(|path| dir.join(path))
}

fn is_modified(path: &Path) -> bool {
    let modified = File::open(path).and_then(|file| file.metadata()?.modified());
    modified.expect("readable") != SystemTime::UNIX_EPOCH
}

/// The image of a file after a sync: the sectors that differ from those found, and the older image elsewhere.
fn written(found: Option<&Vec<u8>>, durable: Option<&Vec<u8>>, now: &[u8]) -> Vec<u8> {
    let mut image = durable.cloned().unwrap_or_default();
    image.resize(now.len(), 0);
    for (index, sector) in now.chunks(SECTOR).enumerate() {
        let at = index * SECTOR..index * SECTOR + sector.len();
        if found.and_then(|found| found.get(at.clone())) != Some(sector) {
            image[at].copy_from_slice(sector);
        }
    }
    image
}

/// Options with one segment: its syncs are those of the appends.
fn options() -> Options {
    Options { segment_bytes: 1 << 20, ..common::options() }
}

/// Number of records that a start read and that are lost after the loss of power.
fn lost(seed: u64, settles: bool) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = directory();
    let syncs = 1 + random.u64(..12);
    let dying = Options { faults: Some(Arc::new(Dying(Mutex::new(syncs)))), ..options() };
    let (journal, _) = Journal::open_thread(dir.path(), dying).expect("opened");
    let mut acknowledged: Vec<Head> = Vec::new();
    for seq in 0.. {
        let records = vec![record(random.usize(1..1500))];
        match block_on(journal.append(stream(1), seq, records, StreamState::Open)) {
            Ok(appended) => acknowledged.push(appended.last),
            Err(_) => break,
        }
    }
    drop(journal);

    // All but the last, unacknowledged frame is on disk.
    let found = files(dir.path());
    let mut durable = found.clone();
    let last = durable.keys().rfind(|path| path.extension().is_some_and(|extension| extension == "seg"));
    let last = durable.get_mut(&last.cloned().expect("a segment")).expect("there");
    let frame = last.windows(4).rposition(|four| four == b"SPfr").expect("a frame");
    last[frame..].fill(0);
    let cache = Cache { dir: dir.path().to_owned(), settles, durable: Mutex::new(durable), found };
    let cache = Arc::new(cache);
    let (journal, _) = Journal::open_thread(dir.path(), Options { faults: Some(cache.clone()), ..options() })
        .expect("opened");
    let read: Vec<Head> = entries(&journal).iter().map(|entry| entry.head()).collect();
    assert_eq!(read.len(), acknowledged.len() + 1, "seed {seed}: the start read the frame from the cache");
    let appended = append_all(&journal, 100..100 + random.u128(..3), 200);

    let left = cut(&cache.durable.lock().expect("not poisoned"), &files(dir.path()), &mut random);
    drop(journal);
    let disk = laid_out(&left);
    match Journal::open_thread(disk.path(), options()) {
        Err(_) => read.len() + appended.len(),
        Ok(opened) => {
            drop(opened);
            missing(disk.path(), &[read, appended].concat(), &format!("seed {seed}"))
        }
    }
}

#[test]
fn start_makes_durable_what_it_read() {
    for seed in 0..20 {
        assert_eq!(lost(seed, true), 0, "seed {seed}");
    }
}

#[test]
fn start_that_writes_nothing_again_loses_records() {
    assert!((0..20).any(|seed| lost(seed, false) > 0), "the cache of this test is the disk");
}
