//! Checks that `verify` and the start of a daemon give the same result for the same damaged files.
//!
//! Each case damages a copy of a journal, runs `verify`, and then starts the journal itself. Every random
//! choice comes from a seed that is printed. `STILLPOINT_DAMAGE_SEED` sets it.
//!
//! There is one exception: `verify` reports a damaged archive, and a start may not. A start reads archives
//! only if it needs them.

use std::collections::BTreeMap;
use std::fs;
use std::mem::discriminant;
use std::path::{Path, PathBuf};

use stillpoint::journal::archive::Policy;
use stillpoint::journal::{Entry, Head, Journal, Repair, Snapshot, StreamState, Verdict};
use tempfile::TempDir;

use crate::alone::rounds;
use crate::common::{append_all, block_on, entries, options, record, stream};

/// In memory if possible: the test checks bytes, not the disk.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// A journal of three starts with many segments and an unfinished run. Its first records are archived.
struct Whole {
    dir: TempDir,
    heads: Vec<Head>,
}

impl Whole {
    fn written() -> Whole {
        let dir = directory();
        let mut heads = Vec::new();
        for life in 0..3_u128 {
            let (journal, _) = Journal::open_thread(dir.path(), options()).expect("opened");
            let open = journal.append(stream(1000 + life), 0, vec![record(50)], StreamState::Open);
            block_on(open).expect("appended");
            for round in 0..4 {
                append_all(&journal, life * 100 + round * 10..life * 100 + round * 10 + 3, 300);
            }
            if life == 0 {
                block_on(journal.archive(Policy { records: 100, before_ns: i64::MIN }, 5)).expect("archived");
            }
            heads = entries(&journal).iter().map(Entry::head).collect();
        }
        Whole { dir, heads }
    }

    fn copied(&self) -> TempDir {
        let dir = directory();
        copy(self.dir.path(), dir.path());
        dir
    }

    /// Every file that a start reads, relative to the directory.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::from("owner.json")];
        for half in ["sled", "evidence", "archive"] {
            let names = fs::read_dir(self.dir.path().join(half))
                .expect("there")
                .map(|entry| entry.expect("readable"));
            let files = names.filter(|entry| entry.file_type().expect("known").is_file());
            found.extend(files.map(|entry| Path::new(half).join(entry.file_name())));
        }
        found.sort();
        found
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("there") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("named"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).expect("copied");
        }
    }
}

/// The common result of `verify` and the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Intact,
    Repaired,
    TornTail,
    NeedsArchive,
    CutTail,
    Corrupt,
}

/// Counts of the results, and of the problems in them.
#[derive(Default)]
struct Table {
    said: BTreeMap<Said, u64>,
    opened: u64,
    refused: u64,
    /// Starts that continue without an acknowledged record.
    short: u64,
    /// Corrupt verdicts because of an archive that the start did not need.
    archives: u64,
    disagreements: Vec<String>,
}

impl Table {
    /// Runs `verify`, then starts the journal, and compares the results.
    fn case(&mut self, dir: &Path, whole: &Whole, told: &str) {
        let verified = Snapshot::open(dir);
        let verdict = match &verified {
            Ok(snapshot) => snapshot.verify(None).verdict,
            Err(error) => error.verdict().unwrap_or_else(|| panic!("{told}: no verdict: {error:?}")),
        };
        let repairs = verified.as_ref().map_or(&[][..], Snapshot::repairs);
        *self.said.entry(said(verdict, repairs)).or_default() += 1;
        let difference = match (Journal::open_thread(dir, options()), &verified) {
            (Ok((journal, opened)), Ok(snapshot)) => {
                self.opened += 1;
                let found = heads(entries(&journal));
                self.short += u64::from(whole.heads.last().is_some_and(|last| !found.contains(last)));
                let same = kinds(&opened.repairs) == kinds(repairs) && shows(snapshot, &found);
                let archived = in_archive(snapshot);
                self.archives += u64::from(archived);
                (!(verdict.is_whole() || archived) || !same)
                    .then(|| format!("{:?}, and it opens: {:?}", verdict, opened.repairs))
            }
            (Ok(_), Err(error)) => Some(format!("{error:?}, and it opens")),
            (Err(error), verified) => {
                self.refused += 1;
                let said = verified.as_ref().map_or_else(Some, Snapshot::refusal);
                let same = said.is_some_and(|said| discriminant(said) == discriminant(&error));
                (verdict.is_whole() || !same)
                    .then(|| format!("{verdict:?} {said:?}, and it is refused: {error:?}"))
            }
        };
        self.disagreements.extend(difference.map(|difference| format!("{told}: {difference}")));
    }

    fn print(&self, what: &str) {
        let of = |said| self.said.get(&said).copied().unwrap_or(0);
        let cases: u64 = self.said.values().sum();
        println!(
            "| {what} | {cases} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            of(Said::Intact),
            of(Said::Repaired),
            of(Said::TornTail),
            of(Said::NeedsArchive),
            of(Said::CutTail),
            of(Said::Corrupt),
            self.archives,
            self.opened,
            self.refused,
            self.short,
            self.disagreements.len(),
        );
    }
}

