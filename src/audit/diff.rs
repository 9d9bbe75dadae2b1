//! The changes in a stream between two of its records, field by field.
//!
//! The diff compares the folded state after the first record with the folded state after the second. The diff
//! of a record with itself contains the changes of that record. Fields are named by their path:
//! `receipt.members[1].snapshot.name`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::streams::Streams;
use crate::domain::ids::StreamId;
use crate::journal::Entry;

/// The difference between two states.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// Stream id.
    pub stream: String,
    /// Name of the group or Backup.
    pub name: String,
    /// Position of the first record.
    pub from: u64,
    /// Position of the second record.
    pub to: u64,
    /// State after the first record; the state before it, if both records are the same.
    pub before: Value,
    /// State after the second record.
    pub after: Value,
    /// Fields that differ, ordered by path.
    pub changed: Vec<Changed>,
}

/// One changed field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    /// Path of the field.
    pub field: String,
    /// Value before; none if the field did not exist.
    pub before: Option<Value>,
    /// Value after; none if the field no longer exists.
    pub after: Option<Value>,
}

/// The reason why two records cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incomparable {
    /// The record does not exist.
    #[error("the journal has no record {0}")]
    Missing(u64),
    /// The records belong to different streams.
    #[error(
        "record {from} is of {first}, record {to} of {second}: only records of one stream can be compared"
    )]
    Streams {
        /// Position of the first record.
        from: u64,
        /// Stream of the first record.
        first: String,
        /// Position of the second record.
        to: u64,
        /// Stream of the second record.
        second: String,
    },
    /// The stream does not fold.
    #[error("record {position} breaks the stream: {why}")]
    Broken {
        /// Position of the record that breaks the stream.
        position: u64,
        /// The reason.
        why: String,
    },
}

/// Compares the states after two records of one stream.
///
/// # Errors
/// A record does not exist, the records belong to different streams, or the stream does not fold up to them.
pub fn diff(entries: &[Entry], from: u64, to: u64) -> Result<Diff, Incomparable> {
    let stream = |position| {
        let entry = entries.iter().find(|entry| entry.position == position);
        entry.map(|entry| StreamId(entry.stream)).ok_or(Incomparable::Missing(position))
    };
    let (first, second) = (stream(from)?, stream(to)?);
    if first != second {
        let (first, second) = (called(entries, first), called(entries, second));
        return Err(Incomparable::Streams { from, first, to, second });
    }
    let until = if from == to { from.saturating_sub(1) } else { from };
    let (before, after) = (state(entries, first, until)?, state(entries, first, to)?);
    let changed = changed(&before, &after);
    Ok(Diff { stream: first.to_string(), name: called(entries, first), from, to, before, after, changed })
}

fn called(entries: &[Entry], stream: StreamId) -> String {
    let streams = Streams::of(entries.iter().filter(|entry| StreamId(entry.stream) == stream));
    let name = streams.get(stream).map(|stream| stream.name.clone()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| stream.short())
}

/// The state of the stream, folded up to the record at `until`.
fn state(entries: &[Entry], stream: StreamId, until: u64) -> Result<Value, Incomparable> {
    let of = entries.iter().filter(|entry| StreamId(entry.stream) == stream && entry.position <= until);
    let streams = Streams::of(of);
    let Some(stream) = streams.get(stream) else { return Ok(Value::Null) };
    if let Some(broken) = &stream.broken {
        return Err(Incomparable::Broken { position: broken.position, why: broken.why.clone() });
    }
    let folded = serde_json::to_value(&stream.folded).unwrap_or_default();
    // All records of a stream have one kind, so the name of the kind is left out.
    Ok(match folded {
        Value::Object(kinds) => kinds.into_iter().next().map_or(Value::Null, |(_, state)| state),
        other => other,
    })
}

fn changed(before: &Value, after: &Value) -> Vec<Changed> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten(String::new(), before, &mut old);
    flatten(String::new(), after, &mut new);
    let mut fields: Vec<&String> = old.keys().chain(new.keys()).collect();
    fields.sort();
    fields.dedup();
    let differing = fields.into_iter().filter(|field| old.get(*field) != new.get(*field));
    let value = |of: &BTreeMap<String, Value>, field: &String| of.get(field).cloned();
    differing
        .map(|field| Changed { field: field.clone(), before: value(&old, field), after: value(&new, field) })
        .collect()
}

/// Collects the leaves by their paths. Null and empty values are leaves too: a field that gets its first
/// entry then lists only that entry as changed.
fn flatten(path: String, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            let under = |name: &String| if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            fields.iter().for_each(|(name, value)| flatten(under(name), value, into));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| flatten(format!("{path}[{at}]"), item, into));
        }
        Value::Null => {}
        leaf => drop(into.insert(path, leaf.clone())),
    }
}
