//! A record as it is exported: every field that goes into its hash, so that a chain verifies without the store.
//!
//! One JSON object per record. The payload is base64 (standard alphabet, padded), hashes are hexadecimal. To check a
//! record, write its envelope as [`super::envelope`] says and hash it with BLAKE3; to check a chain, compare each
//! `prev` with the `hash` before it. [`super::chain::check`] does both.
//!
//! Not here: what the payload means.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::envelope::{CODEC_BINCODE2, SCHEMA};
use super::record::{Entry, Record, StreamId};

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
    pub stream: StreamId,
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

/// An exported record that cannot be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Not a JSON object with these fields.
    #[error("line {line} is no exported record: {reason}")]
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
        if !(1..=SCHEMA).contains(&sealed.schema) {
            return Err(malformed("schema"));
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
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(index, line): (usize, &str)| {
        let sealed: Sealed = serde_json::from_str(line)
            .map_err(|error| ImportError::Line { line: index + 1, reason: error.to_string() })?;
        sealed.try_into()
    };
    lines.map(read).collect()
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
        line["hash"] = "00".into();
        assert_eq!(import(&line.to_string()), Err(ImportError::Field { position: 1, what: "hash" }));
    }
}
