//! Moves the oldest records of a journal into archives: files that are never written again.
//!
//! # Guarantees
//! - A whole log segment becomes an archive: the same file, byte for byte, under a name that says which
//!   records it holds. So archives and live journal are one chain, and each of them verifies without sled.
//! - Records leave the index and the log only after the archive, the index of its streams and a
//!   checkpoint are on disk. After a kill in between, the next open continues. Each record is in at least
//!   one place at any time.
//! - A request that ended in an archive never gets a second run. The index of its streams stays with the
//!   journal for ever, also when the archive is moved elsewhere. It costs 16 bytes for each stream.
//! - An unfinished run does not block archiving. Its records are archived like all others. A copy of them,
//!   byte for byte, goes to the carry-over file (`carried`), from which the run is resumed. So disk, memory
//!   and start depend on the number of unfinished runs and not on their age. Archives may be moved at any
//!   time.
//!
//! # Layout
//! | name | contents |
//! |---|---|
//! | `archive/FIRST-LAST.seg` | records FIRST to LAST, twenty digits each: a log segment |
//! | `archive/FIRST-LAST.ids` | the streams that ended in it (`index`) |
//! | `archive/FIRST-LAST.carried` | beside the last archive: the carry-over, with records up to LAST |
//!
//! # Steps of one archiving
//! 1. Seal: give the segment its second name (a hard link, else a copy), write the index, and write the
//!    carry-over behind the last archive. All files are synced.
//! 2. Append a [`Checkpoint`] for each segment to the journal, on disk in the log and in its index. From here
//!    on the segment is an archive.
//! 3. Remove the segment from the log.
//! 4. Truncate: remove its records from the index, some hundreds at a time.
//! 5. Remove the previous carry-over file.
//!
//! The file of the index does not shrink. sled reuses the freed room.
//!
//! # What is not here
//! The policy of when a segment ends and when it is archived (the caller passes a [`Policy`]). The meaning
//! of a payload, with one exception: which groups a Backup needs.

mod carry_over;
mod carry_over_file;
mod catalog;
mod checkpoint;
mod index;
mod read;
mod seal;
mod truncate;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(super) use carry_over_file::{copy, write};
pub(super) use catalog::Catalog;
pub use checkpoint::Checkpoint;
pub(super) use checkpoint::{KIND, newest};
pub use read::{Prefix, Vouched};
pub(super) use seal::{Prior, clear, seal};
pub(super) use truncate::truncate;

/// When the current segment ends, so that it can be archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The segment ends when it has this many records.
    pub records: u64,
    /// The segment ends when its first record has this time or an earlier one, in nanoseconds since the
    /// Unix epoch.
    pub before_ns: i64,
}

impl Policy {
    /// Archives all records.
    pub fn everything() -> Policy {
        Policy { records: 1, before_ns: i64::MIN }
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
    /// Number of streams in the carry-over: unfinished streams, and streams that an unfinished stream
    /// needs.
    pub carried: u64,
}

/// The archive directory of a journal directory.
fn directory(journal: &Path) -> PathBuf {
    journal.join("archive")
}

/// The first and the last position of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    first: u64,
    last: u64,
}

impl Range {
    fn file(self, extension: &str) -> String {
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
fn list(dir: &Path, extension: &str) -> io::Result<Vec<Range>> {
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
fn hash(bytes: &[u8]) -> [u8; 32] {
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
        let policy = Policy { records: 10, before_ns: 100 };
        assert!(!policy.ends(0, None) && !policy.ends(9, Some(101)));
        assert!(policy.ends(10, Some(500)) && policy.ends(1, Some(100)));
        assert!(Policy::everything().ends(1, Some(i64::MAX)) && !Policy::everything().ends(0, None));
    }
}
