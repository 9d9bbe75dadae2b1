//! Reserves disk space, so that a journal on a full disk can still be opened and its runs finished.
//!
//! `ballast` is a file of incompressible bytes, so it takes real blocks on every file system. An open that
//! fails for lack of space removes the file and is tried once more. An open that finds no room to work does
//! the same. Such an open would succeed, because it writes little, but the first step of a run would stop
//! the journal again, at every start. A later open writes the ballast again. It does so only where twice
//! the room to work is free beside it, so that the ballast does not take the last room.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::fault_injection::{Call, FaultHook};
use super::store::is_full;

/// Size of the ballast in bytes: one segment of sled, which an open fills to its end with real blocks
/// (observed on a full tmpfs and a full ext4), and the same amount again to work with.
pub(super) const BALLAST_BYTES: u64 = 16 << 20;

/// Room that a daemon needs to work for a while, in bytes: the records of about a hundred steps, twice.
const ROOM_BYTES: u64 = 2 << 20;

const CHUNK_BYTES: usize = 1 << 20;

fn path(dir: &Path) -> PathBuf {
    dir.join("ballast")
}

/// Removes the ballast. Returns its size in bytes, or `None` if there was no ballast.
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

/// Removes the ballast if there is no other room to work. Returns its size in bytes, or `None` if it was
/// not needed.
///
/// A test write finds out whether there is room. The free space that a file system reports does not include
/// quotas.
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

/// Writes a ballast of `bytes` bytes unless it exists. Returns whether it exists now. If there is not
/// enough room, nothing is left behind.
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
        // The journal needs the room of the partial file.
        let _ = fs::remove_file(&path);
    }
    written.is_ok()
}

fn write(path: &Path, bytes: u64) -> io::Result<()> {
    let file = take(path, bytes.saturating_add(2 * ROOM_BYTES))?;
    file.set_len(bytes)?;
    file.sync_all()
}

/// Writes a file of real blocks.
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
    fn ballast_is_created_once_and_removed_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let faults = FaultHook::default();
        assert!(ensure(dir.path(), 3 << 20, &faults) && ensure(dir.path(), 3 << 20, &faults));
        assert_eq!(fs::metadata(path(dir.path())).expect("made").len(), 3 << 20);
        assert_eq!(spend(dir.path()).expect("removed"), Some(3 << 20));
        assert_eq!(spend(dir.path()).expect("nothing there"), None);
        assert!(!ensure(dir.path(), 0, &faults), "none is wanted");
    }
}
