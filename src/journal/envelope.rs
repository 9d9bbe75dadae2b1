//! Encodes and decodes the bytes of one record.
//!
//! Fixed-width fields, big-endian, in this order. This is the layout of all schemas, and it never
//! changes:
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 1 | codec of the payload; 1 is bincode 2, standard configuration |
//! | 1 | 2 | schema version of the envelope |
//! | 3 | 8 | epoch |
//! | 11 | 8 | position in the journal |
//! | 19 | 16 | stream id |
//! | 35 | 8 | sequence in the stream |
//! | 43 | 8 | time in nanoseconds since the Unix epoch, signed |
//! | 51 | 32 | hash of the previous record in the journal |
//! | 83 | 2 | kind |
//! | 85 | 2 | version of the payload |
//! | 87 | 4 | length of the payload |
//! | 91 | n | payload |
//! | 91 + n | 32 | BLAKE3 hash of all bytes before it |
//!
//! [`open`] checks the hash before it uses any field: bincode turns most single-bit errors into a different
//! value instead of an error. This module does not interpret the payload.

use uuid::Uuid;

use super::fault::Fault;
use super::record::{Entry, Record};

/// The schema that this binary writes, of the envelope and of the trees.
///
/// | schema | change |
/// |---:|---|
/// | 1 | the first release |
/// | 2 | kind 5 has a version 2 (`migrations/0002_rebuilt_members`); bytes of envelope and trees are those of schema 1 |
/// | 3 | kind 6 (`migrations/0003_asked`); kind 33, archives, and a log that begins behind them (`migrations/0004_archives`); bytes as before |
/// | 4 | kinds 1 and 17 have a version 2 (`migrations/0005_atomicity`); bytes as before |
/// | 5 | kinds 48 to 54 (`migrations/0006_backups`); bytes as before |
/// | 6 | kind 35, version 2 of kind 33, and holding streams (`migrations/0007_log`); envelopes as before |
/// | 7 | kinds 1 and 5 have a version 3, and kind 51 has a further form (`migrations/0008_receipts`); bytes as before |
pub const SCHEMA: u16 = 7;

pub use super::record::MAX_PAYLOAD_BYTES;

pub(super) const CODEC_BINCODE2: u8 = 1;
const HEADER_BYTES: usize = 91;
const HASH_BYTES: usize = 32;

/// The previous hash in the first record of a journal that began with `schema`.
pub fn genesis(schema: u16) -> [u8; 32] {
    *blake3::hash(format!("stillpoint journal, schema {schema}").as_bytes()).as_bytes()
}

/// All fields of an entry without its hash, which follows from them.
pub(super) struct EnvelopeFields<'a> {
    pub schema: u16,
    pub position: u64,
    pub epoch: u64,
    pub stream: Uuid,
    pub seq: u64,
    pub prev: [u8; 32],
    pub record: &'a Record,
}

/// Encodes the envelope. Returns its bytes and the hash at their end.
pub(super) fn encode(fields: &EnvelopeFields<'_>) -> (Vec<u8>, [u8; 32]) {
    let payload = &fields.record.payload;
    let length = u32::try_from(payload.len()).expect("the writer refused a payload above its limit");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + HASH_BYTES);
    bytes.push(CODEC_BINCODE2);
    bytes.extend(fields.schema.to_be_bytes());
    bytes.extend(fields.epoch.to_be_bytes());
    bytes.extend(fields.position.to_be_bytes());
    bytes.extend(fields.stream.as_bytes());
    bytes.extend(fields.seq.to_be_bytes());
    bytes.extend(fields.record.time_ns.to_be_bytes());
    bytes.extend(fields.prev);
    bytes.extend(fields.record.kind.to_be_bytes());
    bytes.extend(fields.record.version.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    let hash = *blake3::hash(&bytes).as_bytes();
    bytes.extend(hash);
    (bytes, hash)
}

/// Encodes an entry again: the bytes from which it was decoded, if its hash matches.
pub(super) fn of(entry: &Entry) -> Vec<u8> {
    encoded(entry).0
}

/// Computes the hash of an entry from its other fields.
pub(super) fn hash_of(entry: &Entry) -> [u8; 32] {
    encoded(entry).1
}

fn encoded(entry: &Entry) -> (Vec<u8>, [u8; 32]) {
    let Entry { schema, position, epoch, stream, seq, prev, ref record, .. } = *entry;
    encode(&EnvelopeFields { schema, position, epoch, stream, seq, prev, record })
}

/// Decodes an envelope.
///
/// # Errors
/// In this order: too few bytes, a hash that does not match, a schema or codec that this binary does not
/// know, a payload length that disagrees with the bytes.
pub fn open(bytes: &[u8]) -> Result<Entry, Fault> {
    open_up_to(SCHEMA, bytes)
}

