//! Room on the disk: the blocks that are reserved for the next segment of the log, and what else is free.
//!
//! The next segment has its blocks before it is needed. So the runs in progress can be recorded to their end when
//! another program fills the disk. A daemon takes no new Backup unless two more segments fit.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Number of segments that have to fit on the disk before a new Backup is taken.
const FREE_SEGMENTS: u64 = 2;

/// Creates the file `path` with reserved blocks for `bytes` bytes, unless it exists. Its length is 0.
///
/// Without room, or on a file system that cannot reserve, there is no file, which is not an error: a segment can be
/// created without.
pub(super) fn reserve(path: &Path, bytes: u64) {
    if path.exists() {
        return;
    }
    let reserved = File::create(path).map(|file| fill(&file, bytes) && file.sync_all().is_ok());
    if !reserved.unwrap_or(false) {
        // The journal needs the room of the partial reservation.
        let _ = std::fs::remove_file(path);
    }
}

/// Reserves blocks for the first `bytes` bytes of a file. Its length stays. Returns whether they are reserved.
pub(super) fn fill(file: &File, bytes: u64) -> bool {
    fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes).is_ok()
}

/// Why the disk of `dir` has too little room for a new Backup. `None` if two segments of `segment_bytes` bytes fit.
pub(super) fn lack(dir: &Path, segment_bytes: u64) -> io::Result<Option<String>> {
    let stat = statvfs(dir)?;
    let (free, needed) = (stat.f_bavail.saturating_mul(stat.f_frsize), FREE_SEGMENTS * segment_bytes);
    Ok((free < needed).then(|| {
        format!(
            "the disk of the journal has {} MiB left; a new Backup needs {} MiB",
            free >> 20,
            needed >> 20
        )
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn reserves_blocks_without_length() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("next");
        reserve(&path, 1 << 20);
        let meta = path.metadata().expect("there");
        assert_eq!((meta.len(), meta.blocks() * 512 >= 1 << 20), (0, true));
        reserve(&dir.path().join("more"), 1 << 60);
        assert!(!dir.path().join("more").exists(), "no disk is so large");
    }

    #[test]
    fn names_free_and_needed_room() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(lack(dir.path(), 1).expect("readable"), None);
        let why = lack(dir.path(), 1 << 60).expect("readable").expect("no disk is so large");
        assert!(why.ends_with("a new Backup needs 2199023255552 MiB"), "{why}");
        assert!(lack(&dir.path().join("none"), 1).is_err());
    }
}
