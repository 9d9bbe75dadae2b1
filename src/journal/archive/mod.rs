//! Archives: the prefix of a journal that has ended, as files that nobody writes to any more.
//!
//! # What it promises
//! - A whole segment of evidence becomes an archive: the same file, byte for byte, under a name that says which records
//!   are in it. So archive and live journal are one chain, and either verifies without sled.
//! - Records leave the database and the evidence only once the archive, the index of its streams and a checkpoint
//!   are on disk. Killed in between, the next open goes on where it stopped; nothing is ever in no place.
//! - A request that ended in an archive never gets a second run: the index of its streams stays with the journal for
//!   ever, 16 bytes for a stream, also when the archive itself is moved elsewhere.
//! - A run that has not ended holds nothing back: its records are archived like all others, and a copy of them, byte for
//!   byte, is carried forward in one file (`carried`), from which it is resumed. So disk, memory and start depend on
//!   the runs that have not ended and not on how long ago they began, and archives may be moved at any time.
//!
//! # Layout
//! | name | what |
//! |---|---|
//! | `archive/FIRST-LAST.seg` | records FIRST to LAST, twenty digits each: a segment of evidence |
//! | `archive/FIRST-LAST.ids` | the streams that ended in it (`index`) |
//! | `archive/FIRST-LAST.carried` | of the last archive: the records up to LAST of runs that had not ended there (`carried`) |
//!
//! # The order of one archiving
//! 1. Sealing: the segment is given its second name (a hard link, else a copy), the index is written, and behind the last
//!    archive what is carried forward; all synced.
//! 2. A [`Checkpoint`] for each is appended to the journal. From here on it is an archive.
//! 3. The segment leaves the evidence.
//! 4. Trimming: its records leave the database, some hundreds at a time.
//! 5. What was carried forward before is removed.
//!
//! The file of the database does not get smaller by that, but uses its room again.
//!
//! # What is not here
//! When a segment ends and when it is archived ([`Policy`] is asked by the caller). What a payload means, but for one
//! thing: which groups a Backup needs.

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
pub(super) use truncate::trim;

/// When the segment that is being written ends, and so can be archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Records from which on it ends.
    pub records: u64,
    /// Or its first record is from this time, in nanoseconds since the Unix epoch, or earlier.
    pub before_ns: i64,
}

impl Policy {
    /// Everything that has ended is archived.
    pub fn everything() -> Policy {
        Policy { records: 1, before_ns: i64::MIN }
    }

    /// Whether a segment with so many records, the first from that time, is to end.
    pub(super) fn ends(&self, records: u64, first_ns: Option<i64>) -> bool {
        records > 0 && (records >= self.records || first_ns.is_some_and(|first| first <= self.before_ns))
    }
}

/// What an archiving did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Archived {
    /// The archives that were made, in their order.
    pub archives: Vec<Checkpoint>,
    /// Streams that are carried forward, because they have not ended or are needed by one that has not.
    pub carried: u64,
}

/// Where the archives of a journal directory are.
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

/// The files of one kind in `dir`, in order; none if there is no directory. Other files are ignored.
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

/// The BLAKE3 hash of a file's bytes, as a checkpoint names it.
fn hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_archives_are_read_as_such() {
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
    fn a_segment_ends_by_its_records_or_by_its_age_and_never_without_records() {
        let policy = Policy { records: 10, before_ns: 100 };
        assert!(!policy.ends(0, None) && !policy.ends(9, Some(101)));
        assert!(policy.ends(10, Some(500)) && policy.ends(1, Some(100)));
        assert!(Policy::everything().ends(1, Some(i64::MAX)) && !Policy::everything().ends(0, None));
    }
}
