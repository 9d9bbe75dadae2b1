//! Lists the streams that ended in an archive.
//!
//! The index follows from the archive alone, so each of the two files verifies the other. The index is
//! small enough to stay with the journal when archives are moved elsewhere. Version 1 of the file,
//! big-endian:
//!
//! | bytes | field |
//! |---:|---|
//! | 8 | `SPended1` |
//! | 8 | number n of streams |
//! | 16 n | their ids, ascending |
//! | 32 | BLAKE3 hash of all bytes before it |
//!
//! A stream ended in the archive that holds its last record, if that record says that no work is left. The
//! journal's own stream is not in the index.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::super::record::Entry;
use super::super::repair;
use super::super::store::StreamState;

const MAGIC: &[u8; 8] = b"SPended1";
const FRONT: usize = 16;

/// Ids in ascending order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Index(Vec<[u8; 16]>);

impl Index {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn contains(&self, stream: Uuid) -> bool {
        self.0.binary_search(stream.as_bytes()).is_ok()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRONT + 16 * self.0.len() + 32);
        bytes.extend(MAGIC);
        bytes.extend((self.0.len() as u64).to_be_bytes());
        self.0.iter().for_each(|id| bytes.extend(id));
        let hash = super::hash(&bytes);
        bytes.extend(hash);
        bytes
    }

    /// Decodes the file. `None` if the bytes are not an index.
    pub fn decode(bytes: &[u8]) -> Option<Index> {
        let (body, hash) = bytes.split_last_chunk::<32>()?;
        let rest = body.strip_prefix(MAGIC).filter(|_| super::hash(body) == *hash)?;
        let (count, ids) = rest.split_first_chunk::<8>()?;
        let (ids, left) = ids.as_chunks::<16>();
        let whole = left.is_empty() && u64::from_be_bytes(*count) == ids.len() as u64;
        (whole && ids.is_sorted_by(|one, next| one < next)).then(|| Index(ids.to_vec()))
    }
}

/// Collects an index from the records of an archive, in their order.
#[derive(Default)]
pub(super) struct Gathering(BTreeMap<Uuid, StreamState>);

impl Gathering {
    pub fn admit(&mut self, state: StreamState, entry: &Entry) {
        if entry.stream != repair::stream() {
            self.0.insert(entry.stream, state);
        }
    }

    pub fn index(self) -> Index {
        let ended = self.0.into_iter().filter(|(_, state)| *state == StreamState::Finished);
        Index(ended.map(|(id, _)| id.into_bytes()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{chain_of, stream};
    use super::*;

    #[test]
    fn index_has_finished_streams_and_round_trips() {
        // Streams 2 and 1 alternate: records 1 and 3 belong to stream 2, records 2 and 4 to stream 1.
        let chain = chain_of(4);
        let mut gathering = Gathering::default();
        let states = [StreamState::Open, StreamState::Finished, StreamState::Finished, StreamState::Open];
        chain.iter().zip(states).for_each(|(entry, state)| gathering.admit(state, entry));
        let index = gathering.index();
        assert_eq!(index.len(), 1);
        assert!(index.contains(stream(2)) && !index.contains(stream(1)), "stream 1 was opened again");
        assert_eq!(Index::decode(&index.encode()), Some(index));
    }

    #[test]
    fn detects_every_flipped_bit_and_truncation() {
        let index = Index(vec![[1; 16], [2; 16], [9; 16]]);
        let bytes = index.encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Index::decode(&flipped), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(Index::decode(&bytes[..length]), None, "first {length} bytes");
        }
        assert_eq!(Index::decode(&Index(vec![[2; 16], [1; 16]]).encode()), None, "out of order");
    }
}
