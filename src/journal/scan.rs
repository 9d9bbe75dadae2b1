//! Checks a whole journal in one pass: the chain, its end, and the index of streams.
//!
//! A batch is atomic in every store. So a crash alone never leaves records without their head or a head
//! without its records. Either case means that the store lost or retained the wrong data.

use std::collections::BTreeMap;
use uuid::Uuid;

use super::chain::{ChainProblem, Checker, Fault, Verified, open_at};
use super::envelope::{SCHEMA, genesis};
use super::record::Entry;
use super::store::{Meta, Store, StoreError};

/// The first problem of a journal, and the valid part before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    /// All records are valid up to an end that is not the head.
    pub torn: bool,
    pub problem: ChainProblem,
    pub verified: Verified,
}

struct Scan<'a> {
    meta: &'a Meta,
    checker: Checker,
    seen: BTreeMap<Uuid, Seen>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    first_position: u64,
    last_position: u64,
    last_seq: u64,
}

/// Checks all records of `store` against its [`Meta`], and passes on each valid entry.
pub(super) fn scan(store: &dyn Store, meta: &Meta, mut each: impl FnMut(Entry)) -> Result<Verified, Damage> {
    let mut scan = Scan { meta, checker: Checker::new(meta.truncated_at), seen: BTreeMap::new() };
    let truncated_at = meta.truncated_at;
    if truncated_at.position == 0 && !(1..=SCHEMA).any(|schema| genesis(schema) == truncated_at.hash) {
        return Err(scan.damage(false, 0, Fault::Genesis));
    }
    for raw in store.records(truncated_at.position.saturating_add(1)) {
        each(scan.admit(raw)?);
    }
    scan.end()?;
    scan.streams(store)?;
    Ok(scan.checker.verified())
}

