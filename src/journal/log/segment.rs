//! Defines the names of segment files and the header at their beginning.
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | `SPevidnc` |
//! | 8 | 2 | schema with which the segment was begun, as in an envelope; records of later schemas may follow |
//! | 10 | 8 | number of the segment, counted from 1 |
//! | 18 | 8 | position of its first record |
//! | 26 | 32 | hash of the record before it |
//! | 58 | 32 | BLAKE3 hash of all bytes before it |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::envelope::SCHEMA;
use super::super::record::Head;

pub(crate) const HEADER_BYTES: usize = 90;
const MAGIC: &[u8; 8] = b"SPevidnc";

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub number: u64,
    /// The last record before the segment.
    pub after: Head,
}

/// The reason why a header is invalid.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    Bytes,
    Schema(u16),
}

pub(super) fn encode(header: &Header) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(SCHEMA.to_be_bytes());
    bytes.extend(header.number.to_be_bytes());
    bytes.extend(header.after.position.saturating_add(1).to_be_bytes());
    bytes.extend(header.after.hash);
    let hash = *blake3::hash(&bytes).as_bytes();
    bytes.extend(hash);
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Result<Header, NoHeader> {
    let (body, _) = bytes
        .get(..HEADER_BYTES)
        .and_then(|header| header.split_last_chunk::<32>())
        .filter(|(body, hash)| blake3::hash(body).as_bytes() == *hash)
        .ok_or(NoHeader::Bytes)?;
    let rest = body.strip_prefix(MAGIC).ok_or(NoHeader::Bytes)?;
    let schema = rest[..2].try_into().map(u16::from_be_bytes).map_err(|_| NoHeader::Bytes)?;
    // The layout has not changed since the first release that wrote the log.
    if !(1..=SCHEMA).contains(&schema) {
        return Err(NoHeader::Schema(schema));
    }
    let number = |at: usize| rest[at..at + 8].try_into().map(u64::from_be_bytes).map_err(|_| NoHeader::Bytes);
    let (segment, first) = (number(2)?, number(10)?);
    let position = first.checked_sub(1).ok_or(NoHeader::Bytes)?;
    Ok(Header { number: segment, after: Head { position, hash: hash_of(&rest[18..])? } })
}

fn hash_of(bytes: &[u8]) -> Result<[u8; 32], NoHeader> {
    bytes.try_into().map_err(|_| NoHeader::Bytes)
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.seg"))
}

/// The numbers of the segments in `dir`, in order. Empty if the directory does not exist. Other files are
/// ignored.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips_and_detects_flipped_bits() {
        let header = Header { number: 3, after: Head { position: 41, hash: [7; 32] } };
        let bytes = encode(&header);
        assert_eq!((bytes.len(), decode(&bytes)), (HEADER_BYTES, Ok(header)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), Err(NoHeader::Bytes), "bit {bit}");
        }
        assert_eq!(decode(&bytes[..HEADER_BYTES - 1]), Err(NoHeader::Bytes));
    }

    /// A header as written by a Stillpoint of another schema.
    fn of_schema(header: &Header, schema: u16) -> Vec<u8> {
        let mut bytes = encode(header);
        bytes.truncate(HEADER_BYTES - 32);
        bytes[8..10].copy_from_slice(&schema.to_be_bytes());
        bytes.extend(*blake3::hash(&bytes).as_bytes());
        bytes
    }

    #[test]
    fn reads_older_schema_and_reports_newer_one() {
        let header = Header { number: 1, after: Head::genesis() };
        assert_eq!(decode(&of_schema(&header, SCHEMA + 1)), Err(NoHeader::Schema(SCHEMA + 1)));
        assert_eq!(decode(&of_schema(&header, 0)), Err(NoHeader::Schema(0)));
        for schema in 1..=SCHEMA {
            assert_eq!(decode(&of_schema(&header, schema)), Ok(header), "schema {schema}");
        }
    }

    #[test]
    fn lists_only_segments_and_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(list(&dir.path().join("none")).expect("readable").is_empty());
        for name in ["00000010.seg", "00000002.seg", "00000003.seg.tmp", "x.seg", "lost"] {
            fs::write(dir.path().join(name), "").expect("written");
        }
        assert_eq!(list(dir.path()).expect("readable"), [2, 10]);
    }
}
