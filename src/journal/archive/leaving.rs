//! Reads the first segment of the log, and finds out which of its records are still needed when it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use uuid::Uuid;

use super::super::chain::{ChainProblem, Fault};
use super::super::error::JournalError;
use super::super::log::{self, Segment};
use super::super::paths;
use super::super::record::{Entry, Head, Keeps, Record};
use super::super::repair;
use super::super::store::{StreamHead, StreamState};
use super::carry::{self, Carry};
use super::index::{Gathering, Index};

/// A segment of the log that becomes an archive.
pub(crate) struct Leaving {
    pub path: PathBuf,
    /// The bytes of its file.
    pub bytes: Vec<u8>,
    /// The head before its first record.
    pub after: Head,
    /// Its last record.
    pub last: Head,
    /// The streams that ended in it.
    pub index: Index,
    /// Its records by stream and position: originals, and copies of originals that left before.
    streams: BTreeMap<Uuid, BTreeMap<u64, Copied>>,
}

struct Copied {
    seq: u64,
    /// The head that the original is, if it is in this segment.
    head: Option<Head>,
    envelope: Vec<u8>,
    record: Record,
}

/// What remains of a segment in the live journal.
pub(crate) struct Remains {
    /// The records that copy what is still needed.
    pub records: Vec<Record>,
    /// The streams of which something was left out, as they were then.
    pub left_out: Vec<StreamHead>,
    /// The positions of the copies.
    pub kept: BTreeSet<u64>,
}

impl Remains {
    /// Size of the copies in bytes.
    pub fn bytes(&self) -> u64 {
        self.records.iter().map(|record| record.payload.len() as u64).sum()
    }
}

impl Leaving {
    /// The first segment of the log that holds records, if it is whole and does not end behind `limit`. `after`
    /// is the position of the last archived record.
    ///
    /// # Errors
    /// The segment cannot be read.
    pub fn first(journal: &Path, after: u64, limit: u64) -> Result<Option<Leaving>, JournalError> {
        let dir = paths::log(journal);
        let segments = log::segments(&dir).map_err(JournalError::io("read", &dir))?;
        for pair in segments.windows(2) {
            let [Segment { after: start, path }, Segment { after: last, .. }] = pair else { continue };
            // The segment is an archive already, or it holds only claims of epochs.
            if last.position <= after || start.position == last.position {
                continue;
            }
            // A part of it would be in two archives.
            let overlaps = start.position < after;
            return (last.position <= limit && !overlaps)
                .then(|| Leaving::read(path, *start, *last))
                .transpose();
        }
        Ok(None)
    }

    /// The last record of the last whole segment that does not end behind `limit`; 0 if there is none.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn last(journal: &Path, limit: u64) -> Result<u64, JournalError> {
        let dir = paths::log(journal);
        let segments = log::segments(&dir).map_err(JournalError::io("read", &dir))?;
        let ends = segments.iter().skip(1).map(|next| next.after.position).filter(|last| *last <= limit);
        Ok(ends.max().unwrap_or(0))
    }

    /// Every segment of the log that ends at position `through` or before.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn through(journal: &Path, through: u64) -> Result<Vec<Leaving>, JournalError> {
        let dir = paths::log(journal);
        let segments = log::segments(&dir).map_err(JournalError::io("read", &dir))?;
        let ended = segments.windows(2).filter(|pair| {
            pair[1].after.position <= through && pair[0].after.position < pair[1].after.position
        });
        ended.map(|pair| Leaving::read(&pair[0].path, pair[0].after, pair[1].after)).collect()
    }

    fn read(path: &Path, after: Head, last: Head) -> Result<Leaving, JournalError> {
        let bytes = fs::read(path).map_err(JournalError::io("read", path))?;
        let (mut gathering, mut streams) = (Gathering::default(), BTreeMap::<_, BTreeMap<_, _>>::new());
        each(&bytes, after, last, &mut |state, entry, envelope| {
            gathering.admit(state, entry);
            for copy in Carry::of(&entry.record).into_iter().flat_map(|carry| carry.entries) {
                // Else the original is in this segment or in a later one.
                if copy.position <= after.position {
                    let envelope = super::super::envelope::of(&copy);
                    let copied = Copied { seq: copy.seq, head: None, envelope, record: copy.record };
                    streams.entry(copy.stream).or_default().insert(copy.position, copied);
                }
            }
            let copied = Copied {
                seq: entry.seq,
                head: Some(entry.head()),
                envelope: envelope.to_vec(),
                record: entry.record.clone(),
            };
            streams.entry(entry.stream).or_default().insert(entry.position, copied);
        })?;
        Ok(Leaving { path: path.to_owned(), bytes, after, last, index: gathering.index(), streams })
    }

    /// What remains of the segment: records of open streams, of streams that these need, and those that `keeps`
    /// selects of holding streams and their last record. `heads` are the streams of the journal now.
    pub fn remains(
        &self,
        heads: &BTreeMap<Uuid, StreamHead>,
        needed: &BTreeSet<Uuid>,
        keeps: Keeps,
        time_ns: i64,
    ) -> Remains {
        let mut remains = Remains { records: vec![], left_out: vec![], kept: BTreeSet::new() };
        for (stream, records) in &self.streams {
            // The journal's own stream is about archives and repairs. No run needs it.
            let Some(head) = heads.get(stream).filter(|_| *stream != repair::stream()) else { continue };
            let whole = head.state == StreamState::Open || needed.contains(stream);
            // With its last record a holding stream stays known.
            let is_kept = |(position, copied): &(&u64, &Copied)| {
                let is_last = **position == head.last_position;
                whole || (head.state == StreamState::Holding && (is_last || keeps(&copied.record)))
            };
            let kept: Vec<_> = records.iter().filter(is_kept).collect();
            if kept.len() < records.len() {
                remains.left_out.push(*head);
            }
            remains.kept.extend(kept.iter().map(|(position, _)| **position));
            let envelopes: Vec<&[u8]> = kept.iter().map(|(_, copied)| copied.envelope.as_slice()).collect();
            remains.records.extend(carry::records(head, &envelopes, time_ns));
        }
        remains
    }

    /// The records that leave the index with the segment, in order of position, all but those at the positions
    /// `kept`: position, stream, sequence, and the head that the record is if it is an original.
    pub fn leave(&self, kept: &BTreeSet<u64>) -> Vec<(u64, Uuid, u64, Option<Head>)> {
        let all = self.streams.iter().flat_map(|(stream, records)| {
            records.iter().map(|(position, copied)| (*position, *stream, copied.seq, copied.head))
        });
        let mut all: Vec<_> = all.filter(|(position, ..)| !kept.contains(position)).collect();
        all.sort_unstable_by_key(|(position, ..)| *position);
        all
    }
}

/// Passes on every record in the bytes of an archive with the state of its stream after it. The records
/// must be complete and lie between `after` and `last`.
pub(crate) fn each(
    bytes: &[u8],
    after: Head,
    last: Head,
    each: &mut dyn FnMut(StreamState, &Entry, &[u8]),
) -> Result<(), JournalError> {
    let summary = log::read_segment(bytes, &mut |admitted| {
        admitted.records.iter().for_each(|(state, entry, envelope)| each(*state, entry, envelope));
        Ok(())
    })?;
    let damaged = |source| Err(JournalError::Damaged { torn: false, source });
    match summary.damage {
        Some(damage) => damaged(damage),
        None if summary.torn.is_some() || (summary.start, summary.head) != (after, last) => {
            damaged(ChainProblem { position: last.position, what: Fault::SegmentShort })
        }
        None => Ok(()),
    }
}
