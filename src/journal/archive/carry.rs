//! Copies the records of an archived segment that streams still need: the carry.
//!
//! A segment that becomes an archive leaves the log. Open streams still need all of their records in it, holding
//! streams the records that the caller selects. Copies of these are appended to the log as records of kind 35 in
//! the journal's own stream. So the log alone has every record that a start needs, and archives may be moved
//! anywhere. When the segment with a carry becomes an archive itself, the same originals are copied again if they
//! are still needed. A copy is never copied as a record.
//!
//! The identity of a record is its position, its epoch and its hash. A copy is not a further record: it is in the
//! payload of a record of the journal about itself.
//!
//! Version 1 of the payload, big-endian. All copies are of one stream:
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 16 | stream |
//! | 16 | 1 | state of the stream: 0 open, 1 finished, 2 holding |
//! | 17 | 8 | last sequence of the stream |
//! | 25 | 8 | position of its first record |
//! | 33 | 8 | position of its last record |
//! | 41 | | copies, in order of position: 4 bytes length; envelope |
//!
//! Not here: which records are needed ([`super::leaving`]).

use std::fmt;
use uuid::Uuid;

use super::super::envelope;
use super::super::fault::Fault;
use super::super::record::{CARRY as KIND, Entry, MAX_CARRY_BYTES, Record};
use super::super::store::{StreamHead, StreamState};
use super::{CarrySummary, Checkpoint};

const VERSION: u16 = 1;
const HEAD_BYTES: usize = 41;

/// Copies of records of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carry {
    /// The stream when its records were copied.
    pub head: StreamHead,
    /// The originals, in order of position.
    pub entries: Vec<Entry>,
}

impl Carry {
    /// The copies in a record. `None` if it has none, or none that this release knows.
    pub fn of(record: &Record) -> Option<Carry> {
        if (record.kind, record.version) != (KIND, VERSION) {
            return None;
        }
        let (front, mut rest) = record.payload.split_first_chunk::<HEAD_BYTES>()?;
        let number = |at: usize| front[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let head = StreamHead {
            stream: Uuid::from_slice(&front[..16]).ok()?,
            state: StreamState::of_byte(front[16])?,
            last_seq: number(17)?,
            first_position: number(25)?,
            last_position: number(33)?,
        };
        let mut entries: Vec<Entry> = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (bytes, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            let entry = envelope::open(bytes).ok().filter(|entry| entry.stream == head.stream)?;
            if entries.last().is_some_and(|last| last.position >= entry.position) {
                return None;
            }
            entries.push(entry);
            rest = after;
        }
        Some(Carry { head, entries })
    }
}

impl fmt::Display for Carry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let positions = self.entries.iter().map(|entry| entry.position);
        let (first, last) = (positions.clone().min().unwrap_or(0), positions.max().unwrap_or(0));
        let copies = self.entries.len();
        write!(
            f,
            "{copies} archived records of stream {}, from {first} to {last}, are copied",
            self.head.stream
        )
    }
}

/// The records that carry `envelopes`, which are records of the stream of `head` in order of position.
pub(super) fn records(head: &StreamHead, envelopes: &[&[u8]], time_ns: i64) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for envelope in envelopes {
        let full = |record: &Record| record.payload.len() + 4 + envelope.len() > MAX_CARRY_BYTES;
        if records.last().is_none_or(full) {
            records.push(Record { kind: KIND, version: VERSION, time_ns, payload: front(head) });
        }
        if let Some(record) = records.last_mut() {
            let length = u32::try_from(envelope.len()).expect("an envelope is far below 4 GiB");
            record.payload.extend(length.to_be_bytes());
            record.payload.extend(*envelope);
        }
    }
    records
}

fn front(head: &StreamHead) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    bytes.extend(head.stream.as_bytes());
    bytes.push(head.state.byte());
    bytes.extend(head.last_seq.to_be_bytes());
    bytes.extend(head.first_position.to_be_bytes());
    bytes.extend(head.last_position.to_be_bytes());
    bytes
}

/// The stream whose records a record copies. `None` if it copies none.
pub(crate) fn stream_of(record: &Record) -> Option<Uuid> {
    let front = record.payload.get(..16).filter(|_| record.kind == KIND)?;
    Uuid::from_slice(front).ok()
}

/// Sets the head of the stream in a record that copies its records.
///
/// SUBTLE: the head must be that of the moment in which the record is written. 1. The records are selected while a
/// stream is open. 2. The stream ends. 3. The copies are written, behind its end. 4. The segment with its end becomes
/// an archive. If the copies said that the stream is open, it would be resumed.
pub(crate) fn set_head(record: &mut Record, head: &StreamHead) {
    record.payload.splice(..HEAD_BYTES.min(record.payload.len()), front(head));
}

/// The number of copies in `records`, and the hash over them, as in a checkpoint.
pub(super) fn summary<'a>(records: impl IntoIterator<Item = &'a Record>) -> (u64, [u8; 32]) {
    total(records.into_iter().map(Part::of))
}

