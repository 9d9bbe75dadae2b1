//! Encodes and decodes the bytes of one batch in a segment.
//!
//! Fixed-width fields, big-endian. A frame is complete or it is ignored, and so is its batch:
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | `SPfr` |
//! | 4 | 4 | length n of the body |
//! | 8 | 8 | epoch after the batch |
//! | 16 | 40 | head after the batch: position, hash |
//! | 56 | 4 | number of records; 0 for a claim of an epoch |
//! | 60 | | per record: 1 byte, 1 if its stream has no work left after the batch; 4 bytes length; envelope |
//! | 8 + n | 32 | BLAKE3 hash of all bytes before it |
//!
//! The envelopes are those of the database, byte for byte. This module does not check whether they continue
//! the chain.

use super::super::record::Head;
use super::super::store::{Batch, StreamState};

/// Longest body, in bytes. A batch has at most 8 MiB of payloads and 64 times 1024 envelopes around them.
pub(crate) const MAX_BODY_BYTES: usize = 32 << 20;

const MAGIC: &[u8; 4] = b"SPfr";
const FRONT: usize = 8;
const HASH: usize = 32;

/// One batch as stored in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub epoch: u64,
    pub head: Head,
    pub records: Vec<(StreamState, &'a [u8])>,
}

/// Encodes a batch as a frame.
pub(crate) fn encode(batch: &Batch) -> Vec<u8> {
    let state = |stream| {
        let head = batch.streams.iter().find(|head| head.stream == stream);
        head.map_or(StreamState::Open, |head| head.state)
    };
    let length: usize = batch.slots.iter().map(|slot| slot.envelope.len() + 5).sum();
    let mut bytes = Vec::with_capacity(FRONT + 52 + length + HASH);
    bytes.extend(MAGIC);
    bytes.extend([0; 4]);
    bytes.extend(batch.meta.epoch.to_be_bytes());
    bytes.extend(batch.meta.head.position.to_be_bytes());
    bytes.extend(batch.meta.head.hash);
    bytes.extend(size(batch.slots.len()));
    for slot in &batch.slots {
        bytes.push(u8::from(state(slot.stream) == StreamState::Finished));
        bytes.extend(size(slot.envelope.len()));
        bytes.extend(&slot.envelope);
    }
    let body = size(bytes.len() - FRONT);
    bytes[4..FRONT].copy_from_slice(&body);
    let hash = *blake3::hash(&bytes).as_bytes();
    bytes.extend(hash);
    bytes
}

fn size(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("the limits of a batch are far below 4 GiB").to_be_bytes()
}

/// Decodes the frame at the beginning of `bytes`. Returns it with its length. `None` if there is no whole
/// frame.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|&body| body <= MAX_BODY_BYTES)?;
    let (sealed, after) = bytes.split_at_checked(FRONT + length)?;
    let (hash, _) = after.split_first_chunk::<HASH>()?;
    if blake3::hash(sealed).as_bytes() != hash {
        return None;
    }
    Some((body(sealed.get(FRONT..)?)?, FRONT + length + HASH))
}

/// Whether `bytes` begin with a frame of the full declared length. If such a frame does not decode, it was
/// changed or lost its middle. A shorter frame was being written.
pub(crate) fn is_complete(bytes: &[u8]) -> bool {
    let length = bytes.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk::<4>());
    let length = length.and_then(|length| usize::try_from(u32::from_be_bytes(*length)).ok());
    length.is_some_and(|body| body <= MAX_BODY_BYTES && bytes.len() >= FRONT + body + HASH)
}

