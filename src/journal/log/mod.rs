//! Writes and reads the log: a second copy of the records, in plain files beside the database.
//!
//! # Guarantees
//! - Each batch is on disk here before the database gets it. So on disks that honour syncs the log is never
//!   behind the database. It is at most one batch ahead, and no caller got an acknowledgement of that
//!   batch.
//! - Each half can be rebuilt from the other. A frame holds the envelopes byte for byte, the epoch, and
//!   whether each stream has work left.
//! - Bytes at the very end that are not a whole frame are a torn write and belong to no acknowledged
//!   record. The same bytes with a frame or a segment behind them are damage. A last frame of full length
//!   with a wrong hash is also damage if the database is missing, is broken or ends before the last valid
//!   frame ([`super::reconcile`]).
//!
//! # Layout
//! The files are `evidence/NNNNNNNN.seg`, numbered without gaps. Each has a header ([`segment`]), then
//! frames ([`frame`]), one for each batch. Above 16 MiB a segment gets a successor. The log begins with
//! number 1 and the first record. If it begins later, a checkpoint among its records says that the missing
//! records were archived ([`super::archive`]).
//!
//! # What is not here
//! The action if log and database disagree ([`super::reconcile`]).

pub(super) mod frame;
mod list;
mod segment;
mod writer;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::archive::Checkpoint;
use super::chain::{ChainProblem, Checker, Fault, open_at};
use super::envelope::{SCHEMA, genesis};
use super::error::JournalError;
use super::record::{Entry, Head};
use super::store::StreamState;
pub(super) use list::{Segment, ends, header, segments};
use segment::{HEADER_BYTES, Header, NoHeader};
pub(super) use writer::{End, LogWriter, SEGMENT_BYTES, sync_parent};

/// Largest size of a segment file, in bytes: its last frame begins below the limit of a segment.
const MAX_FILE_BYTES: u64 = SEGMENT_BYTES + (frame::MAX_BODY_BYTES as u64) + 4096;

/// The result of reading all segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogSummary {
    /// The head before the first record.
    pub start: Head,
    /// The last valid record.
    pub head: Head,
    /// The last epoch that was claimed.
    pub epoch: u64,
    /// Number of valid records.
    pub records: u64,
    /// The end of the last whole frame.
    pub end: End,
    /// Number of bytes behind the end that are not a frame.
    pub torn: u64,
    /// The problem if these bytes are a frame of full length with wrong bytes. It concerns this record,
    /// unless the record was never acknowledged.
    pub changed: Option<ChainProblem>,
    /// The first problem, apart from torn bytes.
    pub damage: Option<Damage>,
    /// The newest checkpoint among the records.
    pub checkpoint: Option<Checkpoint>,
    /// The contents of the last segment so far.
    pub tail: Tail,
}

/// The record count of a segment and the time of its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tail {
    /// Number of records.
    pub records: u64,
    /// Time of the first record, in nanoseconds since the Unix epoch.
    pub first_ns: Option<i64>,
}

impl Tail {
    /// Counts records that are added together.
    pub fn add(&mut self, records: u64, first_ns: Option<i64>) {
        self.records += records;
        self.first_ns = self.first_ns.or(first_ns);
    }
}

/// Damage in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    /// The problem, with its record.
    pub problem: ChainProblem,
    /// The highest position that any bytes behind the damage name. The log once reached it.
    pub reached: u64,
}

/// One valid batch.
pub(super) struct Admitted {
    pub epoch: u64,
    pub head: Head,
    pub records: Vec<(StreamState, Entry, Vec<u8>)>,
}

type Each<'a> = &'a mut dyn FnMut(Admitted) -> Result<(), JournalError>;

struct Reading<'a> {
    checker: Checker,
    summary: LogSummary,
    each: Each<'a>,
    /// Number of the next segment. `None` before the first.
    next: Option<u64>,
}