fn total(parts: impl IntoIterator<Item = Part>) -> (u64, [u8; 32]) {
    let (mut copies, mut hasher) = (0, blake3::Hasher::new());
    for part in parts {
        copies += part.copies;
        hasher.update(&part.hash);
    }
    (copies, *hasher.finalize().as_bytes())
}

/// One record of a carry.
#[derive(Clone, Copy)]
struct Part {
    copies: u64,
    /// Hash of its payload.
    hash: [u8; 32],
}

impl Part {
    fn of(record: &Record) -> Part {
        let copies = Carry::of(record).map_or(0, |carry| carry.entries.len() as u64);
        // The writer sets the front.
        Part { copies, hash: super::hash(record.payload.get(HEAD_BYTES..).unwrap_or_default()) }
    }
}

/// Compares carries with the checkpoints behind them, record by record.
#[derive(Default)]
pub(crate) struct Carries(Vec<(u64, Part)>);

impl Carries {
    /// Adds the next record of the log, which begins behind position `start`.
    ///
    /// # Errors
    /// The record is a checkpoint, and the copies before it are not those that it names.
    pub fn admit(&mut self, entry: &Entry, start: u64) -> Result<(), Fault> {
        if entry.record.kind == KIND {
            self.0.push((entry.position, Part::of(&entry.record)));
            return Ok(());
        }
        let Some(checkpoint) = Checkpoint::of(&entry.record) else { return Ok(()) };
        let parts = std::mem::take(&mut self.0);
        let CarrySummary { copies, hash, from } = checkpoint.carry;
        // Without copies there is nothing to compare. Nor is there if the segment with the first of them is an
        // archive now.
        if copies == 0 || from <= start {
            return Ok(());
        }
        // An archiving that was interrupted leaves a carry without a checkpoint.
        let own = parts.into_iter().filter(|(position, _)| *position >= from).map(|(_, part)| part);
        if total(own) == (copies, hash) { Ok(()) } else { Err(Fault::Carry { name: checkpoint.name() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{batches, stream};
    use super::*;

    fn sample() -> (StreamHead, Vec<Vec<u8>>) {
        let batches = batches(5);
        let own = batches.iter().filter(|batch| batch.records[0].stream == stream(2));
        (batches[4].streams[0], own.map(|batch| batch.records[0].envelope.clone()).collect())
    }

    fn encoded(head: &StreamHead, envelopes: &[Vec<u8>]) -> Vec<Record> {
        records(head, &envelopes.iter().map(Vec::as_slice).collect::<Vec<_>>(), 7)
    }

    #[test]
    fn copies_round_trip() {
        let (head, envelopes) = sample();
        let records = encoded(&head, &envelopes);
        assert_eq!((records.len(), records[0].kind, records[0].version), (1, 35, 1));
        let carry = Carry::of(&records[0]).expect("copies");
        assert_eq!(carry.head, head);
        assert_eq!(carry.entries.iter().map(envelope::of).collect::<Vec<_>>(), envelopes);
        assert_eq!(summary(&records).0, 3);
        assert_eq!(encoded(&head, &[]), []);
    }

    #[test]
    fn copies_that_do_not_fit_go_to_further_records() {
        let (head, envelopes) = sample();
        let many = envelopes[0].len() + 4;
        let count = 2 * MAX_CARRY_BYTES / many;
        let records = encoded(&head, &vec![envelopes[0].clone(); count]);
        assert_eq!(records.len(), 3);
        assert!(records.iter().all(|record| record.payload.len() <= MAX_CARRY_BYTES));
    }

    #[test]
    fn rejects_invalid_copies() {
        let (head, envelopes) = sample();
        let record = encoded(&head, &envelopes).remove(0);
        let with = |change: &dyn Fn(&mut Record)| {
            let mut record = record.clone();
            change(&mut record);
            Carry::of(&record)
        };
        for length in 0..record.payload.len() {
            let whole = length >= HEAD_BYTES && {
                let mut rest = &record.payload[HEAD_BYTES..length];
                while let Some((size, after)) = rest.split_first_chunk::<4>() {
                    let Some(next) = after.get(u32::from_be_bytes(*size) as usize..) else { break };
                    rest = next;
                }
                rest.is_empty()
            };
            assert_eq!(with(&|record| record.payload.truncate(length)).is_some(), whole, "{length}");
        }
        assert_eq!(with(&|record| record.version = 2), None);
        assert_eq!(with(&|record| record.payload[16] = 3), None, "no such state");
        assert_eq!(with(&|record| record.payload[0] ^= 1), None, "copies of another stream");
        assert_eq!(with(&|record| record.payload[80] ^= 1), None, "a copy is damaged");
        let twice = [envelopes[0].clone(), envelopes[0].clone()];
        assert_eq!(Carry::of(&encoded(&head, &twice)[0]), None, "not in order");
    }
}
