//! Describes the repairs of an open, and records them.
//!
//! Every repair is reported. Each [`Repair`] is in [`Opened`](super::Opened) and in a record of its own in
//! the journal, which is on disk before the index is rebuilt. An index that only lacks the last records is
//! caught up at each open after a crash. That is not a repair.
//!
//! These are records of [`KIND`] 32, version 1. The payload is the sentence in UTF-8 and belongs to the
//! journal: no caller knows its kind and no machine folds it. They are in one stream of their own, which
//! never has work left.

use std::fmt;

use uuid::Uuid;

use super::archive::{self, Carry, Checkpoint};
use super::envelope::SCHEMA;
use super::record::{self, Record};
use super::staged::Staged;
use super::store::{Batch, Meta, StreamHead, StreamState};

/// Kind of a repair record.
pub const KIND: u16 = 32;

const VERSION: u16 = 1;

/// Longest sentence, in bytes. The rest of a longer one is omitted.
const MAX_TEXT_BYTES: usize = 2048;

/// A repair of an open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// An earlier release left a journal without a log. The log was written.
    LogBegun {
        /// Number of copied records.
        records: u64,
    },
    /// Records of the log were replaced by those of its index, on request.
    LogRebuilt(Rebuilt),
    /// The bytes of an interrupted write behind the last batch of the log were truncated. They held no
    /// acknowledged record.
    TailTruncated {
        /// Number of bytes.
        bytes: u64,
        /// Position of the record before them.
        after: u64,
    },
    /// An index that could not be opened, differed from the log or was missing was rebuilt from the log.
    IndexRebuilt {
        /// The problem of the index.
        why: String,
        /// New path of the old files. `None` if they were removed or missing.
        aside: Option<String>,
        /// Number of copied records.
        records: u64,
    },
    /// The index of an archive was missing or damaged, and was rebuilt from the archive.
    ArchiveIndexRebuilt { name: String },
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
            Repair::LogBegun { .. } => {
                "an earlier release wrote no log: the next start writes it from the database".to_owned()
            }
            Repair::LogRebuilt(rebuilt) => rebuilt.to_string(),
            Repair::TailTruncated { bytes, after } => {
                format!(
                    "{bytes} bytes behind record {after} of the log are not a whole batch: the next start truncates them"
                )
            }
            Repair::IndexRebuilt { why, .. } => {
                format!("the index cannot be used ({why}): the next start rebuilds it from the log")
            }
            Repair::ArchiveIndexRebuilt { name } => {
                format!("archive/{name} is missing or damaged: the next start rebuilds it from the archives")
            }
            Repair::BallastSpent { bytes } => {
                format!("the disk is full: the next start removes the ballast of {bytes} bytes")
            }
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Repair::LogBegun { records } => {
                write!(f, "an earlier release wrote no log: {records} records were copied from the database")
            }
            Repair::LogRebuilt(rebuilt) => rebuilt.fmt(f),
            Repair::TailTruncated { bytes, after } => {
                write!(
                    f,
                    "{bytes} bytes behind record {after} of the log were not a whole batch and were truncated"
                )
            }
            Repair::IndexRebuilt { why, aside, records } => {
                write!(f, "the index was rebuilt from the log, {records} records ({why})")?;
                match aside {
                    Some(name) => write!(f, "; the old files are in {name}"),
                    None => Ok(()),
                }
            }
            Repair::ArchiveIndexRebuilt { name } => {
                write!(f, "the index archive/{name} was missing or damaged and was rebuilt from its archive")
            }
            Repair::BallastSpent { bytes } => {
                write!(f, "the disk was full: the ballast of {bytes} bytes was removed")
            }
        }
    }
}

/// The result of a rebuild of the log from its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// Number of records that came from the index.
    pub replaced: u64,
    /// The last record, before the record of the rebuild.
    pub last: u64,
    /// The last record that is known to have existed, if it is lost.
    pub lost: Option<u64>,
    /// The last epoch that was claimed, if neither the log nor the index has it. Its records may be lost.
    pub lost_epoch: Option<u64>,
}

impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rebuilt { replaced, last, lost, lost_epoch } = self;
        write!(f, "the log was rebuilt up to record {last}, {replaced} records of it from its index")?;
        if let Some(known) = lost {
            write!(f, "; records {} to {known} are lost, as accepted", last + 1)?;
        }
        match lost_epoch {
            Some(epoch) => write!(f, "; records up to epoch {epoch} may be lost, as accepted"),
            None => Ok(()),
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
        record::CARRY => Some(Carry::of(record).map_or_else(
            || "copies of records that this stillpoint does not know".to_owned(),
            |carry| carry.to_string(),
        )),
        _ => None,
    }
}

/// Number of records in one of [`batches`].
const BATCH_RECORDS: usize = 64;

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

/// Batches that append `records` to the journal's own stream behind `meta`. `known` is the stream so far.
pub(super) fn batches(
    meta: Meta,
    records: Vec<Record>,
    known: Option<StreamHead>,
) -> impl Iterator<Item = Batch> {
    let (mut meta, mut known, mut rest) = (meta, known, records);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let after = rest.split_off(rest.len().min(BATCH_RECORDS));
        let mut staged = Staged::new(meta);
        staged.add(stream(), known, &std::mem::replace(&mut rest, after), StreamState::Finished);
        let batch = staged.into_batch();
        (meta, known) = (batch.meta, batch.streams.first().copied());
        Some(batch)
    })
}