/// Reads all segments in `dir`, checks hashes and chain, and passes on each valid batch. `None` if there is
/// no segment.
///
/// # Errors
/// A newer Stillpoint wrote the segments, they cannot be read, or `each` failed. Damage is not an error.
pub(super) fn read(dir: &Path, each: Each<'_>) -> Result<Option<LogSummary>, JournalError> {
    let numbers = segment::list(dir).map_err(JournalError::io("read", dir))?;
    let Some(&first) = numbers.first() else { return Ok(None) };
    let mut reading = Reading::new(first, each);
    for (index, &number) in numbers.iter().enumerate() {
        let path = segment::path(dir, number);
        let bytes = load(&path).map_err(JournalError::io("read", &path))?;
        reading.segment(number, &bytes, index + 1 == numbers.len())?;
    }
    reading.begins_rightly(first);
    Ok(Some(reading.summary))
}

/// Reads one segment alone, as [`read`] does. The segment may begin at any position.
///
/// # Errors
/// As [`read`].
pub(super) fn read_segment(bytes: &[u8], each: Each<'_>) -> Result<LogSummary, JournalError> {
    let number = segment::decode(bytes).map_or(1, |header| header.number);
    let mut reading = Reading::new(number, each);
    reading.segment(number, bytes, true)?;
    Ok(reading.summary)
}

