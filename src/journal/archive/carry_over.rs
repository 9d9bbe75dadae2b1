//! What is carried forward: the records of runs that had not ended where the archives end.
//!
//! An archive takes every record up to its end, also those of a run that is stuck. A copy of these, byte for byte with
//! their old positions and hashes, stays in one file beside the journal, so that a start reads what it goes on with
//! from there and not from archives, which may be large, many, and elsewhere. With each archiving a new one is made
//! from the one before it and from what is archived; the [`Checkpoint`](super::Checkpoint) names its hash.
//!
//! It follows from the archives alone, so that a lost one is made anew from them. It holds the streams whose last
//! archived record says that work is left and those that their records refer to ([`Links`]), ended or not: the first asks for
//! the end of each when it goes on.
//!
//! Version 1 of the file, big-endian; where nothing is carried there is no file:
//!
//! | bytes | field |
//! |---:|---|
//! | 8 | `SPcarry1` |
//! | 8 | number n of streams |
//! | | n times, by id: 1 byte, 1 if no work is left; 16 bytes id; 8 bytes length; records |
//! | | a record: 4 bytes length; envelope |
//! | 32 | BLAKE3 hash of all bytes before it |
//!
//! Not here: when it is made ([`super::seal`]) and who reads it ([`super::kept`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use uuid::Uuid;

use super::super::envelope;
use super::super::record::{Entry, Links};
use super::super::repair;
use super::super::store::StreamState;

const MAGIC: &[u8; 8] = b"SPcarry1";
const FRONT: usize = 16;

/// Streams with their records, from the first archived one on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CarryOver(BTreeMap<Uuid, Run>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    state: StreamState,
    records: Vec<Vec<u8>>,
    /// Streams without which it cannot go on.
    needs: Vec<Uuid>,
}

/// Bytes of a stream in the file before its records: state, id, length.
const HEAD_BYTES: usize = 1 + 16 + 8;

impl Run {
    /// Bytes of the records in the file.
    fn length(&self) -> usize {
        self.records.iter().map(|record| record.len() + 4).sum()
    }
}

/// Where a stream stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub stream: Uuid,
    pub state: StreamState,
    pub at: Range<usize>,
}

impl CarryOver {
    /// Takes the next archived record.
    pub fn admit(&mut self, links: Links, state: StreamState, entry: &Entry, envelope: &[u8]) {
        if entry.stream == repair::stream() {
            return;
        }
        let run = self.0.entry(entry.stream);
        let run = run.or_insert_with(|| Run { state, records: vec![], needs: vec![] });
        run.state = state;
        run.records.push(envelope.to_vec());
        run.needs.extend(links(&entry.record));
    }

    /// Lets go of what has ended and is needed by nothing that has not.
    pub fn reconcile(&mut self) {
        let open = self.0.values().filter(|run| run.state == StreamState::Open);
        let needed: BTreeSet<Uuid> = open.flat_map(|run| &run.needs).copied().collect();
        self.0.retain(|id, run| run.state == StreamState::Open || needed.contains(id));
    }

    /// How many streams there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The file; none if nothing is carried.
    pub fn encode(&self) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        let length: usize = self.0.values().map(|run| HEAD_BYTES + run.length()).sum();
        let mut bytes = Vec::with_capacity(FRONT + length + 32);
        self.each_piece(&mut |piece| bytes.extend(piece));
        let hash = super::hash(&bytes);
        bytes.extend(hash);
        Some(bytes)
    }

    /// Hash of the file, which is not put together for it; none if nothing is carried.
    pub fn hash(&self) -> Option<[u8; 32]> {
        if self.0.is_empty() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        self.each_piece(&mut |piece| {
            hasher.update(piece);
        });
        let end = hasher.finalize();
        Some(*hasher.update(end.as_bytes()).finalize().as_bytes())
    }

    /// All of the file but the hash at its end.
    fn each_piece(&self, take: &mut dyn FnMut(&[u8])) {
        take(MAGIC);
        take(&(self.0.len() as u64).to_be_bytes());
        for (id, run) in &self.0 {
            take(&[u8::from(run.state == StreamState::Finished)]);
            take(id.as_bytes());
            take(&(run.length() as u64).to_be_bytes());
            for record in &run.records {
                let length = u32::try_from(record.len()).expect("an envelope is far below 4 GiB");
                take(&length.to_be_bytes());
                take(record);
            }
        }
    }

    /// None for bytes that are no such file.
    pub fn decode(bytes: &[u8], links: Links) -> Option<CarryOver> {
        let mut carried = CarryOver::default();
        for Place { stream, state, at } in places(bytes)? {
            for envelope in envelopes(bytes.get(at)?)? {
                let entry = envelope::open(envelope).ok().filter(|entry| entry.stream == stream)?;
                carried.admit(links, state, &entry, envelope);
            }
        }
        Some(carried)
    }
}

