//! Records as lines, with the gaps that crashes left.
//!
//! A line looks like `#12 e1 +1.204s orders-db intend retain [relabelled/retain-group] 4 effects`: position, epoch,
//! time since the first line, whom it is about, what it says. Where the epoch changes the daemon was started again,
//! and an intent whose outcome is missing says so.

use std::collections::BTreeMap;
use std::fmt;

use super::describe::describe;
use super::streams::Streams;
use crate::domain::ids::StreamId;
use crate::domain::time::{Millis, Timestamp};
use crate::journal::Entry;
use crate::journal::wire::{decode, kind};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// The daemon was started again.
    Started {
        /// The new epoch.
        epoch: u64,
        /// From the record before to the record after.
        after: Millis,
        /// Epochs in between that wrote nothing.
        silent: u64,
    },
    /// A record.
    Record {
        /// Position.
        position: u64,
        /// Epoch.
        epoch: u64,
        /// Time since the first line.
        offset: Millis,
        /// Group or Backup.
        name: String,
        /// What it says.
        text: String,
        /// An intent without outcome: what is known about it.
        open: Option<&'static str>,
    },
}

/// The lines of entries in the order of the journal: of all of it, or of some streams.
pub fn timeline(entries: &[Entry]) -> Vec<Row> {
    let mut streams = Streams::default();
    let open = open_intents(entries);
    let mut rows = Vec::with_capacity(entries.len() + 4);
    let first = entries.first().map_or(Timestamp(0), at);
    for (index, entry) in entries.iter().enumerate() {
        let before = index.checked_sub(1).map(|index| &entries[index]);
        rows.extend(before.and_then(|before| started(before, entry)));
        let decoded = decode(&entry.record);
        let text = describe(entry);
        streams.admit(entry, decoded);
        let name = streams.get(entry.stream).map(|stream| stream.name.clone()).unwrap_or_default();
        let name = if name.is_empty() { entry.stream.short() } else { name };
        rows.push(Row::Record {
            position: entry.position,
            epoch: entry.epoch,
            offset: at(entry).since(first),
            name,
            text,
            open: open.get(&entry.position).copied(),
        });
    }
    rows
}

fn at(entry: &Entry) -> Timestamp {
    Timestamp(entry.record.time_ns)
}

fn started(before: &Entry, entry: &Entry) -> Option<Row> {
    let silent = entry.epoch.checked_sub(before.epoch)?.checked_sub(1)?;
    Some(Row::Started { epoch: entry.epoch, after: at(entry).since(at(before)), silent })
}

/// Positions of the intents that no outcome follows, with what is known.
fn open_intents(entries: &[Entry]) -> BTreeMap<u64, &'static str> {
    let last_epoch = entries.last().map_or(0, |entry| entry.epoch);
    let mut waiting: BTreeMap<StreamId, (u64, u64)> = BTreeMap::new();
    let mut open = BTreeMap::new();
    for entry in entries {
        let before = match entry.record.kind {
            kind::GROUP_INTENDED => waiting.insert(entry.stream, (entry.position, entry.epoch)),
            kind::GROUP_ENDED => waiting.remove(&entry.stream).and(None),
            _ => waiting.remove(&entry.stream),
        };
        open.extend(before.map(|(position, _)| (position, "no outcome: the process ended here")));
    }
    for (position, epoch) in waiting.into_values() {
        let text = if epoch < last_epoch { "no outcome: the process ended here" } else { "no outcome yet" };
        open.insert(position, text);
    }
    open
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { epoch, after, silent: 0 } => {
                write!(f, "--- epoch {epoch}: started again after {after} ---")
            }
            Self::Started { epoch, after, silent } => {
                write!(
                    f,
                    "--- epoch {epoch}: started again after {after}; {silent} before it wrote nothing ---"
                )
            }
            Self::Record { position, epoch, offset: Millis(ms), name, text, open } => {
                write!(f, "#{position} e{epoch} +{}.{:03}s {name} {text}", ms / 1000, ms % 1000)?;
                open.map_or(Ok(()), |open| write!(f, "  <- {open}"))
            }
        }
    }
}
