//! Checks the chain of records: the rules from one record to the next.
//!
//! Positions have no gaps. Each record carries the hash of the one before it. Sequences in a stream have no
//! gaps. Epochs never decrease. The module is pure: its input is entries or bytes, its output is a verdict.
//! It does not decide whether the chain ends where it should. That needs the store's own record of its
//! head.

use std::collections::BTreeMap;
use uuid::Uuid;

use super::envelope::{self, SCHEMA, genesis};
pub use super::fault::{ChainProblem, Fault};
use super::record::{Entry, Head, max_payload};

/// The valid part of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub records: u64,
    /// The last record of the chain.
    pub head: Head,
}

impl Head {
    /// The head of an empty journal that begins with the current schema.
    pub fn genesis() -> Head {
        Head { position: 0, hash: genesis(SCHEMA) }
    }

    /// The head before an entry that follows the genesis of a known schema. `None` for another entry.
    fn genesis_before(entry: &Entry) -> Option<Head> {
        let known = (1..=SCHEMA).any(|schema| genesis(schema) == entry.prev);
        known.then_some(Head { position: 0, hash: entry.prev })
    }
}

/// Checks entries one by one against the entries before them.
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

    /// Adds the next entry. The caller has checked its hash.
    ///
    /// # Errors
    /// The first rule that the entry breaks.
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
        if bytes > max_payload(entry.record.kind) {
            return Some(Fault::Oversized { bytes });
        }
        let expected = match self.streams.get(&entry.stream) {
            Some(last) => last.saturating_add(1),
            None if self.from_start => 1,
            // The beginning of the stream is in an archive.
            None => entry.seq,
        };
        let (stream, found) = (entry.stream, entry.seq);
        (found != expected).then_some(Fault::Seq { stream, expected, found })
    }

    /// The valid part so far.
    pub fn verified(&self) -> Verified {
        Verified { records: self.records, head: self.head }
    }
}

/// Checks a whole chain from its genesis, including the hash of every entry.
///
/// # Errors
/// The first problem. Later entries are not checked.
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

/// Checks that an entry carries the hash of its other fields.
///
/// # Errors
/// The hash does not match.
pub fn sealed(entry: &Entry) -> Result<(), ChainProblem> {
    match envelope::hash_of(entry) == entry.hash {
        true => Ok(()),
        false => Err(ChainProblem { position: entry.position, what: Fault::Hash }),
    }
}

/// Decodes one stored envelope.
///
/// # Errors
/// The bytes do not decode, or they belong to another position. The problem names `position`.
pub fn open_at(position: u64, bytes: &[u8]) -> Result<Entry, ChainProblem> {
    let what = match envelope::open(bytes) {
        Ok(entry) if entry.position == position => return Ok(entry),
        Ok(entry) => Fault::Misplaced { found: entry.position },
        Err(fault) => fault,
    };
    Err(ChainProblem { position, what })
}

/// Decodes stored envelopes one after the other.
///
/// A record that does not decode is yielded as a problem with its position, and the walk continues. So a
/// reader can display the records around the damage. Links are not checked.
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
    fn verifies_chain_from_given_position() {
        let chain = chain_of(5);
        let (truncated_at, head) = (chain[1].head(), chain[4].head());
        assert_eq!(check_from(truncated_at, chain[2..].to_vec()), Ok(Verified { records: 3, head }));
        assert_eq!(check_from(chain[0].head(), chain[2..].to_vec()), problem(2, Fault::Missing { next: 3 }));
    }

    #[test]
    fn a_changed_field_breaks_the_hash() {
        let mut chain = chain_of(3);
        chain[1].record.payload[0] ^= 1;
        assert_eq!(check(chain), problem(2, Fault::Hash));
    }

    #[test]
    fn forged_record_breaks_link_of_next_record() {
        let mut chain = chain_of(3);
        chain[1].record.kind += 1;
        reseal(&mut chain[1]);
        assert_eq!(check(chain), problem(3, Fault::Prev));
    }

    #[test]
    fn detects_removed_or_repeated_record() {
        let chain = chain_of(4);
        let gap = [&chain[..1], &chain[2..]].concat();
        assert_eq!(check(gap), problem(2, Fault::Missing { next: 3 }));
        let twice = [&chain[..2], &chain[1..]].concat();
        assert_eq!(check(twice), problem(3, Fault::Misplaced { found: 2 }));
    }

    #[test]
    fn epochs_never_decrease_and_sequences_are_contiguous() {
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
    fn walk_continues_past_damage() {
        let raw: Vec<(u64, Vec<u8>)> = chain_of(3)
            .iter()
            .map(|entry| {
                let Entry { schema, position, epoch, stream, seq, prev, ref record, .. } = *entry;
                (
                    position,
                    envelope::encode(&envelope::EnvelopeFields {
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
