//! Describes the repairs of an open, and records them.
//!
//! Every repair is reported. Each [`Repair`] is in [`Opened`](super::Opened) and in a record of its own in
//! the journal. That record is on disk before the repair is carried out: it is first written to the whole
//! half, and the other half is then made from it. So an interrupted repair is repeated and reported again.
//!
//! These are records of [`KIND`] 32, version 1. The payload is the sentence in UTF-8 and belongs to the
//! journal: no caller knows its kind and no machine folds it. They are in one stream of their own, which
//! never has work left.

use std::fmt;

use uuid::Uuid;

use super::archive::{self, Checkpoint};
use super::envelope::SCHEMA;
use super::record::Record;
use super::store::{Batch, Meta, StreamHead, StreamState};
use super::writer::Staged;

/// Kind of a repair record.
pub const KIND: u16 = 32;

const VERSION: u16 = 1;

/// Longest sentence, in bytes. The rest of a longer one is omitted.
const MAX_TEXT_BYTES: usize = 2048;

/// A repair of an open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// An earlier release left a journal without a log. The log was written.
    EvidenceBegun {
        /// Number of copied records.
        records: u64,
    },
    /// A damaged, short or missing log was rebuilt from the database.
    EvidenceRebuilt {
        /// The problem of the log.
        why: String,
        /// New path of the old files. `None` if there were none.
        aside: Option<String>,
        /// Number of copied records.
        records: u64,
    },
    /// Bytes behind the last whole batch of the log were truncated. They held no acknowledged record.
    EvidenceTrimmed {
        /// Number of bytes.
        bytes: u64,
        /// Position of the record before them.
        after: u64,
    },
    /// The database lacked records of the log.
    DatabaseCaughtUp {
        /// First of these records.
        from: u64,
        /// Last of these records.
        to: u64,
    },
    /// A database that could not be opened, was damaged or was missing was rebuilt from the log.
    DatabaseRebuilt {
        /// The problem of the database.
        why: String,
        /// New path of the old files. `None` if there were none.
        aside: Option<String>,
        /// Number of copied records.
        records: u64,
    },
    /// The index of an archive was missing or damaged, and was rebuilt from the archive.
    IndexRebuilt { name: String },
    /// The carry-over behind the archives was missing or damaged, and was rebuilt from them.
    CarryOverRebuilt { name: String },
    /// The disk was full, and the ballast was removed.
    BallastSpent {
        /// Size of the ballast in bytes.
        bytes: u64,
    },
}

impl Repair {
    /// The message before the repair: the problem, and the action of the next start.
    pub fn ahead(&self) -> String {
        match self {
            Repair::EvidenceBegun { .. } => {
                "there are no evidence segments: the next start writes them from the database".to_owned()
            }
            Repair::EvidenceRebuilt { why, .. } => {
                format!("the evidence cannot be used ({why}): the next start rebuilds it from the database")
            }
            Repair::EvidenceTrimmed { bytes, after } => {
                format!(
                    "{bytes} bytes behind record {after} of the evidence are not a whole batch: the next start cuts them off"
                )
            }
            Repair::DatabaseCaughtUp { from, to } => {
                format!("records {from} to {to} are read from the evidence: the database lacks them")
            }
            Repair::DatabaseRebuilt { why, .. } => {
                format!("the database cannot be used ({why}): all records are read from the evidence")
            }
            Repair::IndexRebuilt { name } | Repair::CarryOverRebuilt { name } => {
                format!(
                    "archive/{name} is missing or damaged: the next start makes it anew from the archives"
                )
            }
            Repair::BallastSpent { bytes } => {
                format!("the disk is full: the next start gives up the {bytes} bytes put aside for that")
            }
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept =
            |aside: &Option<String>| aside.as_ref().map(|name| format!("; the old files are in {name}"));
        match self {
            Repair::EvidenceBegun { records } => {
                write!(f, "there were no evidence segments: {records} records were copied from the database")
            }
            Repair::EvidenceRebuilt { why, aside, records } => {
                let kept = kept(aside).unwrap_or_default();
                write!(f, "the evidence was rebuilt from the database, {records} records ({why}){kept}")
            }
            Repair::EvidenceTrimmed { bytes, after } => {
                write!(
                    f,
                    "{bytes} bytes behind record {after} of the evidence were no whole batch and were cut off"
                )
            }
            Repair::DatabaseCaughtUp { from, to } => {
                write!(f, "the database lacked records {from} to {to}, which were copied from the evidence")
            }
            Repair::DatabaseRebuilt { why, aside, records } => {
                let kept = kept(aside).unwrap_or_default();
                write!(f, "the database was rebuilt from the evidence, {records} records ({why}){kept}")
            }
            Repair::IndexRebuilt { name } => {
                write!(
                    f,
                    "the index archive/{name} was missing or damaged and was made anew from its archive"
                )
            }
            Repair::CarryOverRebuilt { name } => {
                write!(
                    f,
                    "archive/{name}, with the records of runs that have not ended, was missing or damaged and was made anew from the archives"
                )
            }
            Repair::BallastSpent { bytes } => {
                write!(f, "the disk was full: the {bytes} bytes put aside for that were given up")
            }
        }
    }
}

/// The namespace UUID of the id of the repair stream. Never changes: it is part of the journal's format.
const NAMESPACE: Uuid = Uuid::from_u128(0x9d0c_5f6e_2a41_5b7e_8c53_71d0_64ab_e2f9);

/// The stream of the repair records.
pub fn stream() -> Uuid {
    Uuid::new_v5(&NAMESPACE, b"journal")
}

/// The sentence of a repair or a checkpoint, which are the journal's records about itself. `None` for a
/// record of another kind.
pub fn text(record: &Record) -> Option<String> {
    match record.kind {
        KIND => Some(String::from_utf8_lossy(&record.payload).into_owned()),
        archive::KIND => {
            Some(Checkpoint::of(record).map_or_else(
                || "a checkpoint that this stillpoint does not know".to_owned(),
                |c| c.to_string(),
            ))
        }
        _ => None,
    }
}

fn record(repair: &Repair, time_ns: i64) -> Record {
    let mut text = repair.to_string();
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text.truncate(end.unwrap_or_default());
    Record { kind: KIND, version: VERSION, time_ns, payload: text.into_bytes() }
}

/// The batch that claims the epoch of `meta` and records `repairs`. `known` is the stream so far. From here
/// on an older binary refuses the journal. Earlier records stay unchanged.
pub(super) fn claim(meta: Meta, repairs: &[Repair], known: Option<StreamHead>, time_ns: i64) -> Batch {
    let mut staged = Staged::new(Meta { schema: SCHEMA, ..meta });
    if !repairs.is_empty() {
        let records: Vec<_> = repairs.iter().map(|repair| record(repair, time_ns)).collect();
        staged.add(stream(), known, &records, StreamState::Finished);
    }
    staged.into_batch()
}