fn body(mut rest: &[u8]) -> Option<Frame<'_>> {
    let epoch = u64::from_be_bytes(*take(&mut rest)?);
    let position = u64::from_be_bytes(*take(&mut rest)?);
    let hash = *take(&mut rest)?;
    let count = u32::from_be_bytes(*take(&mut rest)?);
    let mut records = Vec::new();
    for _ in 0..count {
        let state = match take::<1>(&mut rest)? {
            [0] => StreamState::Open,
            [1] => StreamState::Finished,
            _ => return None,
        };
        let length = u32::from_be_bytes(*take(&mut rest)?);
        let (envelope, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = after;
        records.push((state, envelope));
    }
    rest.is_empty().then_some(Frame { epoch, head: Head { position, hash }, records })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (field, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(field)
}

/// The highest position that a whole frame anywhere in `bytes` names. `None` if there is no frame.
///
/// The result distinguishes a torn end from damage with more data behind it. Work is bounded: if too many
/// byte sequences resemble frames, the function returns the highest number that exists, which no database
/// can match.
pub(crate) fn highest(bytes: &[u8]) -> Option<u64> {
    let (mut at, mut budget, mut found) = (0, bytes.len().saturating_mul(4), None);
    while let Some(next) = bytes.get(at..).and_then(|rest| rest.windows(4).position(|four| four == MAGIC)) {
        at += next;
        let claimed = bytes.get(at + 4..at + 8).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
        let claimed = claimed.map_or(0, |length| length as usize);
        let fits = claimed <= MAX_BODY_BYTES && at + FRONT + claimed + HASH <= bytes.len();
        match decode(&bytes[at..]) {
            Some((frame, length)) => {
                found = found.max(Some(frame.head.position));
                at += length;
            }
            None if fits && claimed > budget => return Some(u64::MAX),
            None => {
                budget -= if fits { claimed } else { 0 };
                at += 1;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{batch, batches};
    use super::*;

    #[test]
    fn encoded_frame_decodes() {
        let mut written = batch(2);
        written.streams[0].state = StreamState::Finished;
        let bytes = [encode(&written), b"more".to_vec()].concat();
        let (frame, length) = decode(&bytes).expect("whole");
        assert_eq!(length, bytes.len() - 4);
        assert_eq!((frame.epoch, frame.head), (written.meta.epoch, written.meta.head));
        assert_eq!(frame.records, [(StreamState::Finished, written.slots[0].envelope.as_slice())]);
    }

    #[test]
    fn epoch_claim_is_frame_without_records() {
        let claim = Batch { slots: vec![], streams: vec![], ..batch(3) };
        let bytes = encode(&claim);
        assert_eq!(bytes.len(), 60 + 32);
        assert_eq!(
            decode(&bytes).map(|(frame, _)| (frame.head, frame.records.len())),
            Some((claim.meta.head, 0))
        );
    }

    #[test]
    fn detects_every_flipped_bit_and_truncation() {
        let bytes = encode(&batch(1));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "first {length} bytes");
        }
    }

    #[test]
    fn distinguishes_changed_frame_from_truncated_one() {
        let mut bytes = encode(&batch(1));
        assert!(!is_complete(&bytes[..bytes.len() - 1]) && !is_complete(&[]));
        bytes[40] ^= 1;
        assert!(is_complete(&bytes));
        bytes[4] = 0xff;
        assert!(!is_complete(&bytes), "no frame is so long");
    }

    #[test]
    fn finds_frames_after_damage() {
        let frames: Vec<_> = batches(3).iter().map(encode).collect();
        let damaged = |at: usize| {
            let mut bytes = frames.concat();
            bytes[at] ^= 1;
            highest(&bytes)
        };
        assert_eq!(damaged(20), Some(3));
        assert_eq!(damaged(frames[0].len() + frames[1].len() + 20), Some(2));
        assert_eq!(highest(&frames[0][..40]), None);
        assert_eq!(highest(&[]), None);
    }

    #[test]
    fn the_search_for_frames_is_bounded() {
        let mut bytes = b"SPfr\x00\x00\x10\x00".repeat(4096);
        bytes.extend(encode(&batch(1)));
        assert_eq!(highest(&bytes), Some(u64::MAX));
    }
}
