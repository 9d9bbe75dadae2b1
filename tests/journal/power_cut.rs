//! Simulates a loss of power at any call that reaches the disk.
//!
//! Each file of the disk is its image at its last completed sync, plus any subset of the sectors of 512
//! bytes that differ now. The kernel may have written back some of them, in any order, and may know the old
//! length or the new one. From each such disk the journal must open with every acknowledged record. The next
//! cycle continues with the same disk. So power losses during an open and during a repair are included.
//!
//! Not modelled: torn sectors, and undone renames (each rename is followed by a sync of its directory
//! before any code relies on it).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use stillpoint::domain::ids::StreamId;
use stillpoint::journal::archive::Policy;
use stillpoint::journal::{
    Answer, Barrier, Call, FaultInjection, Head, Journal, Opened, Options, Repair, StreamState,
};
use tempfile::TempDir;

use crate::alone::rounds;
use crate::common::{append_all, block_on, missing, options, record, stream};

pub const SECTOR: usize = 512;

/// Number of cycles, unless `STILLPOINT_CYCLES` sets another one.
const CYCLES: u64 = 100;

pub type Files = BTreeMap<PathBuf, Vec<u8>>;

pub fn files(dir: &Path) -> Files {
    let (mut found, mut left) = (Files::new(), vec![dir.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                found.insert(path.strip_prefix(dir).expect("below").to_owned(), bytes);
            }
        }
    }
    found
}

/// Loses power at the n-th call.
struct Power {
    dir: PathBuf,
    barriers: bool,
    state: Mutex<State>,
}

struct State {
    calls_left: u64,
    random: fastrand::Rng,
    durable: Files,
    /// The files after the power loss.
    left: Option<Files>,
}

impl Power {
    /// Counts one call towards the power loss. Returns an error after it.
    fn tick(&self, state: &mut State) -> io::Result<()> {
        if state.left.is_none() && state.calls_left == 0 {
            let now = files(&self.dir);
            let durable = std::mem::take(&mut state.durable);
            state.left = Some(cut(&durable, &now, &mut state.random));
        }
        state.calls_left = state.calls_left.saturating_sub(1);
        if state.left.is_some() { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }
}

impl FaultInjection for Power {
    fn before(&self, call: Call) -> io::Result<Answer> {
        self.tick(&mut self.state.lock().expect("not poisoned"))?;
        let left_out = !self.barriers && matches!(call, Call::LogSync | Call::SledSync);
        Ok(if left_out { Answer::Skip } else { Answer::Go })
    }

    fn after(&self, call: Call) {
        let mut state = self.state.lock().expect("not poisoned");
        let synced: fn(&Path) -> bool = match call {
            Call::LogCreate | Call::LogSync | Call::LogSettle => {
                |path| path.extension().is_some_and(|e| e == "seg")
            }
            Call::SledOpen => |path| path.ends_with("sled/db") || path.ends_with("sled/conf"),
            Call::SledSync => |path| path.ends_with("sled/db"),
            Call::OwnerWrite => |path| path.ends_with("owner.json"),
            Call::ArchiveWrite => |path| path.starts_with("archive"),
            Call::LogWrite
            | Call::SledWrite
            | Call::SledFlush
            | Call::BallastWrite
            | Call::RoomLook
            | Call::LogRelease
            | Call::LogReplace
            | Call::ArchiveClear => |_| false,
        };
        // The creation of a new segment makes it durable. The syncs of older segments are separate calls.
        let known = state.durable.clone();
        for (path, bytes) in files(&self.dir) {
            if synced(&path) && !(call == Call::LogCreate && known.contains_key(&path)) {
                state.durable.insert(path, bytes);
            }
        }
        // The power loss may come right after the call as well as before the next one.
        let _ = self.tick(&mut state);
    }
}

/// The files after a power loss: of each file the durable image and some of the later writes.
pub fn cut(durable: &Files, now: &Files, random: &mut fastrand::Rng) -> Files {
    let mut left = Files::new();
    for (path, now) in now {
        let image = durable.get(path).cloned();
        if image.is_none() && random.u8(..4) == 0 {
            continue;
        }
        let mut disk = image.unwrap_or_default();
        if disk.len() < now.len() && random.bool() {
            disk.resize(now.len(), 0);
        }
        let share = random.f64();
        for (index, sector) in now.chunks(SECTOR).enumerate() {
            let start = index * SECTOR;
            if disk.get(start..start + sector.len()) != Some(sector) && random.f64() < share {
                disk.resize(disk.len().max(start + sector.len()), 0);
                disk[start..start + sector.len()].copy_from_slice(sector);
            }
        }
        left.insert(path.clone(), disk);
    }
    left
}

/// In memory if possible: the test defines the effect of a barrier, not the disk.
pub fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

pub fn laid_out(left: &Files) -> TempDir {
    let dir = directory();
    for (path, bytes) in left {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("below")).expect("created");
        fs::write(path, bytes).expect("written");
    }
    dir
}