/// Where each stream stands; none for bytes that are no such file.
pub(super) fn places(bytes: &[u8]) -> Option<Vec<Place>> {
    let (body, hash) = bytes.split_last_chunk::<32>()?;
    let rest = body.strip_prefix(MAGIC).filter(|_| super::hash(body) == *hash)?;
    let (count, _) = rest.split_first_chunk::<8>()?;
    let (mut places, mut at) = (Vec::<Place>::new(), FRONT);
    while at < body.len() {
        let (head, rest) = body.get(at..)?.split_first_chunk::<25>()?;
        let state = match head[0] {
            0 => StreamState::Open,
            1 => StreamState::Finished,
            _ => return None,
        };
        let stream = Uuid::from_slice(&head[1..17]).ok()?;
        let length = head[17..].try_into().map(u64::from_be_bytes).ok()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len())?;
        if places.last().is_some_and(|last| last.stream >= stream) {
            return None;
        }
        at += head.len();
        places.push(Place { stream, state, at: at..at + length });
        at += length;
    }
    (u64::from_be_bytes(*count) == places.len() as u64).then_some(places)
}

/// The envelopes of one stream; none for other bytes.
pub(super) fn envelopes(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut envelopes = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (envelope, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        envelopes.push(envelope);
        bytes = rest;
    }
    Some(envelopes)
}

#[cfg(test)]
mod tests {
    use super::super::super::record::no_links;
    use super::super::super::testing::{batches, stream};
    use super::*;

    /// Streams 2 and 1 take turns; the second has ended with its last record.
    fn sample() -> CarryOver {
        let mut carried = CarryOver::default();
        for batch in batches(6) {
            let envelope = &batch.slots[0].envelope;
            let entry = envelope::open(envelope).expect("just sealed");
            let ends = batch.slots[0].position == 6;
            carried.admit(
                no_links,
                if ends { StreamState::Finished } else { StreamState::Open },
                &entry,
                envelope,
            );
        }
        carried
    }

    #[test]
    fn what_has_ended_is_let_go_of_and_the_rest_reads_back_byte_for_byte() {
        let mut carried = sample();
        assert_eq!(carried.len(), 2);
        carried.reconcile();
        assert_eq!(carried.len(), 1);
        let bytes = carried.encode().expect("something is carried");
        assert_eq!(carried.hash(), Some(super::super::hash(&bytes)));
        assert_eq!(bytes.len(), bytes.capacity(), "it is known how long it will be");
        assert_eq!(CarryOver::decode(&bytes, no_links).as_ref(), Some(&carried));
        let places = places(&bytes).expect("whole");
        assert_eq!((places.len(), places[0].stream, places[0].state), (1, stream(2), StreamState::Open));
        let kept: Vec<_> = envelopes(&bytes[places[0].at.clone()]).expect("whole");
        let written: Vec<_> = batches(6).into_iter().map(|batch| batch.slots[0].envelope.clone()).collect();
        assert_eq!(kept, [&written[0], &written[2], &written[4]]);
        assert_eq!(CarryOver::default().encode(), None, "nothing is carried in no file");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let bytes = sample().encode().expect("something is carried");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(places(&flipped), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(places(&bytes[..length]), None, "first {length} bytes");
        }
    }

    #[test]
    fn bytes_that_say_more_than_is_there_are_no_such_file() {
        let sealed = |mut bytes: Vec<u8>| {
            let hash = super::super::hash(&bytes);
            bytes.extend(hash);
            bytes
        };
        let stream =
            |state: u8, length: u64| [vec![state], vec![7; 16], length.to_be_bytes().to_vec()].concat();
        let file =
            |count: u64, rest: Vec<u8>| sealed([MAGIC.to_vec(), count.to_be_bytes().to_vec(), rest].concat());
        assert!(places(&file(1, stream(0, 0))).is_some());
        for wrong in [
            file(2, stream(0, 0)),
            file(1, stream(2, 0)),
            file(1, stream(0, u64::MAX)),
            file(1, stream(0, 1)),
            file(2, [stream(0, 0), stream(1, 0)].concat()),
            file(1, vec![0; 24]),
        ] {
            assert_eq!(places(&wrong), None);
        }
        assert_eq!(envelopes(&[0, 0, 0, 9, 1]), None);
        assert_eq!(CarryOver::decode(&file(1, [stream(0, 5), vec![0, 0, 0, 1, 9]].concat()), no_links), None);
    }
}
