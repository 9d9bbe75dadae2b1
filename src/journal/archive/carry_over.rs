//! Copies the records that runs without an end still need from the archives: the carry-over.
//!
//! An archive takes every record up to its end, including the records of a run that is stuck. One file
//! beside the journal holds a copy of the records of such runs, byte for byte, with their old positions and
//! hashes. A start reads the records of unfinished runs from this file. It does not read archives, which
//! may be large, many, and stored elsewhere. Each archiving builds a new file from the previous one and
//! from the records that it archives. The [`Checkpoint`](super::Checkpoint) names the hash of the file.
//!
//! The file follows from the archives alone, so a lost file is rebuilt from them. It holds two groups of
//! streams: the streams whose last archived record says that work is left, and the streams that their
//! records refer to ([`Links`]), finished or not. An unfinished run reads the end of each of these when it
//! is resumed.
//!
//! Version 1 of the file, big-endian. There is no file if there is no carry-over:
//!
//! | bytes | field |
//! |---:|---|
//! | 8 | `SPcarry1` |
//! | 8 | number n of streams |
//! | | n times, by id: 1 byte, 1 if no work is left; 16 bytes id; 8 bytes length; records |
//! | | a record: 4 bytes length; envelope |
//! | 32 | BLAKE3 hash of all bytes before it |
//!
//! Not here: when the file is written ([`super::seal`]) and how it is read ([`super::carry_over_file`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use uuid::Uuid;

use super::super::envelope;
use super::super::record::{Entry, Links};
use super::super::repair;
use super::super::store::StreamState;

const MAGIC: &[u8; 8] = b"SPcarry1";
const FRONT: usize = 16;

/// Streams with their records, starting with the first archived record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CarryOver(BTreeMap<Uuid, Run>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    state: StreamState,
    records: Vec<Vec<u8>>,
    /// Streams that this stream needs to be resumed.
    needs: Vec<Uuid>,
}

/// Length of the fields of a stream before its records, in bytes: state, id, length.
const HEAD_BYTES: usize = 1 + 16 + 8;

impl Run {
    /// Length of the records in the file, in bytes.
    fn length(&self) -> usize {
        self.records.iter().map(|record| record.len() + 4).sum()
    }
}

/// The location of a stream in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub stream: Uuid,
    pub state: StreamState,
    pub at: Range<usize>,
}

impl CarryOver {
    /// Adds the next archived record.
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

    /// Drops each finished stream that no unfinished stream needs.
    pub fn drop_finished(&mut self) {
        let open = self.0.values().filter(|run| run.state == StreamState::Open);
        let needed: BTreeSet<Uuid> = open.flat_map(|run| &run.needs).copied().collect();
        self.0.retain(|id, run| run.state == StreamState::Open || needed.contains(id));
    }

    /// Number of streams.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Encodes the file. `None` if there is no carry-over.
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

    /// Computes the hash of the file without building the file. `None` if there is no carry-over.
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

    /// Passes on the file in pieces, without the hash at its end.
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

    /// Decodes the file. `None` if the bytes are not a valid file.
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

/// The location of each stream. `None` if the bytes are not a valid file.
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

/// The envelopes of one stream. `None` for other bytes.
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

    /// Streams 2 and 1 alternate. Stream 1 ends with its last record.
    fn sample() -> CarryOver {
        let mut carried = CarryOver::default();
        for batch in batches(6) {
            let envelope = &batch.records[0].envelope;
            let entry = envelope::open(envelope).expect("just sealed");
            let ends = batch.records[0].position == 6;
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
    fn drops_ended_streams_and_preserves_the_rest() {
        let mut carried = sample();
        assert_eq!(carried.len(), 2);
        carried.drop_finished();
        assert_eq!(carried.len(), 1);
        let bytes = carried.encode().expect("something is carried");
        assert_eq!(carried.hash(), Some(super::super::hash(&bytes)));
        assert_eq!(bytes.len(), bytes.capacity(), "it is known how long it will be");
        assert_eq!(CarryOver::decode(&bytes, no_links).as_ref(), Some(&carried));
        let places = places(&bytes).expect("whole");
        assert_eq!((places.len(), places[0].stream, places[0].state), (1, stream(2), StreamState::Open));
        let kept: Vec<_> = envelopes(&bytes[places[0].at.clone()]).expect("whole");
        let written: Vec<_> = batches(6).into_iter().map(|batch| batch.records[0].envelope.clone()).collect();
        assert_eq!(kept, [&written[0], &written[2], &written[4]]);
        assert_eq!(CarryOver::default().encode(), None, "nothing is carried in no file");
    }

    #[test]
    fn detects_every_flipped_bit_and_truncation() {
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
    fn rejects_lengths_beyond_end_of_file() {
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
