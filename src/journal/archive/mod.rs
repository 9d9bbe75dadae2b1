//! Moves the oldest records of a journal into archives: files that are never written again.
//!
//! # Guarantees
//! - A whole log segment becomes an archive: the same file, byte for byte, under a name that says which
//!   records it holds. So archives and live journal are one chain, and each of them verifies without sled.
//! - Records leave the index and the log only after the archive, the index of its streams, the copies of what is
//!   still needed and a checkpoint are on disk. After a kill in between, the next open continues. Each record is
//!   in at least one place at any time.
//! - A request that ended in an archive never gets a second run. The index of its streams stays with the
//!   journal for ever, also when the archive is moved elsewhere. It costs 16 bytes for each stream.
//! - An open or holding stream does not block archiving: what it still needs is copied behind the end of the log
//!   ([`Carry`]). So archives may be moved at any time. The first segments leave only if less than a share of
//!   them is copied ([`Policy::copied_percent`]). So the log grows with what is needed and not with its age.
//!
//! # Layout
//! | name | contents |
//! |---|---|
//! | `archive/FIRST-LAST.seg` | records FIRST to LAST, twenty digits each: a log segment. It may be in another directory |
//! | `archive/FIRST-LAST.ids` | the streams that ended in it (`index`) |
//!
//! # Steps of one archiving
//! 1. Seal: give the segment its second name (a hard link, else a copy), and write its index. Both are synced.
//! 2. Append the copies, and then a [`Checkpoint`], on disk in the log and in its index. From here on the segment
//!    is an archive.
//! 3. Truncate: remove its records from the index, some hundreds at a time, but not the copied ones. Sync it.
//! 4. Remove the segment from the log.
//!
//! The file of the index does not shrink. sled reuses the freed room.
//!
//! # What is not here
//! The policy of when a segment ends and when it is archived (the caller passes a [`Policy`]). The meaning
//! of a payload: the caller says which streams a record refers to, and which records of a holding stream stay.

mod carry;
mod catalog;
mod checkpoint;
mod index;
mod leaving;
mod read;
mod seal;
mod truncate;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use carry::Carry;
pub(super) use carry::{Carries, set_head, stream_of};
pub(super) use catalog::Catalog;
pub(super) use checkpoint::KIND;
pub use checkpoint::{CarrySummary, Checkpoint, FileOfCopies};
pub(super) use leaving::{Leaving, Remains, each as each_record};
pub use read::{Prefix, Vouched, carried};
pub(super) use seal::{clear, copied_again, heads};
pub(super) use truncate::{Step, steps, truncate};

/// When the current segment ends, so that it can be archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The segment ends when it has this many records.
    pub records: u64,
    /// The segment ends when its first record has this time or an earlier one, in nanoseconds since the
    /// Unix epoch.
    pub before_ns: i64,
    /// Segments stay if this share of them, or more, had to be copied, in percent.
    pub copied_percent: u64,
}

/// The default of [`Policy::copied_percent`].
pub const COPIED_PERCENT: u64 = 25;

impl Policy {
    /// Archives all records.
    pub fn everything() -> Policy {
        Policy { records: 1, before_ns: i64::MIN, copied_percent: COPIED_PERCENT }
    }

    /// Whether a segment of `segment` bytes leaves if `copied` bytes of it are copied.
    pub(super) fn leaves(&self, segment: u64, copied: u64) -> bool {
        copied.saturating_mul(100) < segment.saturating_mul(self.copied_percent)
    }

    /// Whether a segment ends that has `records` records, the first of them at `first_ns`.
    pub(super) fn ends(&self, records: u64, first_ns: Option<i64>) -> bool {
        records > 0 && (records >= self.records || first_ns.is_some_and(|first| first <= self.before_ns))
    }
}

/// The result of an archiving.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Archived {
    /// The new archives, in order.
    pub archives: Vec<Checkpoint>,
    /// Number of records that were copied, because streams that hold or have not ended need them.
    pub copied: u64,
    /// The segments that stay, because too much of them is still needed.
    pub stays: Option<Stays>,
}

