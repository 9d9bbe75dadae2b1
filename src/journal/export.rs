//! A record as it is exported: every field that goes into its hash, so that a chain verifies without the store.
//!
//! One JSON object per record. The payload is base64 (standard alphabet, padded), hashes are hexadecimal. To check a
//! record, write its envelope as [`super::envelope`] says and hash it with BLAKE3; to check a chain, compare each
//! `prev` with the `hash` before it. [`super::chain::check`] does both.
//!
//! A line may carry more beside these fields: `journal export` adds what the record says, for people. Nothing of that is
//! in the hash, so that an auditor believes the payload and not what stands beside it.
//!
//! Not here: what the payload means.

use std::io::{BufRead, Read};
use uuid::Uuid;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::envelope::{CODEC_BINCODE2, MAX_PAYLOAD_BYTES, SCHEMA};
use super::record::{Entry, Record};

/// The exported fields of one record. Unknown fields beside them are ignored when it is read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// Codec byte.
    pub codec: u8,
    /// Schema of the envelope.
    pub schema: u16,
    /// Epoch.
    pub epoch: u64,
    /// Position.
    pub position: u64,
    /// Stream id.
    pub stream: Uuid,
    /// Sequence in the stream.
    pub seq: u64,
    /// Time in nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// Hash of the record before it, hexadecimal.
    pub prev: String,
    /// Kind.
    pub kind: u16,
    /// Version of the payload.
    pub version: u16,
    /// Payload, base64.
    pub payload: String,
    /// Hash, hexadecimal.
    pub hash: String,
}

/// Longest line of an export, in bytes: a payload at its limit in base64, and several times as much of what it says.
pub const MAX_LINE_BYTES: usize = 16 * MAX_PAYLOAD_BYTES;

/// An exported record that cannot be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The lines cannot be read.
    #[error("read line {line}: {reason}")]
    Io {
        /// Line, counted from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// Above [`MAX_LINE_BYTES`].
    #[error("line {line} is longer than the {MAX_LINE_BYTES} bytes that an exported record has at most")]
    Long {
        /// Line, counted from 1.
        line: usize,
    },
    /// A newer Stillpoint wrote the record.
    #[error(
        "record {position} was written with schema {found}; this stillpoint reads schemas up to {SCHEMA}"
    )]
    Schema {
        /// Position of the record.
        position: u64,
        /// Its schema.
        found: u16,
    },
    /// Not a JSON object with these fields.
    #[error("line {line} is not an exported record: {reason}")]
    Line {
        /// Line, counted from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// A field does not hold what it should.
    #[error("record {position}: {what} is malformed")]
    Field {
        /// Position of the record.
        position: u64,
        /// Which field.
        what: &'static str,
    },
}

impl From<&Entry> for Sealed {
    fn from(entry: &Entry) -> Self {
        Self {
            codec: CODEC_BINCODE2,
            schema: entry.schema,
            epoch: entry.epoch,
            position: entry.position,
            stream: entry.stream,
            seq: entry.seq,
            time_ns: entry.record.time_ns,
            prev: hex(&entry.prev),
            kind: entry.record.kind,
            version: entry.record.version,
            payload: STANDARD.encode(&entry.record.payload),
            hash: hex(&entry.hash),
        }
    }
}

impl TryFrom<Sealed> for Entry {
    type Error = ImportError;

    fn try_from(sealed: Sealed) -> Result<Self, ImportError> {
        let Sealed { schema, position, epoch, stream, seq, time_ns, kind, version, .. } = sealed;
        let malformed = |what| ImportError::Field { position, what };
        if sealed.codec != CODEC_BINCODE2 {
            return Err(malformed("codec"));
        }
        match sealed.schema {
            0 => return Err(malformed("schema")),
            found @ 1.. if found > SCHEMA => return Err(ImportError::Schema { position, found }),
            _ => {}
        }
        let payload = STANDARD.decode(&sealed.payload).map_err(|_| malformed("payload"))?;
        let prev = unhex(&sealed.prev).ok_or(malformed("prev"))?;
        let hash = unhex(&sealed.hash).ok_or(malformed("hash"))?;
        let record = Record { kind, version, time_ns, payload };
        Ok(Self { schema, position, epoch, stream, seq, prev, hash, record })
    }
}

