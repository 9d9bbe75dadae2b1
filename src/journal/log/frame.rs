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
//! | 60 | | per record: 1 byte state of its stream after the batch (0 open, 1 finished, 2 holding); 4 bytes length; envelope |
//! | 8 + n | 32 | BLAKE3 hash of all bytes before it |
//!
//! The envelopes are those of the index, byte for byte. This module does not check whether they continue
//! the chain.

use super::super::record::Head;
use super::super::store::{Batch, StreamState};

/// Longest body, in bytes. A batch has at most 8 MiB of payloads and 64 times 1024 envelopes around them.
pub(crate) const MAX_BODY_BYTES: usize = 32 << 20;

const MAGIC: &[u8; 4] = b"SPfr";
const FRONT: usize = 8;
const HASH: usize = 32;
/// Smallest unit that a disk writes, in bytes.
const SECTOR: u64 = 512;

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
    let length: usize = batch.records.iter().map(|record| record.envelope.len() + 5).sum();
    let mut bytes = Vec::with_capacity(FRONT + 52 + length + HASH);
    bytes.extend(MAGIC);
    bytes.extend([0; 4]);
    bytes.extend(batch.meta.epoch.to_be_bytes());
    bytes.extend(batch.meta.head.position.to_be_bytes());
    bytes.extend(batch.meta.head.hash);
    bytes.extend(size(batch.records.len()));
    for record in &batch.records {
        bytes.push(state(record.stream).byte());
        bytes.extend(size(record.envelope.len()));
        bytes.extend(&record.envelope);
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
    let length = declared(bytes)?;
    let (sealed, after) = bytes.split_at_checked(length - HASH)?;
    let (hash, _) = after.split_first_chunk::<HASH>()?;
    if blake3::hash(sealed).as_bytes() != hash {
        return None;
    }
    Some((body(sealed.get(FRONT..)?)?, length))
}

/// Whether `rest`, the end of a segment from `offset` on, can be one frame whose write was interrupted.
///
/// The kernel may have written back any of its sectors, and may know any length of the file. So each byte is
/// either the frame's or zero. Bytes of a second frame are damage: the first one was on disk before it was
/// written.
pub(crate) fn is_torn(rest: &[u8], offset: u64) -> bool {
    let longest = match declared(rest) {
        Some(length) if !is_split(offset) => length,
        _ => FRONT + MAX_BODY_BYTES + HASH,
    };
    rest.len() <= longest && !has_frame(rest) && !ends_with_header(rest)
}

/// The length of the frame at the beginning of `bytes` as its header names it. `None` without a header.
fn declared(bytes: &[u8]) -> Option<usize> {
    let (length, _) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|&body| body <= MAX_BODY_BYTES)?;
    Some(FRONT + length + HASH)
}

/// Whether the header of a frame at `offset` lies in two sectors, so that its length may be incomplete.
fn is_split(offset: u64) -> bool {
    offset / SECTOR != (offset + FRONT as u64 - 1) / SECTOR
}

/// Whether there is the header of another frame that would end where `rest` ends.
fn ends_with_header(rest: &[u8]) -> bool {
    let headers = rest.windows(MAGIC.len()).enumerate().skip(1).filter(|(_, four)| four == MAGIC);
    let mut declared = headers.filter_map(|(at, _)| declared(&rest[at..]).map(|length| at + length));
    declared.any(|end| end == rest.len())
}

fn body(mut rest: &[u8]) -> Option<Frame<'_>> {
    let epoch = u64::from_be_bytes(*take(&mut rest)?);
    let position = u64::from_be_bytes(*take(&mut rest)?);
    let hash = *take(&mut rest)?;
    let count = u32::from_be_bytes(*take(&mut rest)?);
    let mut records = Vec::new();
    for _ in 0..count {
        let [state] = *take::<1>(&mut rest)?;
        let state = StreamState::of_byte(state)?;
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

/// Where the next bytes are that a frame begins with. `None` if there are none.
pub(crate) fn find(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|four| four == MAGIC)
}

/// Whether there is a whole frame anywhere in `bytes`. Work is bounded: if too many byte sequences resemble
/// frames, the function says that there is one.
fn has_frame(bytes: &[u8]) -> bool {
    let (mut at, mut budget) = (0, bytes.len().saturating_mul(4));
    while let Some(next) = bytes.get(at..).and_then(find) {
        at += next;
        let hashed = declared(&bytes[at..]).filter(|length| at + length <= bytes.len()).unwrap_or(0);
        if decode(&bytes[at..]).is_some() || hashed > budget {
            return true;
        }
        budget -= hashed;
        at += 1;
    }
    false
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
        assert_eq!(frame.records, [(StreamState::Finished, written.records[0].envelope.as_slice())]);
    }

    #[test]
    fn epoch_claim_is_frame_without_records() {
        let claim = Batch { records: vec![], streams: vec![], ..batch(3) };
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
    fn only_part_of_one_frame_is_torn() {
        let [first, second]: [Vec<u8>; 2] =
            batches(2).iter().map(encode).collect::<Vec<_>>().try_into().expect("two");
        for length in 1..first.len() {
            assert!(is_torn(&first[..length], 90), "the first {length} bytes");
        }
        // At offset 90 the header is in one sector: it is complete or missing.
        for length in std::iter::once(0).chain(FRONT..first.len()) {
            let mut holes = first.clone();
            holes[length..].fill(0);
            assert!(is_torn(&holes, 90), "zeros behind the first {length} bytes");
        }
        let mut longer = [first.clone(), vec![0; 9]].concat();
        longer[40] ^= 1;
        assert!(!is_torn(&longer, 90), "it is longer than its header says");
        assert!(is_torn(&longer, 510), "its length may be incomplete: the header lies in two sectors");
        for damaged in [0, 6, 40] {
            let mut two = [first.clone(), second.clone()].concat();
            two[damaged] ^= 1;
            two[first.len() + 40] ^= 1;
            assert!(!is_torn(&two, 90), "two damaged frames, the first one at byte {damaged}");
        }
    }

    #[test]
    fn finds_frames_after_damage() {
        let frames: Vec<_> = batches(3).iter().map(encode).collect();
        let mut bytes = frames.concat();
        for at in [20, frames[0].len() + 20, frames[0].len() + frames[1].len() + 20] {
            assert!(has_frame(&bytes), "the frames before byte {at} are damaged");
            bytes[at] ^= 1;
        }
        assert!(!has_frame(&bytes) && !has_frame(&frames[0][..40]) && !has_frame(&[]));
    }

    #[test]
    fn the_search_for_frames_is_bounded() {
        assert!(has_frame(&b"SPfr\x00\x00\x10\x00".repeat(4096)));
    }
}
