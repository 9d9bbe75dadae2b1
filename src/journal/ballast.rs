//! Space that is put aside, so that a journal on a full disk can still be opened and finished.
//!
//! `ballast` is a file of bytes that do not compress, so that it takes real blocks everywhere. An
//! open that fails for want of space removes it and is tried once more. So does an open that finds
//! no room to work: it would succeed, because it writes next to nothing, and the first step of a run
//! would end it again, at every start. A later open makes the ballast anew, but only where twice the
//! room to work is free beside it: it is not to take the last room itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::fault_injection::{Call, FaultHook};
use super::store::is_full;

/// How much is put aside, in bytes: one segment of sled, which an open fills up to its end with real blocks (seen on a
/// full tmpfs and a full ext4), and as much again to work with.
pub(super) const BALLAST_BYTES: u64 = 16 << 20;

/// What a daemon needs to work for a while, in bytes: the records of some hundred steps, twice.
const ROOM_BYTES: u64 = 2 << 20;

const CHUNK_BYTES: usize = 1 << 20;

fn path(dir: &Path) -> PathBuf {
    dir.join("ballast")
}

/// Gives the space up; answers how much it was, none if nothing was put aside.
pub(super) fn spend(dir: &Path) -> io::Result<Option<u64>> {
    let path = path(dir);
    let bytes = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?.len(),
    };
    fs::remove_file(&path)?;
    File::open(dir)?.sync_all()?;
    Ok(Some(bytes))
}

/// Gives the space up if there is no other room to work; answers how much it was, none if it was not needed.
///
/// Whether there is room is found out by taking it: what a file system says of itself leaves quotas out.
pub(super) fn spend_without_room(dir: &Path, faults: &FaultHook) -> io::Result<Option<u64>> {
    if !path(dir).exists() {
        return Ok(None);
    }
    let room = dir.join("ballast.room");
    let taken = faults.run(Call::BallastWrite, |error| error, || take(&room, ROOM_BYTES).map(drop));
    match fs::remove_file(&room) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match taken {
        Err(error) if is_full(&error) => spend(dir),
        other => other.map(|()| None),
    }
}

/// Puts `bytes` aside unless they are; answers whether they are now. Without room nothing is left behind.
pub(super) fn ensure(dir: &Path, bytes: u64, faults: &FaultHook) -> bool {
    let path = path(dir);
    if bytes == 0 {
        return false;
    }
    if fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
        return true;
    }
    let written = faults.run(Call::BallastWrite, |error| error, || write(&path, bytes));
    if written.is_err() {
        // Whatever was written is room that the journal needs.
        let _ = fs::remove_file(&path);
    }
    written.is_ok()
}

fn write(path: &Path, bytes: u64) -> io::Result<()> {
    let file = take(path, bytes.saturating_add(2 * ROOM_BYTES))?;
    file.set_len(bytes)?;
    file.sync_all()
}

/// A file of real blocks.
fn take(path: &Path, bytes: u64) -> io::Result<File> {
    let mut file = File::create(path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut chunk);
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        file.write_all(&chunk[..now])?;
        left -= now as u64;
    }
    file.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_spent_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let faults = FaultHook::default();
        assert!(ensure(dir.path(), 3 << 20, &faults) && ensure(dir.path(), 3 << 20, &faults));
        assert_eq!(fs::metadata(path(dir.path())).expect("made").len(), 3 << 20);
        assert_eq!(spend(dir.path()).expect("removed"), Some(3 << 20));
        assert_eq!(spend(dir.path()).expect("nothing there"), None);
        assert!(!ensure(dir.path(), 0, &faults), "none is wanted");
    }
}