/// As [`open`], for a binary whose newest schema is `known`.
fn open_up_to(known: u16, bytes: &[u8]) -> Result<Entry, Fault> {
    if bytes.len() < HEADER_BYTES + HASH_BYTES {
        return Err(Fault::Short { bytes: bytes.len() });
    }
    let (body, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(Fault::Short { bytes: bytes.len() })?;
    if blake3::hash(body).as_bytes() != hash {
        return Err(Fault::Hash);
    }
    fields(known, body, *hash).ok_or(Fault::Short { bytes: bytes.len() })?
}

fn fields(known: u16, body: &[u8], hash: [u8; 32]) -> Option<Result<Entry, Fault>> {
    let mut rest = body;
    let codec = take::<1>(&mut rest)?[0];
    let schema = u16::from_be_bytes(take(&mut rest)?);
    if !(1..=known).contains(&schema) {
        return Some(Err(Fault::Schema { found: schema, known }));
    }
    if codec != CODEC_BINCODE2 {
        return Some(Err(Fault::Codec { found: codec }));
    }
    let epoch = u64::from_be_bytes(take(&mut rest)?);
    let position = u64::from_be_bytes(take(&mut rest)?);
    let stream = Uuid::from_bytes(take(&mut rest)?);
    let seq = u64::from_be_bytes(take(&mut rest)?);
    let time_ns = i64::from_be_bytes(take(&mut rest)?);
    let prev = take(&mut rest)?;
    let kind = u16::from_be_bytes(take(&mut rest)?);
    let version = u16::from_be_bytes(take(&mut rest)?);
    let declared = u32::from_be_bytes(take(&mut rest)?);
    if usize::try_from(declared) != Ok(rest.len()) {
        return Some(Err(Fault::Length { declared, found: rest.len() }));
    }
    let record = Record { kind, version, time_ns, payload: rest.to_vec() };
    Some(Ok(Entry { schema, position, epoch, stream, seq, prev, hash, record }))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, [u8; 32]) {
        let record = Record { kind: 0x0102, version: 0x0304, time_ns: -2, payload: b"hello".to_vec() };
        encode(&EnvelopeFields {
            schema: 1,
            position: 7,
            epoch: 3,
            stream: Uuid::from_u128(0x0a0b),
            seq: 5,
            prev: [9; 32],
            record: &record,
        })
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let (bytes, hash) = sample();
        let mut expected = vec![1, 0, 1];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 3]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 7]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0x0b]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 5]);
        expected.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
        expected.extend([9; 32]);
        expected.extend([1, 2, 3, 4, 0, 0, 0, 5]);
        expected.extend(b"hello");
        expected.extend(*blake3::hash(&expected).as_bytes());
        assert_eq!(bytes, expected);
        assert_eq!(bytes[bytes.len() - 32..], hash);
    }

    #[test]
    fn encoded_envelope_decodes() {
        let (bytes, hash) = sample();
        let entry = open(&bytes).expect("an intact envelope");
        assert_eq!((entry.position, entry.epoch, entry.seq, entry.prev), (7, 3, 5, [9; 32]));
        assert_eq!(entry.record.payload, b"hello");
        assert_eq!((entry.hash, hash_of(&entry)), (hash, hash));
    }

    #[test]
    fn detects_every_flipped_bit_and_truncation() {
        let (bytes, _) = sample();
        for index in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[index / 8] ^= 1 << (index % 8);
            assert_eq!(open(&flipped), Err(Fault::Hash), "bit {index}");
        }
        for length in 0..bytes.len() {
            assert!(open(&bytes[..length]).is_err(), "first {length} bytes");
        }
    }

    fn resealed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let (mut bytes, _) = sample();
        bytes.truncate(bytes.len() - 32);
        change(&mut bytes);
        bytes.extend(*blake3::hash(&bytes).as_bytes());
        bytes
    }

    #[test]
    fn rejects_invalid_fields_despite_valid_hash() {
        let newer = SCHEMA + 1;
        let resealed_as = |schema: u16| resealed(|bytes| bytes[1..3].copy_from_slice(&schema.to_be_bytes()));
        assert_eq!(open(&resealed_as(newer)), Err(Fault::Schema { found: newer, known: SCHEMA }));
        assert_eq!(open(&resealed(|bytes| bytes[2] = 0)), Err(Fault::Schema { found: 0, known: SCHEMA }));
        assert_eq!(open(&resealed(|bytes| bytes[0] = 9)), Err(Fault::Codec { found: 9 }));
        assert_eq!(open(&resealed(|bytes| bytes.push(0))), Err(Fault::Length { declared: 5, found: 6 }));
        assert_eq!(
            open(&resealed(|bytes| bytes[87] = 0xff)),
            Err(Fault::Length { declared: 0xff00_0005, found: 5 })
        );
    }

    #[test]
    fn reads_older_records_and_rejects_newer_ones() {
        let newer = resealed(|bytes| bytes[2] = 2);
        let fault = open_up_to(1, &newer).expect_err("newer");
        assert_eq!(fault.to_string(), "written with schema 2; this stillpoint reads schemas up to 1");
        assert_eq!(open(&newer).map(|entry| entry.schema), Ok(2));
        let (older, hash) = sample();
        let entry = open(&older).expect("an older record");
        assert_eq!((entry.schema, hash_of(&entry)), (1, hash));
    }

    #[test]
    fn genesis_depends_on_the_schema() {
        assert_ne!(genesis(1), genesis(2));
    }
}
