//! Tests bytes that no journal wrote: no panic, and no changed bytes are accepted as a record.

use std::fs;
use std::path::{Path, PathBuf};

use stillpoint::journal::{Entry, Head, Journal, Snapshot, envelope};
use tempfile::TempDir;

use crate::alone::{alone, rounds};
use crate::common::{append_all, entries, options};

fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..bytes.len().max(1));
        match random.u8(..4) {
            0 => bytes.truncate(at),
            1 => bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(at.min(600))),
            2 => bytes.iter_mut().skip(at).take(512).for_each(|byte| *byte = 0),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.u8(..8)),
        }
    }
}

#[test]
fn only_encoded_bytes_decode_to_an_envelope() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), options()).expect("opened");
    append_all(&journal, 0..3, 300);
    drop(journal);
    let sealed: Vec<_> =
        Snapshot::open(dir.path()).expect("readable").raw().flatten().map(|(_, b)| b).collect();
    let mut random = fastrand::Rng::with_seed(6);
    for round in 0..4000 {
        let mut bytes = sealed[round % sealed.len()].clone();
        mutate(&mut bytes, &mut random);
        let opened = envelope::open(&bytes);
        assert!(opened.is_err() || sealed.contains(&bytes), "round {round}");
    }
}

/// The files to mutate: sled's files and the segments.
fn targets(dir: &Path) -> Vec<PathBuf> {
    let mut paths = vec![dir.join("sled/db"), dir.join("sled/conf")];
    let segments = fs::read_dir(dir.join("log")).expect("there");
    paths.extend(segments.map(|entry| entry.expect("readable").path()));
    paths.sort();
    paths
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

/// Number of mutated directories, unless `STILLPOINT_MUTATIONS` sets another one.
const DIRECTORIES: u64 = 120;

/// Memory that bad files may cost the process, in bytes. sled takes up to its cache and some segments for
/// any file. A trusted length would cost up to 4 GiB.
const GROWTH: u64 = 512 << 20;

#[test]
fn mutated_files_are_rebuilt_or_refused() {
    let count = rounds("STILLPOINT_MUTATIONS", DIRECTORIES);
    let name = "bad_bytes::mutated_files_are_rebuilt_or_refused";
    let (said, grew) = alone(name, || mutated(count));
    let said = said.lines().find_map(|line| line.strip_prefix("mutated: ")).unwrap_or_default();
    println!("{count} directories: {said}; the largest resident set grew by {} MiB", grew >> 20);
    assert!(grew < GROWTH, "{grew} bytes");
}

/// In memory if possible: the test checks bytes, not the disk.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

fn mutated(count: u64) {
    let whole = directory();
    let (journal, _) = Journal::open_thread(whole.path(), options()).expect("opened");
    for round in 0..10 {
        append_all(&journal, round * 10..round * 10 + 3, 400);
    }
    let heads: Vec<Head> = entries(&journal).iter().map(Entry::head).collect();
    drop(journal);
    let seed = rounds("STILLPOINT_MUTATION_SEED", 7);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut opened, mut refused, mut of_index) = (0, 0, 0);
    for round in 0..count {
        let dir = directory();
        copy(whole.path(), dir.path());
        let targets = targets(dir.path());
        let both = round % 4 == 3;
        let mut in_log = false;
        for _ in 0..if both { 2 } else { 1 } {
            let path = &targets[random.usize(..targets.len())];
            in_log |= path.extension().is_some_and(|extension| extension == "seg");
            let mut bytes = fs::read(path).expect("readable");
            mutate(&mut bytes, &mut random);
            fs::write(path, bytes).expect("written");
        }
        match Journal::open_thread(dir.path(), options()) {
            Ok((journal, _)) => {
                opened += 1;
                // The journal's own repair records do not belong to the old history.
                let old = |entry: &&Entry| stillpoint::records::text(&entry.record).is_none();
                let found: Vec<_> = entries(&journal).iter().filter(old).map(Entry::head).collect();
                assert!(heads.starts_with(&found), "seed {seed}, round {round}: another history");
                assert!(
                    both || found.len() == heads.len(),
                    "seed {seed}, round {round}: {} records",
                    found.len()
                );
            }
            Err(error) => {
                refused += 1;
                assert!(in_log, "seed {seed}, round {round}: {error:?}");
            }
        }
        of_index += u64::from(!in_log);
    }
    println!("mutated: {opened} opened, {refused} refused");
    assert!(opened >= of_index && of_index > 0 && refused > 0, "a damaged index is rebuilt");
}
