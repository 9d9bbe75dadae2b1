//! Defines the record that turns a file into an archive.
//!
//! A record of kind 33 is in the journal's own stream, with the records of repairs
//! ([`super::super::repair`]). Version 1 of its payload has fixed-width fields, big-endian, and never
//! changes:
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
//! | 128 | 8 | number of streams in the carry-over behind the archive |
//! | 136 | 32 | BLAKE3 hash of the carry-over file; zeros if there is none |
//!
//! So the newest checkpoint covers every index and the carry-over. The next open detects a lost or changed
//! file. The detection does not wait until a request is repeated.

use std::fmt;

use super::super::error::JournalError;
use super::super::record::{Head, Record};
use super::super::store::{Store, StoreError};
use super::super::{chain, repair};
use super::Range;

/// Kind of the record that turns a file into an archive.
pub(crate) const KIND: u16 = 33;

const VERSION: u16 = 1;
const BYTES: usize = 168;

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
    /// Number of streams whose records up to here are in the carry-over: unfinished streams, and streams
    /// that an unfinished stream needs.
    pub runs: u64,
    /// Hash of the carry-over file; zeros if there is none.
    pub carried: [u8; 32],
}

impl Checkpoint {
    pub(super) fn range(&self) -> Range {
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
        payload.extend(self.runs.to_be_bytes());
        payload.extend(self.carried);
        Record { kind: KIND, version: VERSION, time_ns, payload }
    }

    /// Decodes a record. `None` if it is not a checkpoint of a version that this release knows.
    pub fn of(record: &Record) -> Option<Checkpoint> {
        if (record.kind, record.version) != (KIND, VERSION) {
            return None;
        }
        let bytes: &[u8; BYTES] = record.payload.as_slice().try_into().ok()?;
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let hash = |at: usize| -> Option<[u8; 32]> { bytes[at..at + 32].try_into().ok() };
        let last = Head { position: number(8)?, hash: hash(16)? };
        let found = Checkpoint {
            first: number(0)?,
            last,
            file: hash(48)?,
            bytes: number(80)?,
            streams: number(88)?,
            indexes: hash(96)?,
            runs: number(128)?,
            carried: hash(136)?,
        };
        (1..=last.position).contains(&found.first).then_some(found)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checkpoint { first, last, file, bytes, streams, runs, .. } = self;
        write!(f, "records {first} to {} went to archive/{} ", last.position, self.name())?;
        write!(f, "({streams} streams ended in it, {bytes} bytes, BLAKE3 ")?;
        file.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")?;
        match self.carried_name() {
            Some(name) => write!(f, "; records of {runs} streams are carried over in archive/{name}"),
            None => Ok(()),
        }
    }
}

/// The newest checkpoint in a store.
pub(crate) fn newest(store: &dyn Store) -> Result<Option<Checkpoint>, JournalError> {
    for position in store.positions(repair::stream())?.into_iter().rev() {
        let bytes = store.record(position)?.ok_or(StoreError::Layout { what: "the index of a stream" })?;
        let entry = chain::open_at(position, &bytes)
            .map_err(|source| JournalError::Damaged { torn: false, source })?;
        if let Some(checkpoint) = Checkpoint::of(&entry.record) {
            return Ok(Some(checkpoint));
        }
    }
    Ok(None)
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
            runs: 8,
            carried: [9; 32],
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
        assert_eq!((record.kind, record.version, record.time_ns), (33, 1, 9));
        assert_eq!(record.payload, expected);
        assert_eq!(Checkpoint::of(&record), Some(sample()));
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
        assert_eq!(with(|record| record.version = 2), None);
        assert_eq!(with(|record| record.payload.truncate(127)), None);
        assert_eq!(with(|record| record.payload[7] = 0), None, "records are counted from 1");
        assert_eq!(with(|record| record.payload[0] = 1), None, "the first is behind the last");
    }
}
