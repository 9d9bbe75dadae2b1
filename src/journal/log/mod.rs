//! Evidence: the records a second time, in plain files beside the database.
//!
//! # What it promises
//! - Each batch is on disk here before the database sees it. So on disks that keep their word the
//!   evidence is never behind the database, and at most one batch ahead of it, which nobody has seen
//!   acknowledged.
//! - Either can be made anew from the other: a frame holds the envelopes byte for byte, the epoch,
//!   and whether each stream has work left.
//! - Bytes that are no whole frame at the very end are a torn write and belong to no record that was
//!   acknowledged. The same with a frame or a segment behind them is damage; so is a last frame with all its bytes that
//!   does not hold, where the database does not reach it either ([`super::reconcile`]).
//!
//! # Layout
//! `evidence/NNNNNNNN.seg`, counted without gaps: a header ([`segment`]), then frames ([`frame`]), one for each batch.
//! Above 16 MiB a segment gets a successor. They begin with number 1 and the first record; where they begin later, a
//! checkpoint among their records says that what is missing was archived ([`super::archive`]).
//!
//! # What is not here
//! What is done when the two disagree ([`super::reconcile`]).

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

/// Above this a file is no segment: its last frame begins below the limit of a segment.
const MAX_FILE_BYTES: u64 = SEGMENT_BYTES + (frame::MAX_BODY_BYTES as u64) + 4096;

/// What a reading of all segments found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogSummary {
    /// What the first record follows.
    pub start: Head,
    /// The last record that held.
    pub head: Head,
    /// The last epoch that was claimed.
    pub epoch: u64,
    /// How many records held.
    pub records: u64,
    /// Where the last whole frame ends.
    pub end: End,
    /// Bytes behind the end that are no frame.
    pub torn: u64,
    /// They are a frame with all its bytes, of which some are wrong: this record is, unless it was never acknowledged.
    pub changed: Option<ChainProblem>,
    /// The first thing that is wrong, torn bytes apart.
    pub damage: Option<Damage>,
    /// The newest checkpoint among the records.
    pub checkpoint: Option<Checkpoint>,
    /// What the last segment holds so far.
    pub tail: Tail,
}

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tail {
    /// How many records.
    pub records: u64,
    /// Time of the first, in nanoseconds since the Unix epoch.
    pub first_ns: Option<i64>,
}

impl Tail {
    /// Counts records that are added at once.
    pub fn add(&mut self, records: u64, first_ns: Option<i64>) {
        self.records += records;
        self.first_ns = self.first_ns.or(first_ns);
    }
}

/// What is wrong with evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    /// With which record.
    pub problem: ChainProblem,
    /// The highest position that anything behind the damage names: the evidence once reached it.
    pub reached: u64,
}

/// One batch that held.
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
    /// Number of the segment that comes next; none before the first.
    next: Option<u64>,
}

/// Reads all segments in `dir`, checks hashes and chain, and hands out each batch that held. None if
/// there is no segment.
///
/// # Errors
/// A newer Stillpoint wrote them, they cannot be read, or `each` failed. Damage is no error.
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

/// Reads one segment by itself, wherever it begins, as [`read`] does.
///
/// # Errors
/// As [`read`].
pub(super) fn read_segment(bytes: &[u8], each: Each<'_>) -> Result<LogSummary, JournalError> {
    let number = segment::decode(bytes).map_or(1, |header| header.number);
    let mut reading = Reading::new(number, each);
    reading.segment(number, bytes, true)?;
    Ok(reading.summary)
}

/// All bytes of a segment; of a file that is too large to be one, none, which is no header.
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
            // Only how far it reaches is still of interest.
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

    /// Whether what is missing before the first record was archived.
    ///
    /// SUBTLE: a first segment that was lost looks like one that was archived. 1. An archive gets its checkpoint before
    /// its segment leaves; 2. the checkpoint stands behind all that it archives; 3. so evidence that begins later than
    /// the newest checkpoint says has lost something.
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
