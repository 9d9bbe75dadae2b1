//! Tests a disk that is really full: a separate file system that a neighbour file fills except for some
//! bytes.
//!
//! Ignored by default, because it mounts: `cargo test --test journal full_disk -- --ignored --nocapture`.
//! It needs permission to mount (root, or `unshare -Urm cargo test ...`, which may mount a tmpfs but not a
//! loop device). It reports a missing permission. The call of the writer that meets the full disk depends
//! on the remaining room. So the test tries many sizes of the room. [`crate::bad_disk`] tests the effect of
//! the errors on the writer at each call.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use stillpoint::journal::{AppendError, Head, Journal, JournalError, Options, Repair, StreamState};
use stillpoint::records::journal_options;
use tempfile::TempDir;

use crate::common::{append_all, block_on, missing, options, record, stream};

const DISK: u64 = 128 << 20;
/// Step between the sizes of the remaining room in bytes, beginning with 0.
const STEP: u64 = 640 << 10;
const ROOMS: u64 = 24;

/// A mounted file system. The drop unmounts it.
struct Disk(TempDir);

impl Disk {
    fn tmpfs() -> Option<Disk> {
        Disk::mounted(&["-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs"])
    }

    /// An ext4 on a loop device. The directory `image` holds its bytes.
    fn ext4(image: &TempDir) -> Option<Disk> {
        let path = image.path().join("image");
        File::create(&path).and_then(|file| file.set_len(DISK)).expect("an image");
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&path).status();
        made.ok().filter(|status| status.success())?;
        Disk::mounted(&["-t", "ext4", "-o", "loop", &path.display().to_string()])
    }

    fn mounted(args: &[&str]) -> Option<Disk> {
        let dir = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount").args(args).arg(dir.path()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Disk(dir))
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    /// Fills the disk except for `room` bytes.
    fn fill(&self, room: u64) {
        let path = self.0.path().join("neighbour");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("a file");
        let chunk = [0x5a; 4096];
        while file.write_all(&chunk).and_then(|()| file.flush()).is_ok() {}
        // Pages that are written back later must have their blocks now.
        let _ = file.sync_all();
        let length = file.metadata().expect("a file").len();
        file.set_len(length.saturating_sub(room)).expect("some of it is given back");
        file.sync_all().expect("synced");
    }

    /// Removes the neighbour file and the journal.
    fn clear(&self) {
        let _ = fs::remove_file(self.0.path().join("neighbour"));
        let _ = fs::remove_dir_all(self.journal());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// The options of a daemon, without wait times.
fn daemon() -> Options {
    Options { lock_attempts: 1, ..journal_options() }
}

/// Appends until the writer stops. Returns the acknowledged records, and the reason of the stop.
fn written_until_full(journal: &Journal) -> (Vec<Head>, String) {
    let mut heads = Vec::new();
    for round in 0.. {
        let appended = append_all(journal, 1 << 32 | round << 8..(1 << 32 | round << 8) + 16, 2000);
        let complete = appended.len() == 16;
        heads.extend(appended);
        if !complete {
            break;
        }
    }
    // A stopped writer stays stopped.
    let later = block_on(journal.append(stream(u128::MAX), 0, vec![record(1)], StreamState::Open));
    match later {
        Err(AppendError::Stopped { reason }) => (heads, reason),
        other => panic!("it goes on after an append was lost: {other:?}"),
    }
}

/// Fills the disk once, from the first error to the end of the work. Returns a line with the result.
fn told(disk: &Disk, room: u64) -> String {
    let dir = disk.journal();
    let (journal, opened) = Journal::open_thread(&dir, daemon()).expect("there is room yet");
    assert!(opened.ballast, "room is put aside");
    let mut heads = append_all(&journal, 0..16, 400);
    disk.fill(room);
    let (more, reason) = written_until_full(&journal);
    heads.extend(more);
    drop(journal);

    let (journal, opened) = Journal::open_thread(&dir, daemon()).unwrap_or_else(|error| refused(&error));
    let spent = opened.repairs.iter().any(|repair| matches!(repair, Repair::BallastSpent { .. }));
    // The runs in flight are finished: this writes the records of some releases.
    let finished = append_all(&journal, 1 << 64..(1 << 64) + 64, 400);
    if finished.len() < 64 {
        let (_, reason) = written_until_full(&journal);
        panic!("room {room}, {:?}: {} of 64 are carried: {reason}", opened.repairs, finished.len());
    }
    heads.extend(&finished);
    drop(journal);
    assert_eq!(missing_on(&dir, &heads), 0, "room {room}");

    fs::remove_file(disk.0.path().join("neighbour")).expect("the neighbour goes");
    let (journal, opened) = Journal::open_thread(&dir, daemon()).expect("there is room again");
    assert!(opened.ballast, "room {room}: the ballast is put aside again");
    drop(journal);
    assert_eq!(missing(&dir, &heads, "with room again"), 0);
    let first = reason.split(':').next().unwrap_or_default();
    format!(
        "{:>6} KiB left   {:>4} acknowledged, then the writer stopped: {first}   opened{}   64 more acknowledged   0 lost",
        room >> 10,
        heads.len() - 64,
        if spent { " with the ballast" } else { "" },
    )
}

fn refused(error: &JournalError) -> ! {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    panic!("a full disk keeps the journal shut: {error}: {cause}")
}

/// As [`missing`], from a copy elsewhere: the full disk may have no room for another epoch.
fn missing_on(dir: &Path, heads: &[Head]) -> usize {
    let copy = tempfile::tempdir().expect("a directory");
    let copied = Command::new("cp").arg("-a").arg(dir).arg(copy.path()).status();
    assert!(copied.is_ok_and(|status| status.success()), "copied");
    missing(&copy.path().join("journal"), heads, "a copy of the full disk")
}

fn told_of(name: &str, disk: Option<Disk>) {
    let Some(disk) = disk else {
        println!("SKIPPED: {name} cannot be mounted here: that is for root, or `unshare -Urm` with a tmpfs");
        return;
    };
    println!("{name} of {} MiB", DISK >> 20);
    for step in 0..ROOMS {
        println!("  {}", told(&disk, step * STEP));
        disk.clear();
    }
}

#[test]
#[ignore = "it mounts: run it with --ignored as one who may"]
fn ballast_finishes_work_on_full_tmpfs() {
    told_of("tmpfs", Disk::tmpfs());
}

#[test]
#[ignore = "it mounts: run it with --ignored as one who may"]
fn ballast_finishes_work_on_full_ext4() {
    let image = tempfile::tempdir().expect("a directory");
    told_of("ext4", Disk::ext4(&image));
}

/// The [`options`] of the other tests have no ballast. This test checks that they are not used here by
/// mistake.
#[test]
fn daemon_reserves_ballast_by_default() {
    assert!(daemon().ballast_bytes > 0 && options().ballast_bytes == 0);
}
