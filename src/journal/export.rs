//! Exports a record with every field that its hash covers, so that a chain verifies without the store.
//!
//! An export has one JSON object for each record. The payload is base64 (standard alphabet, padded). Hashes
//! are hexadecimal. To check a record, write its envelope as in [`super::envelope`] and hash it with
//! BLAKE3. To check a chain, compare each `prev` with the `hash` before it. [`super::chain::check`] does
//! both.
//!
//! A line may have more fields: `journal export` adds a description of the record for users. The hash does
//! not cover these fields. So an auditor must trust the payload and not the fields beside it.
//!
//! Not here: the meaning of the payload.

use std::io::{BufRead, Read};
use uuid::Uuid;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::envelope::{CODEC_BINCODE2, MAX_PAYLOAD_BYTES, SCHEMA};
use super::record::{Entry, Record};

/// The exported fields of one record. The import ignores unknown fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedRecord {
    pub codec: u8,
    pub schema: u16,
    pub epoch: u64,
    pub position: u64,
    pub stream: Uuid,
    /// Sequence in the stream.
    pub seq: u64,
    /// Time in nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// Hash of the previous record, hexadecimal.
    pub prev: String,
    pub kind: u16,
    /// Version of the payload.
    pub version: u16,
    /// Payload, base64.
    pub payload: String,
    /// Hash, hexadecimal.
    pub hash: String,
}

/// Longest line of an export, in bytes: the largest payload in base64, and several times that size for its
/// description.
pub const MAX_LINE_BYTES: usize = 16 * MAX_PAYLOAD_BYTES;

/// The reason why an exported record cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("read line {line}: {reason}")]
    Io {
        /// Line number, counted from 1.
        line: usize,
        reason: String,
    },
    /// The line is longer than [`MAX_LINE_BYTES`].
    #[error("line {line} is longer than the {MAX_LINE_BYTES} bytes that an exported record has at most")]
    Long {
        /// Line number, counted from 1.
        line: usize,
    },
    /// A newer Stillpoint wrote the record.
    #[error(
        "record {position} was written with schema {found}; this stillpoint reads schemas up to {SCHEMA}"
    )]
    Schema {
        position: u64,
        /// Schema of the record.
        found: u16,
    },
    /// The line is not a JSON object with these fields.
    #[error("line {line} is not an exported record: {reason}")]
    Line {
        /// Line number, counted from 1.
        line: usize,
        reason: String,
    },
    /// A field has an invalid value.
    #[error("record {position}: {what} is malformed")]
    Field {
        position: u64,
        /// Name of the field.
        what: &'static str,
    },
}

impl From<&Entry> for ExportedRecord {
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

impl TryFrom<ExportedRecord> for Entry {
    type Error = ImportError;

    fn try_from(exported: ExportedRecord) -> Result<Self, ImportError> {
        let ExportedRecord { schema, position, epoch, stream, seq, time_ns, kind, version, .. } = exported;
        let malformed = |what| ImportError::Field { position, what };
        if exported.codec != CODEC_BINCODE2 {
            return Err(malformed("codec"));
        }
        match exported.schema {
            0 => return Err(malformed("schema")),
            found @ 1.. if found > SCHEMA => return Err(ImportError::Schema { position, found }),
            _ => {}
        }
        let payload = STANDARD.decode(&exported.payload).map_err(|_| malformed("payload"))?;
        let prev = unhex(&exported.prev).ok_or(malformed("prev"))?;
        let hash = unhex(&exported.hash).ok_or(malformed("hash"))?;
        let record = Record { kind, version, time_ns, payload };
        Ok(Self { schema, position, epoch, stream, seq, prev, hash, record })
    }
}

/// Imports exported lines. The entries are as written and are not checked: see [`super::chain::check`].
///
/// # Errors
/// The first line that is not an exported record.
pub fn import(text: &str) -> Result<Vec<Entry>, ImportError> {
    Lines::new(text.as_bytes()).map(|line| line.map(|Exported { entry, .. }| entry)).collect()
}

/// One imported line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The record, not checked.
    pub entry: Entry,
    /// The whole line, including the fields beside the record.
    pub text: String,
}

/// Reads exported lines one by one, and holds one line at a time. Ends with the first line that is not an
/// exported record.
pub struct Lines<R> {
    reader: R,
    line: usize,
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads the lines of `reader`. Skips empty lines.
    pub fn new(reader: R) -> Lines<R> {
        Lines { reader, line: 0, ended: false }
    }

    /// The next line that is not empty. `None` at the end.
    fn line(&mut self) -> Result<Option<String>, ImportError> {
        loop {
            let mut bytes = Vec::new();
            self.line += 1;
            let line = self.line;
            // One byte above the limit shows that the line is too long.
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
        let exported: ExportedRecord = serde_json::from_str(&text)
            .map_err(|error| ImportError::Line { line: self.line, reason: error.to_string() })?;
        Ok(Exported { entry: exported.try_into()?, text })
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
        let lines = entries
            .iter()
            .map(|entry| serde_json::to_string(&ExportedRecord::from(entry)).expect("plain data"));
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
        let line = serde_json::to_value(ExportedRecord::from(&chain[1])).expect("plain data");
        for field in ["epoch", "position", "seq", "timeNs", "kind", "version"] {
            let mut changed = line.clone();
            changed[field] = (line[field].as_i64().expect("a number") + 1).into();
            let entries = import(&format!("{}{changed}", export(&chain[..1]))).expect("well-formed");
            assert!(check(entries).is_err(), "{field}");
        }
    }

    #[test]
    fn import_error_names_invalid_line() {
        assert!(matches!(import("\n{}"), Err(ImportError::Line { line: 2, .. })));
        let mut line = serde_json::to_value(ExportedRecord::from(&chain_of(1)[0])).expect("plain data");
        let mut newer = line.clone();
        newer["schema"] = 99.into();
        assert_eq!(import(&newer.to_string()), Err(ImportError::Schema { position: 1, found: 99 }));
        line["hash"] = "00".into();
        assert_eq!(import(&line.to_string()), Err(ImportError::Field { position: 1, what: "hash" }));
    }

    /// Yields the same byte for ever, and counts the bytes that were read.
    struct Endless(std::rc::Rc<std::cell::Cell<usize>>);

    impl Read for Endless {
        fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
            bytes.fill(b'x');
            self.0.set(self.0.get() + bytes.len());
            Ok(bytes.len())
        }
    }

    #[test]
    fn stops_reading_overlong_line() {
        let taken = std::rc::Rc::default();
        let mut lines = Lines::new(std::io::BufReader::new(Endless(std::rc::Rc::clone(&taken))));
        assert_eq!(lines.next(), Some(Err(ImportError::Long { line: 1 })));
        assert_eq!(lines.next(), None);
        assert!(taken.get() < 2 * MAX_LINE_BYTES, "{} bytes", taken.get());
    }
}
