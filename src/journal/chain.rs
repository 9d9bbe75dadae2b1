//! The chain of records: what must hold from one record to the next.
//!
//! Positions have no gaps, each record carries the hash of the one before it, sequences in a
//! stream have no gaps, epochs never fall. Pure: entries or bytes go in, a verdict comes out.
//! Whether the end of the chain is where it should be is not decided here: that
//! needs the store's account of its own head.

use std::collections::BTreeMap;
use uuid::Uuid;

use super::envelope::{self, MAX_PAYLOAD_BYTES, SCHEMA, genesis};
use super::record::{Entry, Head};

/// What is wrong, and with which record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {position}: {what}")]
pub struct ChainProblem {
    /// Position of the record that is wrong, or at which one is missing.
    pub position: u64,
    /// What is wrong with it.
    pub what: Fault,
}

/// The ways in which a record, or a chain, can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Fewer bytes than an envelope has.
    #[error("only {bytes} bytes, too few for an envelope")]
    Short {
        /// How many there are.
        bytes: usize,
    },
    /// The bytes are not those that were hashed.
    #[error("its hash does not hold")]
    Hash,
    /// A schema this binary does not know.
    #[error("written with schema {found}; this stillpoint reads schemas up to {known}")]
    Schema {
        /// The schema of the envelope.
        found: u16,
        /// The newest that this binary reads.
        known: u16,
    },
    /// A payload codec this binary does not know.
    #[error("payload codec {found} is not known")]
    Codec {
        /// The codec byte of the envelope.
        found: u8,
    },
    /// The length field disagrees with the bytes.
    #[error("declares a payload of {declared} bytes but holds {found}")]
    Length {
        /// What the envelope says.
        declared: u32,
        /// What is there.
        found: usize,
    },
    /// A payload that no writer would have accepted.
    #[error("payload of {bytes} bytes is above the limit of {MAX_PAYLOAD_BYTES}")]
    Oversized {
        /// Its size.
        bytes: usize,
    },
    /// It is stored under another position than its own.
    #[error("its envelope says that it is record {found}")]
    Misplaced {
        /// The position in the envelope.
        found: u64,
    },
    /// The record that should stand here is missing.
    #[error("is missing; record {next} comes next")]
    Missing {
        /// The position that was found instead.
        next: u64,
    },
    /// It does not follow the record before it.
    #[error("does not carry the hash of the record before it")]
    Prev,
    /// A record of an earlier epoch after one of a later epoch.
    #[error("epoch fell from {before} to {found}")]
    Epoch {
        /// Epoch of the record before it.
        before: u64,
        /// Its own epoch.
        found: u64,
    },
    /// A gap or a repetition within a stream.
    #[error("is number {found} of stream {stream}, expected {expected}")]
    Seq {
        /// The stream.
        stream: Uuid,
        /// The sequence that continues it.
        expected: u64,
        /// The sequence that was found.
        found: u64,
    },
    /// The store's account of its head names another hash.
    #[error("is not the record that the journal's head names")]
    HeadHash,
    /// The store's account of a stream disagrees with the records.
    #[error("the index of stream {stream} disagrees with its records")]
    StreamIndex {
        /// The stream.
        stream: Uuid,
    },
    /// The records end before the head does.
    #[error("is missing; the journal's head is record {head}")]
    EndsEarly {
        /// Position of the head.
        head: u64,
    },
    /// There are records past the head.
    #[error("stands after the journal's head, record {head}")]
    PastHead {
        /// Position of the head.
        head: u64,
    },
    /// There is no record at all.
    #[error("is missing: there are no records at all")]
    Empty,
    /// The journal ends before a head that was published.
    #[error("is missing; a head at record {expected} was published")]
    Cut {
        /// Position of the published head.
        expected: u64,
    },
    /// The journal has another record where a published head was.
    #[error("is not the record whose head was published")]
    OtherHistory,
    /// The published head is older than what the journal still holds.
    #[error("was archived, and the archive is not here: give its directory with --archive")]
    Archived,
    /// The journal ends in an earlier epoch than the last that was claimed.
    #[error("is missing; the journal ends in epoch {found}, but epoch {claimed} had been claimed")]
    LostEpoch {
        /// The epoch that the journal knows.
        found: u64,
        /// The epoch in `owner.json`.
        claimed: u64,
    },
    /// The journal does not begin with a known genesis hash.
    #[error("the chain does not begin with a known genesis hash")]
    Genesis,
    /// A segment of evidence does not begin as one.
    #[error("cannot be read: segment {segment} of the evidence has no valid header")]
    SegmentHeader {
        /// Number of the segment.
        segment: u64,
    },
    /// A segment of evidence is not there.
    #[error("is missing: there is no segment {segment} of the evidence")]
    SegmentMissing {
        /// Number of the segment.
        segment: u64,
    },
    /// Bytes of a segment are no frame, and are not its torn end.
    #[error("cannot be read: segment {segment} of the evidence is damaged at byte {offset}")]
    Frame {
        /// Number of the segment.
        segment: u64,
        /// Where in its file.
        offset: u64,
    },
    /// The evidence ends before a database that is broken.
    #[error("is not in the evidence, which ends before it or has another history")]
    EvidenceShort,
    /// The database and the evidence are both whole, and have different records.
    #[error("is another one in the database than in the evidence")]
    TwoHistories,
    /// An archive is not the one that its checkpoint names.
    #[error("is in archive {name}, which is not the file that its checkpoint names")]
    ArchiveFile {
        /// Name of the file.
        name: String,
    },
    /// What is carried forward behind the last archive is not what its checkpoint names.
    #[error(
        "is the last archived one; {name}, with the records of runs that had not ended there, cannot be used: {what}"
    )]
    CarryOver {
        /// Name of the file.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The store itself could not be read here.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// What the store said.
        reason: String,
    },
}

