//! Defines the record that turns a file into an archive.
//!
//! A record of kind 33 is in the journal's own stream, with the records of repairs
//! ([`super::super::repair`]). Its payload has fixed-width fields, big-endian:
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | position of the first archived record |
//! | 8 | 8 | position of the last archived record |
//! | 16 | 32 | hash of the last archived record, which the first live record follows |
//! | 48 | 32 | BLAKE3 hash of the archive's file |
//! | 80 | 8 | length of the archive's file in bytes |
//! | 88 | 8 | number of streams that ended in the archive |
//! | 96 | 32 | BLAKE3 hash of the same field of the previous checkpoint (zeros before the first) and of the index's file |
//! | 128 | 8 | number of records that the carry copies; 0 if there is no carry |
//! | 136 | 32 | BLAKE3 hash of the hashes of the copies in each of the carry's records |
//! | 168 | 8 | position of the carry's first record |
//!
//! Version 1 ended before the last field: a file held the copies (`migrations/0007_log`). So the newest
//! checkpoint covers every index and its carry. The next open detects a lost or changed file. The detection does
//! not wait until a request is repeated.

use std::fmt;

use super::super::record::{Head, Record};
use super::Range;

/// Kind of the record that turns a file into an archive.
pub(crate) const KIND: u16 = 33;

const VERSION: u16 = 2;
const BYTES: usize = 176;
/// The version whose copies are in a file, and its length.
const WITH_FILE: u16 = 1;
const BYTES_WITH_FILE: usize = 168;

/// Describes an archive and identifies its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    pub first: u64,
    pub last: Head,
    pub file: [u8; 32],
    /// Length of the archive's file in bytes.
    pub bytes: u64,
    /// Number of streams that ended in the archive.
    pub streams: u64,
    /// Hash over this index and all earlier ones.
    pub indexes: [u8; 32],
    /// The records before the checkpoint that copy records of the archive.
    pub carry: CarrySummary,
    /// A file that an earlier release wrote instead of these records.
    pub file_of_copies: Option<FileOfCopies>,
}

/// Identifies the copies of a carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CarrySummary {
    /// Number of copied records.
    pub copies: u64,
    /// Hash of the copies; zeros if there are none.
    pub hash: [u8; 32],
    /// Position of the first of these records; 0 if there are none.
    pub from: u64,
}

/// Identifies the file with the copies that an earlier release wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOfCopies {
    /// Number of streams in it.
    pub streams: u64,
    pub hash: [u8; 32],
}

impl Checkpoint {
    pub(crate) fn range(&self) -> Range {
        Range { first: self.first, last: self.last.position }
    }

    pub fn name(&self) -> String {
        self.range().file("seg")
    }

    pub(crate) fn record(&self, time_ns: i64) -> Record {
        let mut payload = Vec::with_capacity(BYTES);
        payload.extend(self.first.to_be_bytes());
        payload.extend(self.last.position.to_be_bytes());
        payload.extend(self.last.hash);
        payload.extend(self.file);
        payload.extend(self.bytes.to_be_bytes());
        payload.extend(self.streams.to_be_bytes());
        payload.extend(self.indexes);
        payload.extend(self.carry.copies.to_be_bytes());
        payload.extend(self.carry.hash);
        payload.extend(self.carry.from.to_be_bytes());
        Record { kind: KIND, version: VERSION, time_ns, payload }
    }

    /// Decodes a record. `None` if it is not a checkpoint of a version that this release knows.
    pub fn of(record: &Record) -> Option<Checkpoint> {
        let bytes = record.payload.as_slice();
        let length = match (record.kind, record.version) {
            (KIND, VERSION) => BYTES,
            (KIND, WITH_FILE) => BYTES_WITH_FILE,
            _ => return None,
        };
        if bytes.len() != length {
            return None;
        }
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let hash = |at: usize| -> Option<[u8; 32]> { bytes[at..at + 32].try_into().ok() };
        let last = Head { position: number(8)?, hash: hash(16)? };
        let (copied, copies_hash) = (number(128)?, hash(136)?);
        let in_file = record.version == WITH_FILE;
        let found = Checkpoint {
            first: number(0)?,
            last,
            file: hash(48)?,
            bytes: number(80)?,
            streams: number(88)?,
            indexes: hash(96)?,
            carry: match in_file {
                true => CarrySummary::default(),
                false => CarrySummary { copies: copied, hash: copies_hash, from: number(168)? },
            },
            file_of_copies: (in_file && copied > 0)
                .then_some(FileOfCopies { streams: copied, hash: copies_hash }),
        };
        (1..=last.position).contains(&found.first).then_some(found)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checkpoint { first, last, file, bytes, streams, carry, .. } = self;
        write!(f, "records {first} to {} went to archive/{} ", last.position, self.name())?;
        write!(f, "({streams} streams ended in it, {bytes} bytes, BLAKE3 ")?;
        file.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")?;
        match (carry.copies, self.file_of_copies) {
            (0, None) => Ok(()),
            (0, Some(file)) => write!(f, "; records of {} streams are carried over in a file", file.streams),
            (copies, _) => write!(f, "; {copies} of them are copied from record {} on", carry.from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let last = Head { position: 0x0102, hash: [2; 32] };
        Checkpoint {
            first: 3,
            last,
            file: [4; 32],
            bytes: 5,
            streams: 6,
            indexes: [7; 32],
            carry: CarrySummary { copies: 8, hash: [9; 32], from: 10 },
            file_of_copies: None,
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let record = sample().record(9);
        let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2];
        expected.extend([2; 32]);
        expected.extend([4; 32]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6]);
        expected.extend([7; 32]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 8]);
        expected.extend([9; 32]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 10]);
        assert_eq!((record.kind, record.version, record.time_ns), (33, 2, 9));
        assert_eq!(record.payload, expected);
        assert_eq!(Checkpoint::of(&record), Some(sample()));
        expected.truncate(168);
        let earlier = Record { version: 1, payload: expected, ..record };
        let (carry, file) = (CarrySummary::default(), FileOfCopies { streams: 8, hash: [9; 32] });
        assert_eq!(
            Checkpoint::of(&earlier),
            Some(Checkpoint { carry, file_of_copies: Some(file), ..sample() })
        );
    }

    #[test]
    fn rejects_invalid_checkpoint_bytes() {
        let record = sample().record(9);
        let with = |change: fn(&mut Record)| {
            let mut record = record.clone();
            change(&mut record);
            Checkpoint::of(&record)
        };
        assert_eq!(with(|record| record.kind = 32), None);
        assert_eq!(with(|record| record.version = 3), None);
        assert_eq!(with(|record| record.payload.truncate(127)), None);
        assert_eq!(with(|record| record.payload[7] = 0), None, "records are counted from 1");
        assert_eq!(with(|record| record.payload[0] = 1), None, "the first is behind the last");
    }
}