/// Reads exported lines back. The entries are as they were written, checked or not: see [`super::chain::check`].
///
/// # Errors
/// The first line that is no exported record.
pub fn import(text: &str) -> Result<Vec<Entry>, ImportError> {
    Lines::new(text.as_bytes()).map(|line| line.map(|Exported { entry, .. }| entry)).collect()
}

/// One exported line, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The record, checked or not.
    pub entry: Entry,
    /// The whole line, with what stands beside the record.
    pub text: String,
}

/// Reads exported lines one by one, and holds one at a time. It ends with the first that is no exported record.
pub struct Lines<R> {
    reader: R,
    line: usize,
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`; empty ones are passed over.
    pub fn new(reader: R) -> Lines<R> {
        Lines { reader, line: 0, ended: false }
    }

    /// The next line that is not empty; none at the end.
    fn line(&mut self) -> Result<Option<String>, ImportError> {
        loop {
            let mut bytes = Vec::new();
            self.line += 1;
            let line = self.line;
            // One byte more than a line may have tells that there are too many.
            let mut limited = (&mut self.reader).take(MAX_LINE_BYTES as u64 + 1);
            let read = limited.read_until(b'\n', &mut bytes);
            match read.map_err(|error| ImportError::Io { line, reason: error.to_string() })? {
                0 => return Ok(None),
                length if length > MAX_LINE_BYTES => return Err(ImportError::Long { line }),
                _ => {}
            }
            let text = String::from_utf8(bytes);
            let text =
                text.map_err(|error| ImportError::Line { line, reason: error.utf8_error().to_string() })?;
            if !text.trim().is_empty() {
                return Ok(Some(text));
            }
        }
    }

    fn read(&self, text: String) -> Result<Exported, ImportError> {
        let sealed: Sealed = serde_json::from_str(&text)
            .map_err(|error| ImportError::Line { line: self.line, reason: error.to_string() })?;
        Ok(Exported { entry: sealed.try_into()?, text })
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Exported, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.line().and_then(|text| text.map(|text| self.read(text)).transpose()).transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::chain::check;
    use super::super::testing::chain_of;
    use super::*;

    fn export(entries: &[Entry]) -> String {
        let lines =
            entries.iter().map(|entry| serde_json::to_string(&Sealed::from(entry)).expect("plain data"));
        lines.map(|line| line + "\n").collect()
    }

    #[test]
    fn an_exported_chain_reads_back_and_verifies() {
        let chain = chain_of(5);
        let back = import(&export(&chain)).expect("exported");
        assert_eq!(back, chain);
        assert_eq!(check(back).expect("intact").head, chain[4].head());
    }

    #[test]
    fn every_exported_field_goes_into_the_hash() {
        let chain = chain_of(2);
        let line = serde_json::to_value(Sealed::from(&chain[1])).expect("plain data");
        for field in ["epoch", "position", "seq", "timeNs", "kind", "version"] {
            let mut changed = line.clone();
            changed[field] = (line[field].as_i64().expect("a number") + 1).into();
            let entries = import(&format!("{}{changed}", export(&chain[..1]))).expect("well-formed");
            assert!(check(entries).is_err(), "{field}");
        }
    }

    #[test]
    fn what_is_no_record_is_named() {
        assert!(matches!(import("\n{}"), Err(ImportError::Line { line: 2, .. })));
        let mut line = serde_json::to_value(Sealed::from(&chain_of(1)[0])).expect("plain data");
        let mut newer = line.clone();
        newer["schema"] = 99.into();
        assert_eq!(import(&newer.to_string()), Err(ImportError::Schema { position: 1, found: 99 }));
        line["hash"] = "00".into();
        assert_eq!(import(&line.to_string()), Err(ImportError::Field { position: 1, what: "hash" }));
    }

    /// Gives the same byte for ever, and counts how many were taken.
    struct Endless(std::rc::Rc<std::cell::Cell<usize>>);

    impl Read for Endless {
        fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
            bytes.fill(b'x');
            self.0.set(self.0.get() + bytes.len());
            Ok(bytes.len())
        }
    }

    #[test]
    fn a_line_without_end_is_not_read_to_its_end() {
        let taken = std::rc::Rc::default();
        let mut lines = Lines::new(std::io::BufReader::new(Endless(std::rc::Rc::clone(&taken))));
        assert_eq!(lines.next(), Some(Err(ImportError::Long { line: 1 })));
        assert_eq!(lines.next(), None);
        assert!(taken.get() < 2 * MAX_LINE_BYTES, "{} bytes", taken.get());
    }
}