/// Segments that are not archived, because too much of them is still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stays {
    pub first: u64,
    pub last: u64,
    /// Size of the segments in bytes.
    pub bytes: u64,
    /// Size of what is needed of them in bytes.
    pub needed: u64,
}

/// The archive directory of a journal directory.
fn directory(journal: &Path) -> PathBuf {
    journal.join("archive")
}

/// Segments that stay: the last record of the last one, and when they were looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    pub last: u64,
    pub copied_percent: u64,
    pub at_ns: i64,
    pub stays: Stays,
}

/// Where the files of archives are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The directory of the indexes. It belongs to the journal.
    pub indexes: PathBuf,
    /// The directory of the archives.
    pub archives: PathBuf,
}

impl Places {
    /// Those of the journal in `journal`, with the archives elsewhere if the options say so.
    pub fn new(journal: &Path, elsewhere: Option<&Path>) -> Places {
        let indexes = directory(journal);
        Places { archives: elsewhere.map_or_else(|| indexes.clone(), Path::to_owned), indexes }
    }
}

/// Gives the copy of a journal its archive directory. Small files that may be replaced are copied. Archives
/// are linked.
///
/// # Errors
/// A file cannot be read or written.
pub(super) fn copy(journal: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (directory(journal), directory(to));
    for extension in ["carried", "ids", "seg"] {
        for range in list(&from, extension)? {
            let name = range.file(extension);
            fs::create_dir_all(&to)?;
            match extension {
                "seg" => std::os::unix::fs::symlink(from.canonicalize()?.join(&name), to.join(&name))?,
                _ => drop(fs::copy(from.join(&name), to.join(&name))?),
            }
        }
    }
    Ok(())
}

/// The first and the last position of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub first: u64,
    pub last: u64,
}

impl Range {
    pub fn file(self, extension: &str) -> String {
        format!("{:020}-{:020}.{extension}", self.first, self.last)
    }

    fn parse(name: &str, extension: &str) -> Option<Range> {
        let (first, last) = name.strip_suffix(extension)?.strip_suffix('.')?.split_once('-')?;
        let range = Range { first: first.parse().ok()?, last: last.parse().ok()? };
        (range.file(extension) == name && range.first <= range.last).then_some(range)
    }
}

/// The files of one kind in `dir`, in order. Empty if the directory does not exist. Other files are
/// ignored.
pub(super) fn list(dir: &Path, extension: &str) -> io::Result<Vec<Range>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other?,
    };
    let mut ranges = Vec::new();
    for entry in entries {
        ranges.extend(entry?.file_name().to_str().and_then(|name| Range::parse(name, extension)));
    }
    ranges.sort_unstable();
    Ok(ranges)
}

/// The BLAKE3 hash of a file's bytes, as in a checkpoint.
pub(super) fn hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_names_of_archives() {
        let range = Range { first: 1, last: 4711 };
        let name = range.file("seg");
        assert_eq!(name, "00000000000000000001-00000000000000004711.seg");
        assert_eq!(Range::parse(&name, "seg"), Some(range));
        for other in ["1-4711.seg", "00000001.seg", &range.file("ids"), "x", "", &format!("{name}.tmp")] {
            assert_eq!(Range::parse(other, "seg"), None, "{other}");
        }
        assert_eq!(Range::parse(&Range { first: 9, last: 8 }.file("seg"), "seg"), None);
    }

    #[test]
    fn segment_ends_by_size_or_age_unless_empty() {
        let policy = Policy { records: 10, before_ns: 100, copied_percent: 25 };
        assert!(!policy.ends(0, None) && !policy.ends(9, Some(101)));
        assert!(policy.ends(10, Some(500)) && policy.ends(1, Some(100)));
        assert!(policy.leaves(100, 24) && !policy.leaves(100, 25));
        assert!(Policy::everything().ends(1, Some(i64::MAX)) && !Policy::everything().ends(0, None));
    }
}