#[derive(Default)]
struct Tally {
    acknowledged: usize,
    /// Number of these records that belong to runs that never end.
    stuck: u64,
    archives: usize,
    lost: usize,
    repairs: BTreeMap<&'static str, u64>,
    refused: u64,
}

fn word(repair: &Repair) -> &'static str {
    match repair {
        Repair::LogBegun { .. } => "log begun",
        Repair::LogRebuilt(_) => "log rebuilt",
        Repair::TailTruncated { .. } => "tail truncated",
        Repair::IndexRebuilt { .. } => "index rebuilt",
        Repair::BallastSpent { .. } => "ballast spent",
        Repair::ArchiveIndexRebuilt { .. } => "archive index rebuilt",
    }
}

/// The run that never ends. It gets a record now and then, and is archived with all runs that end beside
/// it.
fn stuck() -> StreamId {
    stream(u128::MAX)
}

/// Number of records with which the run is resumed.
fn resumed(opened: &Opened) -> u64 {
    let found = opened.streams.iter().find(|(id, _)| *id == stuck().0);
    found.map_or(0, |(_, entries)| entries.len() as u64)
}

/// The acknowledged records.
#[derive(Default)]
struct Acknowledged {
    heads: Vec<Head>,
    /// Number of records of the run that never ends.
    stuck: u64,
}

impl Acknowledged {
    /// Number of acknowledged records that are missing in the journal in `dir`. Also checks its chain and
    /// the resumed run.
    fn missing(&self, dir: &Path, told: &str) -> usize {
        let missing = missing(dir, &self.heads, told);
        let (_, opened) =
            Journal::open_thread(dir, options()).unwrap_or_else(|error| panic!("{told}: {error:?}"));
        missing + usize::from(resumed(&opened) < self.stuck)
    }
}

/// Archives all records. Returns whether no power loss came.
fn archived(journal: &Journal, tally: &mut Tally) -> bool {
    let archived = block_on(journal.archive(Policy { copied_percent: 1000, ..Policy::everything() }, 0));
    tally.archives += archived.as_ref().map_or(0, |archived| archived.archives.len());
    archived.is_ok()
}

/// One incarnation of the journal on `disk`, up to the power loss. Returns the remaining files and adds the
/// acknowledged records.
fn life(
    disk: &TempDir,
    seed: u64,
    barriers: bool,
    acknowledged: &mut Acknowledged,
    tally: &mut Tally,
) -> Files {
    let mut random = fastrand::Rng::with_seed(seed);
    let state = State {
        calls_left: random.u64(..120),
        durable: files(disk.path()),
        left: None,
        random: random.fork(),
    };
    let power = Arc::new(Power { dir: disk.path().to_owned(), barriers, state: Mutex::new(state) });
    let options = Options { faults: Some(power.clone()), ..options() };
    if let Ok((journal, opened)) = Journal::open_thread(disk.path(), options) {
        opened.repairs.iter().for_each(|repair| *tally.repairs.entry(word(repair)).or_default() += 1);
        let mut seq = resumed(&opened);
        for round in 0..40 {
            if random.u8(..4) == 0 {
                let append = journal.append(stuck(), seq, vec![record(200)], StreamState::Open);
                match block_on(append) {
                    Ok(appended) => acknowledged.heads.push(appended.last),
                    Err(_) => break,
                }
                seq += 1;
                acknowledged.stuck = seq;
            }
            let first = u128::from(seed) << 64 | round << 32;
            let (count, bytes) = (random.u128(1..6), random.usize(..900));
            let appended = append_all(&journal, first..first + count, bytes);
            let complete = appended.len() as u128 == count;
            acknowledged.heads.extend(appended);
            if !complete || (random.u8(..4) == 0 && !archived(&journal, tally)) {
                break;
            }
        }
    }
    let mut state = power.state.lock().expect("not poisoned");
    state.calls_left = 0;
    let _ = power.tick(&mut state);
    state.left.take().expect("the power is gone")
}