impl Scan<'_> {
    fn damage(&self, torn: bool, position: u64, what: Fault) -> Damage {
        Damage { torn, problem: ChainProblem { position, what }, verified: self.checker.verified() }
    }

    fn unreadable(&self, error: &StoreError) -> Damage {
        let position = self.checker.verified().head.position.saturating_add(1);
        self.damage(false, position, Fault::Unreadable { reason: error.to_string() })
    }

    fn admit(&mut self, raw: Result<(u64, Vec<u8>), StoreError>) -> Result<Entry, Damage> {
        let (position, bytes) = raw.map_err(|error| self.unreadable(&error))?;
        let head = self.meta.head.position;
        if position > head {
            self.end()?;
            return Err(self.damage(true, position, Fault::PastHead { head }));
        }
        let entry = open_at(position, &bytes).and_then(|entry| self.checker.admit(&entry).map(|()| entry));
        let entry = entry.map_err(|ChainProblem { position, what }| self.damage(false, position, what))?;
        if entry.epoch > self.meta.epoch {
            let what = Fault::Epoch { before: entry.epoch, found: self.meta.epoch };
            return Err(self.damage(false, position, what));
        }
        let seen = Seen { first_position: position, last_position: position, last_seq: entry.seq };
        let known = self.seen.entry(entry.stream).or_insert(seen);
        *known = Seen { first_position: known.first_position, ..seen };
        Ok(entry)
    }

    /// Whether the records end at the head.
    fn end(&self) -> Result<(), Damage> {
        let (last, head) = (self.checker.verified().head, self.meta.head);
        if last.position < head.position {
            return Err(self.damage(
                true,
                last.position.saturating_add(1),
                Fault::EndsEarly { head: head.position },
            ));
        }
        if last != head {
            return Err(self.damage(false, last.position, Fault::HeadHash));
        }
        Ok(())
    }

    /// Whether the index of streams agrees with the records.
    fn streams(&self, store: &dyn Store) -> Result<(), Damage> {
        let heads = store.streams().map_err(|error| self.unreadable(&error))?;
        let mut indexed = BTreeMap::new();
        for head in heads.iter().filter(|head| head.last_position > self.meta.truncated_at.position) {
            // Only the index knows the records before the truncation point `truncated_at`.
            let first_position = head.first_position.max(self.first_seen(head.stream));
            let seen = Seen { first_position, last_position: head.last_position, last_seq: head.last_seq };
            indexed.insert(head.stream, seen);
        }
        let differs = |stream: &&Uuid| indexed.get(stream) != self.seen.get(stream);
        match self.seen.keys().chain(indexed.keys()).find(differs) {
            None => Ok(()),
            Some(stream) => {
                let position =
                    self.seen.get(stream).or(indexed.get(stream)).map_or(0, |seen| seen.last_position);
                Err(self.damage(false, position, Fault::StreamIndex { stream: *stream }))
            }
        }
    }

    fn first_seen(&self, stream: Uuid) -> u64 {
        match self.seen.get(&stream) {
            Some(seen) if self.meta.truncated_at.position > 0 => seen.first_position,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Disk, MemoryStore};
    use super::super::store::Batch;
    use super::super::testing::{batch, batches, stream};
    use super::*;

    fn store(batches: &[Batch]) -> (MemoryStore, Meta) {
        let mut store = MemoryStore::open(&Disk::new()).expect("free");
        for batch in batches {
            store.write(batch).expect("written");
        }
        let meta = store.meta().expect("readable").expect("written");
        (store, meta)
    }

    fn damage(batches: &[Batch]) -> (bool, u64, Fault) {
        let (store, meta) = store(batches);
        let damage = scan(&store, &meta, |_| ()).expect_err("damage");
        (damage.torn, damage.problem.position, damage.problem.what)
    }

    #[test]
    fn an_intact_journal_is_walked_to_its_head() {
        let (store, meta) = store(&batches(4));
        let mut positions = Vec::new();
        let verified = scan(&store, &meta, |entry| positions.push(entry.position)).expect("intact");
        assert_eq!((verified.records, verified.head), (4, meta.head));
        assert_eq!(positions, [1, 2, 3, 4]);
    }

    #[test]
    fn records_past_the_head_are_a_torn_tail() {
        let mut written = batches(4);
        written[3].meta = written[2].meta;
        assert_eq!(damage(&written), (true, 4, Fault::PastHead { head: 3 }));
    }

    #[test]
    fn head_without_records_is_torn_tail() {
        let mut written = batches(4);
        written[3].records.clear();
        assert_eq!(damage(&written), (true, 4, Fault::EndsEarly { head: 4 }));
    }

    #[test]
    fn gap_in_middle_is_not_torn_tail() {
        let mut written = batches(4);
        written[1].records.clear();
        assert_eq!(damage(&written), (false, 2, Fault::Missing { next: 3 }));
    }

    #[test]
    fn locates_every_flipped_byte_of_stored_records() {
        let length = batch(2).records[0].envelope.len();
        for index in 0..length {
            let mut written = batches(3);
            written[1].records[0].envelope[index] ^= 0x10;
            assert_eq!(damage(&written), (false, 2, Fault::Hash), "byte {index}");
        }
    }

    #[test]
    fn detects_replaced_last_record() {
        let mut written = batches(2);
        written[1].meta.head.hash[0] ^= 1;
        assert_eq!(damage(&written), (false, 2, Fault::HeadHash));
    }

    #[test]
    fn detects_other_genesis() {
        let mut written = batches(1);
        written[0].meta.truncated_at.hash[0] ^= 1;
        assert_eq!(damage(&written), (false, 0, Fault::Genesis));
    }

    #[test]
    fn detects_epoch_that_was_never_claimed() {
        let mut written = batches(1);
        written[0].meta.epoch = 0;
        assert_eq!(damage(&written), (false, 1, Fault::Epoch { before: 1, found: 0 }));
    }

    #[test]
    fn detects_inconsistent_stream_index() {
        let mut written = batches(3);
        written[2].streams[0].last_seq += 1;
        let changed = written[2].streams[0].stream;
        assert_eq!(damage(&written), (false, 3, Fault::StreamIndex { stream: changed }));

        let mut written = batches(3);
        written[0].streams.push(super::super::store::StreamHead { stream: stream(9), ..batch(1).streams[0] });
        assert_eq!(damage(&written), (false, 1, Fault::StreamIndex { stream: stream(9) }));
    }
}
