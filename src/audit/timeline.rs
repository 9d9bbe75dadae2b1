//! Records as lines, with the gaps that crashes left.
//!
//! A line has position, epoch, time, time since the first line, whom it is about and what it says. Where the epoch
//! changes the daemon was started again, an intent whose outcome is missing says so, and the effects that failed follow
//! their outcome. How a line looks is left to who prints it.

use std::collections::BTreeMap;

use super::describe::{describe, failures};
use super::streams::Streams;
use crate::domain::ids::StreamId;
use crate::domain::time::{Millis, Timestamp};
use crate::journal::Entry;
use crate::machine::group::Event;
use crate::machine::group::effect::EffectRef;
use crate::records::{Decoded, WireError, decode, kind};

/// An intent without outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Its epoch is over: whether its effects happened is known to the cluster alone.
    Ended,
    /// It may still be under way.
    Pending,
}

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
        /// Stream.
        stream: StreamId,
        /// Time in nanoseconds since the Unix epoch.
        time_ns: i64,
        /// Time since the first line.
        offset: Millis,
        /// Group or Backup.
        name: String,
        /// What it says.
        text: String,
        /// An intent without outcome: what is known about it.
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

/// The lines of one stream, with the gaps between them as they are in the whole journal. Offsets count from its first.
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

/// The failures of an outcome, named by the intent before it, which is remembered here.
fn failed(
    intended: &mut BTreeMap<StreamId, Vec<EffectRef>>,
    streams: &Streams,
    entry: &Entry,
    decoded: &Result<Decoded, WireError>,
) -> Vec<String> {
    let Ok(Decoded::Group(timed)) = decoded else { return Vec::new() };
    match &timed.event {
        Event::Intended { marks, .. } => {
            intended.insert(StreamId(entry.stream), marks.clone());
            Vec::new()
        }
        Event::StepCompleted { outcomes, .. } => {
            let run = streams.get(StreamId(entry.stream)).and_then(|stream| stream.group());
            let claims: Option<Vec<&str>> =
                run.map(|run| run.plan.members.iter().map(|member| member.claim.as_str()).collect());
            let marks = intended.remove(&StreamId(entry.stream)).unwrap_or_default();
            failures(&marks, outcomes, &claims.unwrap_or_default())
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

/// Positions of the intents that no outcome follows, with what is known.
fn open_intents(entries: &[Entry]) -> BTreeMap<u64, Open> {
    let last_epoch = entries.last().map_or(0, |entry| entry.epoch);
    let mut waiting: BTreeMap<StreamId, (u64, u64)> = BTreeMap::new();
    let mut open = BTreeMap::new();
    for entry in entries {
        let before = match entry.record.kind {
            kind::GROUP_INTENDED => waiting.insert(StreamId(entry.stream), (entry.position, entry.epoch)),
            kind::GROUP_ENDED => waiting.remove(&StreamId(entry.stream)).and(None),
            _ => waiting.remove(&StreamId(entry.stream)),
        };
        open.extend(before.map(|(position, _)| (position, Open::Ended)));
    }
    for (position, epoch) in waiting.into_values() {
        open.insert(position, if epoch < last_epoch { Open::Ended } else { Open::Pending });
    }
    open
}
