//! Writes and reads the log: the journal itself, in plain files.
//!
//! # Guarantees
//! - Each batch is on disk here before the index gets it and before its records are acknowledged. So on disks
//!   that honour syncs the index is never ahead of the log. A frame holds the envelopes byte for byte, the
//!   epoch, and whether each stream has work left: the index can be rebuilt from it.
//! - A torn tail is at most the one frame that was being written when the power failed, at the end of the
//!   last segment. The same bytes with a frame or a segment behind them are damage. Bytes in the place of a
//!   frame that is known to have been written are damage too ([`super::judge`]).
//!
//! # Layout
//! The files are `log/NNNNNNNN.seg`, numbered without gaps. Each has a header ([`segment`]), then
//! frames ([`frame`]), one for each batch. Above 16 MiB a segment gets a successor. The log begins with
//! number 1 and the first record. If it begins later, a checkpoint among its records says that the missing
//! records were archived ([`super::archive`]).
//!
//! # What is not here
//! Whether a daemon may continue from the log ([`super::judge`]).

pub(super) mod frame;
mod list;
mod salvage;
mod segment;
mod writer;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::archive::{Carries, Checkpoint};
use super::chain::{ChainProblem, Checker, Fault, open_at};
use super::envelope::{SCHEMA, genesis};
use super::error::JournalError;
use super::record::{Entry, Head};
use super::store::StreamState;
pub(super) use list::{Segment, ends, header, segments};
pub(super) use salvage::{Salvage, salvage};
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
    /// The bytes of an interrupted write behind the end.
    pub torn: Option<Torn>,
    /// The first problem, apart from torn bytes.
    pub damage: Option<ChainProblem>,
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

/// The bytes of an interrupted write behind the last whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Torn {
    /// Number of bytes.
    pub bytes: u64,
    /// The problem if the frame in their place is known to have been written.
    pub problem: ChainProblem,
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
    carries: Carries,
    summary: LogSummary,
    each: Each<'a>,
    /// Number of the next segment. `None` before the first.
    next: Option<u64>,
    /// The position behind which nothing is read.
    limit: u64,
}

/// Reads all segments in `dir`, checks hashes and chain, and passes on each valid batch. `None` if there is
/// no segment.
///
/// # Errors
/// A newer Stillpoint wrote the segments, they cannot be read, or `each` failed. Damage is not an error.
pub(super) fn read(dir: &Path, each: Each<'_>) -> Result<Option<LogSummary>, JournalError> {
    read_up_to(dir, u64::MAX, each)
}

/// As [`read`], up to the first batch that ends at position `limit` or behind it. A daemon may write behind it
/// meanwhile.
///
/// # Errors
/// As [`read`].
pub(super) fn read_up_to(dir: &Path, limit: u64, each: Each<'_>) -> Result<Option<LogSummary>, JournalError> {
    let numbers = segment::list(dir).map_err(JournalError::io("read", dir))?;
    let Some(&first) = numbers.first() else { return Ok(None) };
    let mut reading = Reading { limit, ..Reading::new(first, each) };
    for (index, &number) in numbers.iter().enumerate() {
        if reading.is_complete() {
            break;
        }
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
            torn: None,
            damage: None,
            checkpoint: None,
            tail: Tail::default(),
        };
        Reading {
            checker: Checker::new(start),
            carries: Carries::default(),
            summary,
            each,
            next: None,
            limit: u64::MAX,
        }
    }

    /// Whether everything up to the limit or up to the first damage was read.
    fn is_complete(&self) -> bool {
        let reached = self.summary.records > 0 && self.summary.head.position >= self.limit;
        reached || self.summary.damage.is_some()
    }

    fn segment(&mut self, number: u64, bytes: &[u8], last: bool) -> Result<(), JournalError> {
        let expected = self.next.unwrap_or(number);
        let header = match segment::decode(bytes) {
            Err(NoHeader::Schema(found)) if found > SCHEMA => {
                return Err(JournalError::NewerSchema { found, known: SCHEMA });
            }
            Err(_) => return self.damaged(Fault::SegmentHeader { segment: number }),
            Ok(header) if header.number != expected || number != expected => {
                return self.damaged(Fault::SegmentMissing { segment: expected });
            }
            Ok(header) => header,
        };
        if self.next.is_none() {
            self.start(&header);
        }
        (self.next, self.summary.tail) = (Some(number.saturating_add(1)), Tail::default());
        if !self.follows(&header) {
            return self.damaged(Fault::Prev);
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
        let what = Fault::SegmentMissing { segment };
        self.summary.damage = Some(ChainProblem { position: start.position.max(1), what });
    }

    fn follows(&self, header: &Header) -> bool {
        let begins =
            header.after.position > 0 || (1..=SCHEMA).any(|schema| genesis(schema) == header.after.hash);
        header.after == self.summary.head && begins
    }

    fn frames(&mut self, bytes: &[u8], last: bool) -> Result<(), JournalError> {
        let mut at = HEADER_BYTES;
        while at < bytes.len() && !self.is_complete() {
            let Some((frame, length)) = frame::decode(&bytes[at..]) else {
                let what = Fault::Frame { segment: self.summary.end.segment, offset: at as u64 };
                if last && frame::is_torn(&bytes[at..], at as u64) {
                    self.torn(what, &bytes[at..]);
                    return Ok(());
                }
                return self.damaged(what);
            };
            match self.admit(&frame) {
                Ok(admitted) => (self.each)(admitted)?,
                Err(ChainProblem { what: Fault::Schema { found, .. }, .. }) if found > SCHEMA => {
                    return Err(JournalError::NewerSchema { found, known: SCHEMA });
                }
                Err(problem) => return self.damaged(problem.what),
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
            let copies = self.carries.admit(&entry, self.summary.start.position);
            copies.map_err(|what| ChainProblem { position, what })?;
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
        let problem = ChainProblem { position: self.summary.head.position.saturating_add(1), what };
        self.summary.torn = Some(Torn { bytes: rest.len() as u64, problem });
    }

    fn damaged(&mut self, what: Fault) -> Result<(), JournalError> {
        let position = self.summary.head.position.saturating_add(1);
        self.summary.damage = Some(ChainProblem { position, what });
        Ok(())
    }
}
