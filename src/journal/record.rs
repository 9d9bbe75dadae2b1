//! Defines the contents of a journal: records, entries, and the head of the chain.

use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Largest payload of one record, in bytes.
///
/// Small values do not go to sled's blob files, which sled never syncs.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// Maximum payload of one append, in bytes: 64 records of the largest size.
pub const MAX_APPEND_BYTES: usize = 64 * MAX_PAYLOAD_BYTES;

/// Maximum number of records of one append: an outcome for each member of the largest group, several times
/// over.
pub const MAX_APPEND_RECORDS: usize = 1024;

/// Kind of the record that copies records ([`super::archive::Carry`]).
pub(super) const CARRY: u16 = 35;

/// Largest payload of a record with copies, in bytes. The envelope of the largest record has to fit into it.
pub(super) const MAX_CARRY_BYTES: usize = MAX_PAYLOAD_BYTES + 1024;

/// The largest payload of a kind of record, in bytes. A record with copies is larger than any that it copies.
pub(super) fn max_payload(kind: u16) -> usize {
    if kind == CARRY { MAX_CARRY_BYTES } else { MAX_PAYLOAD_BYTES }
}

/// A record as the caller passes it. The journal does not interpret the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Kind of the event in the payload. A number is never reused.
    pub kind: u16,
    /// Version of the payload's layout.
    pub version: u16,
    /// Time of the append, in nanoseconds since the Unix epoch. The journal does not read a clock.
    pub time_ns: i64,
    /// Encoded event, at most [`MAX_PAYLOAD_BYTES`] bytes.
    pub payload: Vec<u8>,
}

/// Returns the streams that a record refers to. The record's own stream reads their records when it is
/// resumed. While it is open, these records stay in the live journal. A record is written before the streams that it
/// refers to have ended.
pub type Links = fn(&Record) -> Vec<Uuid>;

/// Whether a record of a holding stream stays in the live journal.
pub type Keeps = fn(&Record) -> bool;

/// Every record of a holding stream stays.
pub fn keeps_all(_: &Record) -> bool {
    true
}

/// No record refers to another stream.
pub fn no_links(_: &Record) -> Vec<Uuid> {
    Vec::new()
}

/// A record at its position in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Schema of its envelope, set by the Stillpoint that wrote it.
    pub schema: u16,
    /// Position in the journal, counted from 1 without gaps.
    pub position: u64,
    /// Epoch of the daemon that wrote it.
    pub epoch: u64,
    pub stream: Uuid,
    /// Sequence in its stream, counted from 1 without gaps.
    pub seq: u64,
    /// Hash of the previous record in the journal, in any stream.
    pub prev: [u8; 32],
    /// Hash of this record, including `prev`.
    pub hash: [u8; 32],
    pub record: Record,
}

impl Entry {
    /// The head of a journal that ends with this entry.
    pub fn head(&self) -> Head {
        Head { position: self.position, hash: self.hash }
    }
}

/// The end of a chain: position and hash of its last record.
///
/// Written as `POSITION:HASH`, with the hash in lower-case hexadecimal. A head that is published outside
/// the journal makes a truncated tail detectable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Head {
    /// Position of the last record; 0 for an empty journal.
    pub position: u64,
    /// Hash of the last record; for an empty journal the genesis hash.
    pub hash: [u8; 32],
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.position)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is not a [`Head`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a journal head, which is written POSITION:HASH with 64 hexadecimal digits")]
pub struct HeadSyntax {
    /// The invalid text.
    pub text: String,
}

impl FromStr for Head {
    type Err = HeadSyntax;

    fn from_str(text: &str) -> Result<Self, HeadSyntax> {
        parse_head(text).ok_or_else(|| HeadSyntax { text: text.to_owned() })
    }
}

fn parse_head(text: &str) -> Option<Head> {
    let (position, hex) = text.split_once(':')?;
    let plain = |text: &str, is_digit: fn(&u8) -> bool| text.as_bytes().iter().all(is_digit);
    if !plain(position, u8::is_ascii_digit) || !plain(hex, u8::is_ascii_hexdigit) || hex.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(Head { position: position.parse().ok()?, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_round_trips_as_text() {
        let mut hash = [0; 32];
        hash[0] = 0xa0;
        hash[31] = 0x0f;
        let head = Head { position: 42, hash };
        assert_eq!(head.to_string(), format!("42:a0{}0f", "00".repeat(30)));
        assert_eq!(head.to_string().parse(), Ok(head));
    }

    #[test]
    fn rejects_invalid_head_text() {
        let zeros = "00".repeat(32);
        for text in ["", "7", "7:", ":", "7:00", "-7:00", "é:00"] {
            assert!(text.parse::<Head>().is_err(), "{text}");
        }
        for text in [
            format!("+7:{zeros}"),
            format!("7:{zeros}0"),
            format!("7:+0{}", &zeros[2..]),
            format!("7:é{}", &zeros[2..]),
        ] {
            assert!(text.parse::<Head>().is_err(), "{text}");
        }
    }
}
