//! A disk that is really full: a file system of its own, filled by a neighbour to within some bytes.
//!
//! Ignored by default, because it mounts: `cargo test --test journal full_disk -- --ignored --nocapture`. It needs the right
//! to mount (root, or `unshare -Urm cargo test ...`, where a tmpfs may be mounted and a loop device may not), and says so
//! where that is missing. Which call of the writer meets the full disk depends on the room that was left, so that many
//! rooms are tried; what the errors do to the writer at every call, one by one, is in [`crate::bad_disk`].

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use stillpoint::journal::{AppendError, Head, Journal, JournalError, Options, Repair, StreamState};
use stillpoint::records::journal_options;
use tempfile::TempDir;

use crate::common::{append_all, block_on, missing, options, record, stream};

const DISK: u64 = 64 << 20;
/// What is left to the journal, from nothing on, in steps.
const STEP: u64 = 640 << 10;
const ROOMS: u64 = 24;

/// A file system that is unmounted again.
struct Disk(TempDir);

impl Disk {
    /// A tmpfs.
    fn tmpfs() -> Option<Disk> {
        Disk::mounted(&["-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs"])
    }

    /// An ext4 on a loop device. The directory of `image` holds its bytes.
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

    /// Takes all but `room` bytes.
    fn fill(&self, room: u64) {
        let path = self.0.path().join("neighbour");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("a file");
        let chunk = [0x5a; 4096];
        while file.write_all(&chunk).and_then(|()| file.flush()).is_ok() {}
        // What is written back later must have its place now.
        let _ = file.sync_all();
        let length = file.metadata().expect("a file").len();
        file.set_len(length.saturating_sub(room)).expect("some of it is given back");
        file.sync_all().expect("synced");
    }

    /// The neighbour and the journal go.
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

/// As a daemon opens it, the waiting apart.
fn daemon() -> Options {
    Options { lock_attempts: 1, ..journal_options() }
}

/// Appends until the writer stops; what was acknowledged, and why it stopped.
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
    // A writer that stopped stays so.
    let later = block_on(journal.append(stream(u128::MAX), 0, vec![record(1)], StreamState::Open));
    match later {
        Err(AppendError::Stopped { reason }) => (heads, reason),
        other => panic!("it goes on after an append was lost: {other:?}"),
    }
}

/// One full disk, from the first error to the end of the work; the line that tells of it.
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
    // What was under way is finished: the records of some releases.
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

/// As [`missing`], from a copy elsewhere: on the full disk there may be no room for another epoch.
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
fn a_full_tmpfs_stops_the_writer_and_the_ballast_finishes_the_work() {
    told_of("tmpfs", Disk::tmpfs());
}

#[test]
#[ignore = "it mounts: run it with --ignored as one who may"]
fn a_full_ext4_stops_the_writer_and_the_ballast_finishes_the_work() {
    let image = tempfile::tempdir().expect("a directory");
    told_of("ext4", Disk::ext4(&image));
}

/// What the other tests call [`options`] has no ballast: it is not used here by mistake.
#[test]
fn a_daemon_puts_room_aside() {
    assert!(daemon().ballast_bytes > 0 && options().ballast_bytes == 0);
}