fn said(verdict: Verdict, repairs: &[Repair]) -> Said {
    match verdict {
        Verdict::Intact if repairs.is_empty() => Said::Intact,
        Verdict::Intact => Said::Repaired,
        Verdict::TornTail => Said::TornTail,
        Verdict::NeedsArchive => Said::NeedsArchive,
        Verdict::CutTail => Said::CutTail,
        Verdict::Corrupt => Said::Corrupt,
        Verdict::NewerSchema | Verdict::Locked => {
            panic!("{verdict:?} of a journal of ours that nobody holds")
        }
    }
}

fn kinds(repairs: &[Repair]) -> Vec<std::mem::Discriminant<Repair>> {
    repairs.iter().map(discriminant).collect()
}

/// The journal's own repair records do not belong to the old history.
fn heads(entries: Vec<Entry>) -> Vec<Head> {
    entries
        .iter()
        .filter(|entry| stillpoint::records::text(&entry.record).is_none())
        .map(Entry::head)
        .collect()
}

/// Whether the first damage is in an archive, and the start accepts the journal.
fn in_archive(snapshot: &Snapshot) -> bool {
    let problem = snapshot.verify(None).problem;
    snapshot.refusal().is_none()
        && problem.is_some_and(|problem| problem.position <= snapshot.meta().cut.position + 1)
}

/// Whether a reader gets the records from which the start continues. The reader gets archives as well.
fn shows(snapshot: &Snapshot, started: &[Head]) -> bool {
    let shown: Vec<Entry> = snapshot.entries().flatten().collect();
    heads(shown).ends_with(started)
}

fn flip(path: &Path, random: &mut fastrand::Rng) {
    let mut bytes = fs::read(path).expect("readable");
    // The rest of sled's file was never written.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes[random.usize(..used)] ^= 1 << random.u8(..8);
    fs::write(path, bytes).expect("written");
}

/// Flips a bit in one half, or in each.
fn bytes(whole: &Whole, random: &mut fastrand::Rng, cases: u64, both: bool) -> Table {
    let mut table = Table::default();
    let segments: Vec<_> = whole.files().into_iter().filter(|file| file.starts_with("evidence")).collect();
    for case in 0..cases {
        let dir = whole.copied();
        if both || case % 2 == 0 {
            flip(&dir.path().join("sled/db"), random);
        }
        if both || case % 2 == 1 {
            flip(&dir.path().join(&segments[random.usize(..segments.len())]), random);
        }
        table.case(dir.path(), whole, &format!("byte, both {both}, case {case}"));
    }
    table
}

/// Removes or shortens each file, together with another file if `pairs` is set.
fn files(whole: &Whole, random: &mut fastrand::Rng, pairs: bool) -> Table {
    let (mut table, files) = (Table::default(), whole.files());
    for first in &files {
        for how in ["removed", "emptied", "halved", "less a byte"] {
            let dir = whole.copied();
            let second = pairs.then(|| &files[random.usize(..files.len())]).filter(|second| *second != first);
            for file in std::iter::once(first).chain(second) {
                shorten(&dir.path().join(file), how);
            }
            // Invalid JSON in `owner.json` says nothing about the records. Both report it as an error.
            if first.ends_with("owner.json") && how != "removed" {
                assert!(
                    Snapshot::open(dir.path()).is_err()
                        && Journal::open_thread(dir.path(), options()).is_err()
                );
                continue;
            }
            if second.is_some_and(|second| second.ends_with("owner.json")) && how != "removed" {
                continue;
            }
            table.case(dir.path(), whole, &format!("{first:?} and {second:?} {how}"));
        }
    }
    table
}

fn shorten(path: &Path, how: &str) {
    let bytes = fs::read(path).expect("readable");
    match how {
        "removed" => fs::remove_file(path).expect("removed"),
        "emptied" => fs::write(path, []).expect("written"),
        "halved" => fs::write(path, &bytes[..bytes.len() / 2]).expect("written"),
        _ => fs::write(path, &bytes[..bytes.len().saturating_sub(1)]).expect("written"),
    }
}

fn agree(cases: u64, pairs: bool) {
    let seed = rounds("STILLPOINT_DAMAGE_SEED", 11);
    println!("seed {seed}");
    println!(
        "| damage | cases | intact | intact, to repair | torn-tail | needs-archive | cut-tail | corrupt | of these an archive | start goes on | start refuses | goes on without the last record | disagreements |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let (whole, mut random) = (Whole::written(), fastrand::Rng::with_seed(seed));
    let mut tables = vec![
        ("one byte of one half", bytes(&whole, &mut random, cases, false)),
        ("one byte of each half", bytes(&whole, &mut random, cases, true)),
        ("one file missing or cut short", files(&whole, &mut random, false)),
    ];
    if pairs {
        tables.push(("two files missing or cut short", files(&whole, &mut random, true)));
    }
    tables.iter().for_each(|(what, table)| table.print(what));
    let wrong: Vec<&String> = tables.iter().flat_map(|(_, table)| &table.disagreements).collect();
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    // If the length field itself is damaged, a changed batch resembles an interrupted one.
    assert!(cases < 100 || tables[1].1.short * 20 <= cases, "seed {seed}: a changed batch is damage");
    assert_eq!(tables[0].1.short, 0, "seed {seed}: one half makes up for the other");
}

#[test]
fn verify_and_start_agree_on_damaged_files() {
    agree(10, false);
}

#[test]
#[ignore = "exhaustive; .ci/run runs it"]
fn verify_and_start_agree_on_all_damage() {
    agree(rounds("STILLPOINT_DAMAGED", 200), true);
}
