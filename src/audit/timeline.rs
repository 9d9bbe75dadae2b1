//! Records as lines, with the gaps that crashes left.
//!
//! A line contains the position, the epoch, the time, the time since the first line, the name of the group or
//! Backup, and the summary. A change of the epoch is reported as a start of the daemon. An intent without an
//! outcome is marked. The effects that failed follow their outcome. The caller formats the lines.

use std::collections::BTreeMap;

use super::describe::{describe, effects, failures};
use super::record_text::RecordText;
use super::streams::{Folded, Streams};
use crate::domain::ids::StreamId;
use crate::domain::time::{Millis, Timestamp};
use crate::journal::Entry;
use crate::machine::kit::Event;
use crate::on_machine;
use crate::records::{Decoded, WireError, decode, kind};

/// An intent without outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// The epoch of the intent has ended: only the cluster can answer whether its effects happened.
    Ended,
    /// The step may still be in progress.
    Pending,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// The daemon was started again.
    Started {
        /// The new epoch.
        epoch: u64,
        /// Time from the record before the start to the record after it.
        after: Millis,
        /// Number of epochs in between that wrote no record.
        silent: u64,
    },
    Record {
        /// Position in the journal.
        position: u64,
        epoch: u64,
        stream: StreamId,
        /// Time in nanoseconds since the Unix epoch.
        time_ns: i64,
        /// Time since the first line.
        offset: Millis,
        /// Name of the group or Backup.
        name: String,
        /// Summary of the record.
        text: String,
        /// The state of an intent without outcome.
        open: Option<Open>,
        /// Effects of an outcome that are not known to have happened.
        failures: Vec<String>,
    },
}

/// The lines of all entries, in the order of the journal.
pub fn timeline(entries: &[Entry]) -> Vec<Row> {
    let mut streams = Streams::default();
    let open = open_intents(entries);
    let mut rows = Vec::with_capacity(entries.len() + 4);
    let mut intended = BTreeMap::new();
    let first = entries.first().map_or(Timestamp(0), at);
    for (index, entry) in entries.iter().enumerate() {
        let before = index.checked_sub(1).map(|index| &entries[index]);
        rows.extend(before.and_then(|before| started(before, entry)));
        let decoded = decode(&entry.record);
        let text = describe(entry);
        let failures = failed(&mut intended, &streams, entry, &decoded);
        streams.admit(entry, decoded);
        let name = streams.get(StreamId(entry.stream)).map(|stream| stream.name.clone()).unwrap_or_default();
        let name = if name.is_empty() { StreamId(entry.stream).short() } else { name };
        rows.push(Row::Record {
            position: entry.position,
            epoch: entry.epoch,
            stream: StreamId(entry.stream),
            time_ns: entry.record.time_ns,
            offset: at(entry).since(first),
            name,
            text,
            open: open.get(&entry.position).copied(),
            failures,
        });
    }
    rows
}

/// The lines of one stream, with the gaps of the whole journal between them. Offsets count from the first
/// line of the stream.
pub fn only(rows: Vec<Row>, stream: StreamId) -> Vec<Row> {
    let of = |row: &Row| matches!(row, Row::Record { stream: found, .. } if *found == stream);
    let (Some(first), Some(last)) = (rows.iter().position(of), rows.iter().rposition(of)) else {
        return Vec::new();
    };
    let start = match &rows[first] {
        Row::Record { offset, .. } => *offset,
        Row::Started { .. } => Millis(0),
    };
    let kept = rows.into_iter().skip(first).take(last - first + 1);
    let kept = kept.filter(|row| of(row) || matches!(row, Row::Started { .. }));
    kept.map(|mut row| {
        if let Row::Record { offset, .. } = &mut row {
            *offset = Millis(offset.0.saturating_sub(start.0));
        }
        row
    })
    .collect()
}

/// The failures of an outcome. The intent before the outcome names the effects; `intended` stores them.
fn failed(
    intended: &mut BTreeMap<StreamId, Vec<String>>,
    streams: &Streams,
    entry: &Entry,
    decoded: &Result<Decoded, WireError>,
) -> Vec<String> {
    let Ok(decoded) = decoded else { return Vec::new() };
    let stream = StreamId(entry.stream);
    let folded = streams.get(stream).and_then(|stream| stream.folded.as_ref());
    on_machine!(decoded, timed => failed_of(intended, stream, folded, &timed.event), _ => Vec::new())
}

fn failed_of<M: RecordText>(
    intended: &mut BTreeMap<StreamId, Vec<String>>,
    stream: StreamId,
    folded: Option<&Folded>,
    event: &Event<M>,
) -> Vec<String> {
    match event {
        Event::Intended { marks, .. } => {
            intended.insert(stream, effects(marks, folded.and_then(M::run)));
            Vec::new()
        }
        Event::StepCompleted { outcomes, .. } => {
            failures(&intended.remove(&stream).unwrap_or_default(), outcomes)
        }
        _ => Vec::new(),
    }
}

fn at(entry: &Entry) -> Timestamp {
    Timestamp(entry.record.time_ns)
}

fn started(before: &Entry, entry: &Entry) -> Option<Row> {
    let silent = entry.epoch.checked_sub(before.epoch)?.checked_sub(1)?;
    Some(Row::Started { epoch: entry.epoch, after: at(entry).since(at(before)), silent })
}

/// Positions of the intents without an outcome, with their states.
fn open_intents(entries: &[Entry]) -> BTreeMap<u64, Open> {
    let last_epoch = entries.last().map_or(0, |entry| entry.epoch);
    let mut waiting: BTreeMap<StreamId, (u64, u64)> = BTreeMap::new();
    let mut open = BTreeMap::new();
    for entry in entries {
        let before = match entry.record.kind {
            kind if kind::is_intent(kind) => {
                waiting.insert(StreamId(entry.stream), (entry.position, entry.epoch))
            }
            kind if kind::is_outcome(kind) => waiting.remove(&StreamId(entry.stream)).and(None),
            _ => waiting.remove(&StreamId(entry.stream)),
        };
        open.extend(before.map(|(position, _)| (position, Open::Ended)));
    }
    for (position, epoch) in waiting.into_values() {
        open.insert(position, if epoch < last_epoch { Open::Ended } else { Open::Pending });
    }
    open
}