/// All bytes of a segment. Empty, and so without a valid header, if the file is too large for a segment.
fn load(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > MAX_FILE_BYTES {
        return Ok(vec![]);
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl<'a> Reading<'a> {
    fn new(first: u64, each: Each<'a>) -> Reading<'a> {
        let start = Head::genesis();
        let summary = LogSummary {
            start,
            head: start,
            epoch: 0,
            records: 0,
            end: End { segment: first, offset: 0 },
            torn: 0,
            changed: None,
            damage: None,
            checkpoint: None,
            tail: Tail::default(),
        };
        Reading { checker: Checker::new(start), summary, each, next: None }
    }

    fn segment(&mut self, number: u64, bytes: &[u8], last: bool) -> Result<(), JournalError> {
        let expected = self.next.unwrap_or(number);
        if let Some(damage) = &mut self.summary.damage {
            // Only the highest position in these bytes still matters.
            damage.reached = damage.reached.max(reach(bytes));
            return Ok(());
        }
        let header = match segment::decode(bytes) {
            Err(NoHeader::Schema(found)) if found > SCHEMA => {
                return Err(JournalError::NewerSchema { found, known: SCHEMA });
            }
            Err(_) => return self.damaged(Fault::SegmentHeader { segment: number }, bytes),
            Ok(header) if header.number != expected || number != expected => {
                return self.damaged(Fault::SegmentMissing { segment: expected }, bytes);
            }
            Ok(header) => header,
        };
        if self.next.is_none() {
            self.start(&header);
        }
        (self.next, self.summary.tail) = (Some(number.saturating_add(1)), Tail::default());
        if !self.follows(&header) {
            return self.damaged(Fault::Prev, bytes);
        }
        self.summary.end = End { segment: number, offset: HEADER_BYTES as u64 };
        self.frames(bytes, last)
    }

    fn start(&mut self, header: &Header) {
        self.checker = Checker::new(header.after);
        (self.summary.start, self.summary.head) = (header.after, header.after);
    }

    /// Whether the records before the first one were archived.
    ///
    /// SUBTLE: a lost first segment resembles an archived one. 1. An archive gets its checkpoint before its
    /// segment is removed. 2. The checkpoint follows all records that it archives. 3. So a log that begins
    /// later than the newest checkpoint says has lost records.
    fn begins_rightly(&mut self, first: u64) {
        let start = self.summary.start;
        let archived = self.summary.checkpoint.is_some_and(|checkpoint| {
            let last = checkpoint.last;
            start.position < last.position || start == last
        });
        if (first == 1 && start.position == 0) || archived || self.summary.damage.is_some() {
            return;
        }
        let segment = first.saturating_sub(1).max(1);
        let problem =
            ChainProblem { position: start.position.max(1), what: Fault::SegmentMissing { segment } };
        self.summary.damage = Some(Damage { problem, reached: self.summary.head.position });
    }

    fn follows(&self, header: &Header) -> bool {
        let begins =
            header.after.position > 0 || (1..=SCHEMA).any(|schema| genesis(schema) == header.after.hash);
        header.after == self.summary.head && begins
    }

    fn frames(&mut self, bytes: &[u8], last: bool) -> Result<(), JournalError> {
        let mut at = HEADER_BYTES;
        while at < bytes.len() {
            let Some((frame, length)) = frame::decode(&bytes[at..]) else {
                let what = Fault::Frame { segment: self.summary.end.segment, offset: at as u64 };
                if last && frame::highest(&bytes[at..]).is_none() {
                    self.torn(what, &bytes[at..]);
                    return Ok(());
                }
                return self.damaged(what, &bytes[at..]);
            };
            match self.admit(&frame) {
                Ok(admitted) => (self.each)(admitted)?,
                Err(ChainProblem { what: Fault::Schema { found, .. }, .. }) if found > SCHEMA => {
                    return Err(JournalError::NewerSchema { found, known: SCHEMA });
                }
                Err(problem) => return self.damaged(problem.what, &bytes[at..]),
            }
            at += length;
            self.summary.end.offset = at as u64;
        }
        Ok(())
    }

    fn admit(&mut self, frame: &frame::Frame<'_>) -> Result<Admitted, ChainProblem> {
        let mut records = Vec::with_capacity(frame.records.len());
        for &(state, envelope) in &frame.records {
            let position = self.checker.verified().head.position.saturating_add(1);
            let entry = open_at(position, envelope)?;
            self.checker.admit(&entry)?;
            if entry.epoch > frame.epoch {
                let what = Fault::Epoch { before: entry.epoch, found: frame.epoch };
                return Err(ChainProblem { position, what });
            }
            records.push((state, entry, envelope.to_vec()));
        }
        let verified = self.checker.verified();
        let position = verified.head.position;
        if verified.head != frame.head {
            return Err(ChainProblem { position, what: Fault::HeadHash });
        }
        if frame.epoch < self.summary.epoch {
            let what = Fault::Epoch { before: self.summary.epoch, found: frame.epoch };
            return Err(ChainProblem { position, what });
        }
        (self.summary.head, self.summary.records) = (verified.head, verified.records);
        self.summary.epoch = frame.epoch;
        let entries = || records.iter().map(|(_, entry, _): &(_, Entry, _)| entry);
        self.summary.tail.add(records.len() as u64, entries().next().map(|first| first.record.time_ns));
        let checkpoint = entries().filter_map(|entry| Checkpoint::of(&entry.record)).next_back();
        self.summary.checkpoint = checkpoint.or(self.summary.checkpoint);
        Ok(Admitted { epoch: frame.epoch, head: frame.head, records })
    }

    fn torn(&mut self, what: Fault, rest: &[u8]) {
        let position = self.summary.head.position.saturating_add(1);
        self.summary.torn = rest.len() as u64;
        self.summary.changed = frame::is_complete(rest).then_some(ChainProblem { position, what });
    }

    fn damaged(&mut self, what: Fault, rest: &[u8]) -> Result<(), JournalError> {
        let position = self.summary.head.position.saturating_add(1);
        self.summary.damage = Some(Damage { problem: ChainProblem { position, what }, reached: reach(rest) });
        Ok(())
    }
}

/// The highest position that the bytes of a segment, or of its end, name.
fn reach(bytes: &[u8]) -> u64 {
    let before = segment::decode(bytes).map_or(0, |header| header.after.position);
    before.max(frame::highest(bytes).unwrap_or(0))
}