/// A chain that held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many records were checked.
    pub records: u64,
    /// Where the chain ends.
    pub head: Head,
}

impl Head {
    /// The head of an empty journal that begins with the present schema.
    pub fn genesis() -> Head {
        Head { position: 0, hash: genesis(SCHEMA) }
    }

    /// The head before an entry that follows the genesis of any known schema; none for another entry.
    fn genesis_before(entry: &Entry) -> Option<Head> {
        let known = (1..=SCHEMA).any(|schema| genesis(schema) == entry.prev);
        known.then_some(Head { position: 0, hash: entry.prev })
    }
}

/// Checks entries one by one against what came before them.
pub struct Checker {
    records: u64,
    head: Head,
    epoch: u64,
    from_start: bool,
    streams: BTreeMap<Uuid, u64>,
}

impl Checker {
    /// Starts after `start`: the genesis head, or the last record of an archived prefix.
    pub fn new(start: Head) -> Checker {
        Checker {
            records: 0,
            head: start,
            epoch: 0,
            from_start: start.position == 0,
            streams: BTreeMap::new(),
        }
    }

    /// Takes the next entry, whose hash is known to hold.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn admit(&mut self, entry: &Entry) -> Result<(), ChainProblem> {
        let next = self.head.position.saturating_add(1);
        let (position, what) = if entry.position > next {
            (next, Fault::Missing { next: entry.position })
        } else if entry.position < next {
            (next, Fault::Misplaced { found: entry.position })
        } else if let Some(fault) = self.fault(entry) {
            (entry.position, fault)
        } else {
            self.records += 1;
            self.head = entry.head();
            self.epoch = entry.epoch;
            self.streams.insert(entry.stream, entry.seq);
            return Ok(());
        };
        Err(ChainProblem { position, what })
    }

    fn fault(&self, entry: &Entry) -> Option<Fault> {
        if entry.prev != self.head.hash {
            return Some(Fault::Prev);
        }
        if entry.epoch < self.epoch {
            return Some(Fault::Epoch { before: self.epoch, found: entry.epoch });
        }
        let bytes = entry.record.payload.len();
        if bytes > MAX_PAYLOAD_BYTES {
            return Some(Fault::Oversized { bytes });
        }
        let expected = match self.streams.get(&entry.stream) {
            Some(last) => last.saturating_add(1),
            None if self.from_start => 1,
            // The beginning of the stream went to the archive.
            None => entry.seq,
        };
        let (stream, found) = (entry.stream, entry.seq);
        (found != expected).then_some(Fault::Seq { stream, expected, found })
    }

    /// What held so far.
    pub fn verified(&self) -> Verified {
        Verified { records: self.records, head: self.head }
    }
}

/// Checks a whole chain from its genesis, the hash of every entry included.
///
/// # Errors
/// The first problem; nothing after it is looked at.
pub fn check(entries: impl IntoIterator<Item = Entry>) -> Result<Verified, ChainProblem> {
    let mut entries = entries.into_iter().peekable();
    let start = entries.peek().and_then(Head::genesis_before).unwrap_or(Head::genesis());
    check_from(start, entries)
}

/// Checks the part of a chain that follows `start`.
///
/// # Errors
/// As [`check`].
pub fn check_from(start: Head, entries: impl IntoIterator<Item = Entry>) -> Result<Verified, ChainProblem> {
    let mut checker = Checker::new(start);
    for entry in entries {
        sealed(&entry)?;
        checker.admit(&entry)?;
    }
    Ok(checker.verified())
}

/// Whether an entry carries the hash of its other fields.
///
/// # Errors
/// It does not.
pub fn sealed(entry: &Entry) -> Result<(), ChainProblem> {
    match envelope::hash_of(entry) == entry.hash {
        true => Ok(()),
        false => Err(ChainProblem { position: entry.position, what: Fault::Hash }),
    }
}