/// Some incarnations of one journal, each ended by a power loss.
fn lives(seed: u64, count: u64, barriers: bool, tally: &mut Tally) {
    let (mut disk, mut acknowledged) = (directory(), Acknowledged::default());
    for cycle in 0..count {
        let seed = seed * 1000 + cycle;
        let left = life(&disk, seed, barriers, &mut acknowledged, tally);
        disk = laid_out(&left);
        if !barriers {
            match Journal::open_thread(disk.path(), options()) {
                Err(_) => {
                    tally.refused += 1;
                    tally.lost += acknowledged.heads.len();
                }
                Ok(opened) => {
                    drop(opened);
                    tally.lost += acknowledged.missing(disk.path(), "without barriers");
                }
            }
        } else if cycle % 2 == 1 || cycle + 1 == count {
            // In every other cycle the disk loses power again before an undisturbed open.
            tally.lost += acknowledged.missing(disk.path(), &format!("seed {seed}"));
        }
    }
    tally.acknowledged += acknowledged.heads.len();
    tally.stuck += acknowledged.stuck;
}

#[test]
fn power_loss_loses_no_acknowledged_record() {
    let cycles = rounds("STILLPOINT_CYCLES", CYCLES);
    let mut tally = Tally::default();
    for seed in 0..cycles / 10 {
        lives(seed, 10, true, &mut tally);
        assert_eq!(tally.lost, 0, "seed {seed}");
    }
    let Tally { acknowledged, stuck, archives, repairs, .. } = &tally;
    println!(
        "{cycles} cuts, {acknowledged} acknowledged, {stuck} of them of runs that never end, {archives} archives, none lost, none refused; repairs {repairs:?}"
    );
    assert!(*acknowledged > 0 && !repairs.is_empty(), "no cut fell between two barriers");
    assert!(*archives > 0, "nothing was archived");
}

/// Two incarnations of a journal with every kind of call. The power fails at call `n` of the second one. Returns
/// the remaining files, and whether the power failed before the end.
fn scripted(seed: u64, n: u64, acknowledged: &mut Acknowledged) -> (Files, bool) {
    let (disk, mut random, mut finished) = (directory(), fastrand::Rng::with_seed(seed), vec![]);
    let mut append = |journal: &Journal, barrier| {
        let records = vec![record(random.usize(1..700))];
        let appended =
            block_on(journal.append_with(barrier, stuck(), acknowledged.stuck, records, StreamState::Open));
        acknowledged.stuck += u64::from(appended.is_ok());
        acknowledged.heads.extend(appended.ok().map(|appended| appended.last));
    };
    let (journal, _) = Journal::open_thread(disk.path(), options()).expect("opened");
    append(&journal, Barrier::Log);
    drop(journal);
    let state = State {
        calls_left: n,
        durable: files(disk.path()),
        left: None,
        random: fastrand::Rng::with_seed(seed),
    };
    let power = Arc::new(Power { dir: disk.path().to_owned(), barriers: true, state: Mutex::new(state) });
    let faulty = Options { faults: Some(power.clone()), segment_bytes: 1500, ..options() };
    if let Ok((journal, _)) = Journal::open_thread(disk.path(), faulty) {
        for round in 0..4 {
            append(&journal, if round % 2 == 0 { Barrier::Log } else { Barrier::LogAndIndex });
            finished.extend(append_all(&journal, round * 10 + 1..round * 10 + 3, 300));
        }
        let _ = block_on(journal.archive(Policy { copied_percent: 1000, ..Policy::everything() }, 0));
        append(&journal, Barrier::Log);
    }
    acknowledged.heads.extend(finished);
    let mut state = power.state.lock().expect("not poisoned");
    let failed = state.left.is_some();
    state.calls_left = 0;
    let _ = power.tick(&mut state);
    (state.left.take().expect("the power is gone"), failed)
}

/// Every fifth call. `STILLPOINT_CALL_STRIDE=1` tests every call.
const CALL_STRIDE: u64 = 5;

#[test]
fn power_loss_at_each_kind_of_call_loses_nothing() {
    let (mut calls, stride) = (0, rounds("STILLPOINT_CALL_STRIDE", CALL_STRIDE));
    for n in (0..).map(|n| n * stride) {
        let mut acknowledged = Acknowledged::default();
        let (left, failed) = scripted(n, n, &mut acknowledged);
        let disk = laid_out(&left);
        assert_eq!(acknowledged.missing(disk.path(), &format!("seed {n}, call {n}")), 0);
        if !failed {
            break;
        }
        calls = n;
    }
    println!("{calls} calls, none lost, none refused");
    assert!(calls > 60, "only {calls} calls");
}

#[test]
fn journal_without_barriers_loses_records() {
    let mut tally = Tally::default();
    for seed in 0..12 {
        lives(seed, 1, false, &mut tally);
    }
    println!("12 cuts, {} acknowledged, {} lost, {} refused", tally.acknowledged, tally.lost, tally.refused);
    assert!(tally.lost > 0, "the disk of this test forgets nothing");
}
