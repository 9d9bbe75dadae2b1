//! One record as data: the output of `journal show -o json`, and the readable half of `journal export`.

use serde::Serialize;
use serde_json::{Value, json};

use super::describe::sentence;
use super::record_text::RecordText;
use crate::journal::Entry;
use crate::machine::kit::{Event, Machine, Named, Reached};
use crate::records::{Decoded, decode, kind};
use crate::{on_machine, records};

/// One record as data.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// Position in the journal.
    pub position: u64,
    /// Epoch of the daemon.
    pub epoch: u64,
    /// Stream id.
    pub stream: String,
    /// Sequence number in the stream.
    pub seq: u64,
    /// Time, RFC 3339.
    pub time: String,
    /// Time in nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// Kind of record, as a number.
    pub kind: u16,
    /// Name of the kind.
    pub kind_name: &'static str,
    /// Version of the payload as it was written.
    pub version: u16,
    /// Hash of the record before it, hexadecimal.
    pub prev: String,
    /// Hash of this record, hexadecimal.
    pub hash: String,
    /// Summary of the record, in words.
    pub summary: String,
    /// The event; none if the payload cannot be decoded.
    pub event: Option<Value>,
    /// For a decision: the columns by name.
    pub view: Option<Value>,
}

impl Shown {
    pub fn of(entry: &Entry) -> Self {
        let decoded = decode(&entry.record);
        let note = records::text(&entry.record);
        let word = note.as_ref().map_or_else(|| kind::word(entry.record.kind), |_| Some("note"));
        let summary = note.unwrap_or_else(|| sentence(&decoded, entry.record.kind));
        let (event, view) = match decoded {
            Ok(decoded) => on_machine!(
                decoded,
                timed => (Some(json(&timed.event)), named_view(&timed.event)),
                Decoded::EarlierBackup { event, .. } => (serde_json::to_value(&event).ok(), None),
            ),
            Err(_) => (None, None),
        };
        Self {
            position: entry.position,
            epoch: entry.epoch,
            stream: entry.stream.to_string(),
            seq: entry.seq,
            time: rfc3339(entry.record.time_ns),
            time_ns: entry.record.time_ns,
            kind: entry.record.kind,
            kind_name: word.unwrap_or("unknown"),
            version: entry.record.version,
            prev: hex(&entry.prev),
            hash: hex(&entry.hash),
            summary,
            event,
            view,
        }
    }
}

/// An event of any machine as JSON. The names of events and fields are a contract.
fn json<M: RecordText>(event: &Event<M>) -> Value {
    match event {
        Event::Planned(plan) => json!({"Planned": plan}),
        Event::Intended { grounds, step, marks } => {
            json!({"Intended": {"grounds": grounds, "step": step.name(), "marks": marks}})
        }
        Event::StepCompleted { step, outcomes } => {
            json!({"Ended": {"step": step.name(), "outcomes": outcomes}})
        }
        Event::Part(part) => json!({ M::PART: part }),
        Event::Reconstructed(found) => json!({"Reconstructed": found}),
        Event::MilestoneReached { grounds, reached } => {
            let (milestone, facts) = (reached.milestone().name(), reached.evidence());
            json!({"Reached": {"grounds": grounds, "milestone": milestone, "facts": facts}})
        }
        Event::RequestReceived(request) => json!({"Asked": request}),
    }
}

fn named_view<M: Machine>(event: &Event<M>) -> Option<Value> {
    let named = event.grounds()?.view.named::<M::Column>().into_iter();
    Some(named.map(|(column, value)| (column.to_owned(), Value::from(value))).collect())
}

/// Formats a time in RFC 3339, in UTC.
pub fn rfc3339(time_ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time_ns))
        .map_or_else(|_| format!("{time_ns} ns"), |time| time.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