/// Opens one stored envelope.
///
/// # Errors
/// Bytes that do not decode, or that belong to another position, with the position they were at.
pub fn open_at(position: u64, bytes: &[u8]) -> Result<Entry, ChainProblem> {
    let what = match envelope::open(bytes) {
        Ok(entry) if entry.position == position => return Ok(entry),
        Ok(entry) => Fault::Misplaced { found: entry.position },
        Err(fault) => fault,
    };
    Err(ChainProblem { position, what })
}

/// Opens stored envelopes one after the other.
///
/// A record that does not decode is yielded as a problem with its position and the walk goes on,
/// so that a reader can show what surrounds the damage. Links are not checked.
pub fn walk(
    raw: impl IntoIterator<Item = (u64, Vec<u8>)>,
) -> impl Iterator<Item = Result<Entry, ChainProblem>> {
    raw.into_iter().map(|(position, bytes)| open_at(position, &bytes))
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::super::testing::{chain_of, stream};
    use super::*;

    fn problem(position: u64, what: Fault) -> Result<Verified, ChainProblem> {
        Err(ChainProblem { position, what })
    }

    fn reseal(entry: &mut Entry) {
        entry.hash = envelope::hash_of(entry);
    }

    #[test]
    fn an_intact_chain_is_verified() {
        let chain = chain_of(5);
        let head = chain[4].head();
        assert_eq!(check(chain), Ok(Verified { records: 5, head }));
        assert_eq!(check([]), Ok(Verified { records: 0, head: Head::genesis() }));
    }

    #[test]
    fn a_chain_can_be_checked_from_a_cut() {
        let chain = chain_of(5);
        let (cut, head) = (chain[1].head(), chain[4].head());
        assert_eq!(check_from(cut, chain[2..].to_vec()), Ok(Verified { records: 3, head }));
        assert_eq!(check_from(chain[0].head(), chain[2..].to_vec()), problem(2, Fault::Missing { next: 3 }));
    }

    #[test]
    fn a_changed_field_breaks_the_hash() {
        let mut chain = chain_of(3);
        chain[1].record.payload[0] ^= 1;
        assert_eq!(check(chain), problem(2, Fault::Hash));
    }

    #[test]
    fn a_forged_record_breaks_the_link_of_the_next() {
        let mut chain = chain_of(3);
        chain[1].record.kind += 1;
        reseal(&mut chain[1]);
        assert_eq!(check(chain), problem(3, Fault::Prev));
    }

    #[test]
    fn a_removed_or_repeated_record_is_seen() {
        let chain = chain_of(4);
        let gap = [&chain[..1], &chain[2..]].concat();
        assert_eq!(check(gap), problem(2, Fault::Missing { next: 3 }));
        let twice = [&chain[..2], &chain[1..]].concat();
        assert_eq!(check(twice), problem(3, Fault::Misplaced { found: 2 }));
    }

    #[test]
    fn epochs_never_fall_and_sequences_have_no_gaps() {
        let mut chain = chain_of(3);
        chain[2].epoch = 0;
        reseal(&mut chain[2]);
        assert_eq!(check(chain), problem(3, Fault::Epoch { before: 1, found: 0 }));

        let mut chain = chain_of(3);
        chain[2].seq += 1;
        reseal(&mut chain[2]);
        let (expected, found) = (chain[2].seq - 1, chain[2].seq);
        let stream = chain[2].stream;
        assert_eq!(check(chain), problem(3, Fault::Seq { stream, expected, found }));
    }

    #[test]
    fn a_stream_begins_with_one() {
        let record = Record { kind: 1, version: 1, time_ns: 0, payload: vec![] };
        let (stream, prev) = (stream(1), Head::genesis().hash);
        let mut entry =
            Entry { schema: SCHEMA, position: 1, epoch: 1, stream, seq: 2, prev, hash: [0; 32], record };
        reseal(&mut entry);
        assert_eq!(check([entry]), problem(1, Fault::Seq { stream, expected: 1, found: 2 }));
    }

    #[test]
    fn the_walk_goes_past_damage() {
        let raw: Vec<(u64, Vec<u8>)> = chain_of(3)
            .iter()
            .map(|entry| {
                let Entry { schema, position, epoch, stream, seq, prev, ref record, .. } = *entry;
                (
                    position,
                    envelope::seal(&envelope::EnvelopeFields {
                        schema,
                        position,
                        epoch,
                        stream,
                        seq,
                        prev,
                        record,
                    })
                    .0,
                )
            })
            .collect();
        let mut damaged = raw.clone();
        damaged[1].1.truncate(10);
        damaged[2].0 = 9;
        let seen: Vec<_> = walk(damaged).map(|entry| entry.map(|entry| entry.position)).collect();
        let short = ChainProblem { position: 2, what: Fault::Short { bytes: 10 } };
        let misplaced = ChainProblem { position: 9, what: Fault::Misplaced { found: 3 } };
        assert_eq!(seen, [Ok(1), Err(short), Err(misplaced)]);
    }
}
