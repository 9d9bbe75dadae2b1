//! The reason of a record: the row of the recovery table that was decided, and the condition that excluded
//! each other row.
//!
//! The records before it give the state. The record itself gives the view and the time. Everything else is
//! computed as it was for the decision. For a decision of another version of the table, only the recorded
//! view is available.

use std::collections::BTreeSet;

use serde::Serialize;

use super::describe::sentence;
use super::record_text::RecordText;
use super::streams::{Folded, Streams};
use crate::domain::ids::StreamId;
use crate::domain::time::Timestamp;
use crate::journal::Entry;
use crate::machine::backup::earlier;
use crate::machine::kit::decide::{columns, mismatch};
use crate::machine::kit::step::says;
use crate::machine::kit::{
    Ask, ColumnId, Columns, Cond, DecisionRecord, Event, Machine, Named as _, OperatorRequest, Reached as _,
    Row, Run, Source, Timed, decide, table,
};
use crate::on_machine;
use crate::records::{Decoded, decode};

/// The explanation of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// Position in the journal.
    pub position: u64,
    /// Stream id.
    pub stream: String,
    /// Name of the group or Backup.
    pub name: String,
    /// Time in nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// Summary of the record.
    pub summary: String,
    /// Stage of the run before the record.
    pub stage: Option<String>,
    /// The decision; none for a record that the table did not decide.
    pub decision: Option<Explanation>,
    /// The reason why the record has no decision, or why its decision cannot be compared.
    pub note: Option<String>,
}

/// A decision with all columns and rows of its stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The recorded row.
    pub row: String,
    /// Version of the table.
    pub rules: u16,
    /// The action of the row, in words.
    pub says: String,
    /// The reason, in the words of the table.
    pub why: String,
    /// The columns that the row reads.
    pub looked_at: Vec<Looked>,
    /// The other columns that rows of this stage read.
    pub beside: Vec<Looked>,
    /// Every other row of the stage.
    pub others: Vec<Other>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Looked {
    /// Name of the column.
    pub column: &'static str,
    /// Value of the column at the time of the decision.
    pub value: &'static str,
    /// Source of the value: `seen`, `known` or `clock`.
    pub from: &'static str,
    /// The values that the row accepts; none if the row does not read the column.
    pub takes: Vec<&'static str>,
}

/// A row that was not decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Other {
    /// Id of the row.
    pub row: &'static str,
    /// The first condition that failed: `Fresh is No`; or that the row matches as well, which is a defect of
    /// the table.
    pub because: String,
}

/// Explains the record at `position`; none if the entries do not contain this record.
pub fn explain(entries: &[Entry], position: u64) -> Option<Explained> {
    let entry = entries.iter().find(|entry| entry.position == position)?;
    let of_stream = entries.iter().filter(|other| other.stream == entry.stream);
    let before = Streams::of(of_stream.clone().filter(|other| other.position < position));
    let after = Streams::of(of_stream.filter(|other| other.position <= position));
    let folded = before.get(StreamId(entry.stream)).and_then(|stream| stream.folded.as_ref());
    let decoded = decode(&entry.record);
    let (decision, note) = match &decoded {
        Ok(decoded) => on_machine!(
            decoded,
            timed => of_record(entries, entry, folded, timed),
            Decoded::EarlierBackup { event, .. } => (None, Some(of_earlier(event).to_owned())),
        ),
        Err(error) => (None, Some(format!("it cannot be read: {error}"))),
    };
    Some(Explained {
        position,
        stream: entry.stream.to_string(),
        name: after.get(StreamId(entry.stream)).map(|stream| stream.name.clone()).unwrap_or_default(),
        time_ns: entry.record.time_ns,
        summary: sentence(&decoded, entry.record.kind),
        stage: folded.map(Folded::stage),
        decision,
        note,
    })
}

/// The decision of a record, or the reason why it has none.
fn of_record<M: RecordText>(
    entries: &[Entry],
    entry: &Entry,
    folded: Option<&Folded>,
    timed: &Timed<M>,
) -> (Option<Explanation>, Option<String>) {
    match (folded.and_then(M::run), timed.event.grounds()) {
        (Some(run), Some(grounds)) => laid_open(run, grounds, timed.at),
        (None, _) if !matches!(timed.event, Event::Planned(_)) => {
            let why = "a record before it broke its stream: what it was decided on is not known";
            (None, Some(why.to_owned()))
        }
        _ => (None, Some(undecided(entries, entry, &timed.event))),
    }
}

fn laid_open<M: Machine>(
    run: &Run<M>,
    grounds: &DecisionRecord,
    at: Timestamp,
) -> (Option<Explanation>, Option<String>) {
    let DecisionRecord { row: id, rules, view } = grounds;
    // An older version of the table that decided the same is explained by this one.
    let repeats = || {
        let now = decide(run, view, at);
        *rules < M::RULES && now.is_ok_and(|decision| decision.row.id == table::current_id::<M>(id))
    };
    if *rules != M::RULES && !repeats() {
        let known = M::RULES;
        let note = format!("version {rules} of the table decided it; this stillpoint knows version {known}");
        return (Some(bare::<M>(grounds)), Some(note));
    }
    let columns = match columns(run, view, at) {
        Ok(columns) => columns,
        Err(error) => return (Some(bare::<M>(grounds)), Some(error.to_string())),
    };
    let Some(row) = table::row::<M>(id) else {
        return (Some(bare::<M>(grounds)), Some(format!("the table has no row {id}")));
    };
    let rows = || M::table().iter().filter(|other| other.stages.contains(&run.stage));
    let asked: BTreeSet<M::Column> = rows().flat_map(|row| row.when.iter().map(|cond| cond.column)).collect();
    let of_row: BTreeSet<M::Column> = row.when.iter().map(|cond| cond.column).collect();
    let explanation = Explanation {
        row: id.clone(),
        rules: *rules,
        says: says(row.then),
        why: row.why.to_owned(),
        looked_at: row.when.iter().map(|cond| looked(cond.column, &columns, Some(cond))).collect(),
        beside: asked.difference(&of_row).map(|column| looked(*column, &columns, None)).collect(),
        others: rows()
            .filter(|other| other.id != row.id)
            .map(|other| failing(other, run, &columns))
            .collect(),
    };
    let note = mismatch(row, run, &columns).map(|why| format!("the recorded row does not match now: {why}"));
    (Some(explanation), note)
}

/// The recorded parts of a decision that this table cannot repeat.
fn bare<M: Machine>(DecisionRecord { row, rules, view }: &DecisionRecord) -> Explanation {
    let named = view.named::<M::Column>().into_iter();
    let looked_at = named.map(|(column, value)| Looked { column, value, from: "seen", takes: Vec::new() });
    Explanation {
        row: row.clone(),
        rules: *rules,
        says: "not known".to_owned(),
        why: "not known".to_owned(),
        looked_at: looked_at.collect(),
        beside: Vec::new(),
        others: Vec::new(),
    }
}

fn looked<C: ColumnId>(column: C, columns: &Columns<C>, cond: Option<&Cond<C>>) -> Looked {
    let from = match column.source() {
        Source::Seen => "seen",
        Source::Known => "known",
        Source::Derived => "derived",
        Source::Clock => "clock",
    };
    let takes = cond.map(|cond| cond.accepts().collect()).unwrap_or_default();
    Looked { column: column.name(), value: columns.value_name(column), from, takes }
}

fn failing<M: Machine>(row: &Row<M>, run: &Run<M>, columns: &Columns<M::Column>) -> Other {
    let because = mismatch(row, run, columns).unwrap_or_else(|| "it matches as well".to_owned());
    Other { row: row.id, because }
}

fn undecided<M: RecordText>(entries: &[Entry], entry: &Entry, event: &Event<M>) -> String {
    match event {
        Event::Planned(_) => {
            "the plan: settled from the Backup and the cluster before the recovery table is asked \
                              for the first time"
                .to_owned()
        }
        Event::StepCompleted { step, .. } => {
            let before = entries.iter().rfind(|o| o.stream == entry.stream && o.position < entry.position);
            let intent = before.map_or_else(String::new, |intent| format!(" at record {}", intent.position));
            format!("an outcome is reported, not decided: {} was intended{intent}", step.name())
        }
        Event::Part(part) => {
            let later = entries.iter().filter(|o| o.stream == entry.stream && o.position > entry.position);
            let closing = later.filter_map(|later| Some((closes(later)?, later.position))).next();
            let by = closing.map_or_else(
                || "the milestone that is missing".to_owned(),
                |(milestone, at)| format!("{milestone} at record {at}"),
            );
            format!("a part, the {}: it was decided together with {by}", <M as RecordText>::part(part))
        }
        Event::RequestReceived(OperatorRequest { ask, by, .. }) => format!(
            "an input, not a decision: {by} asked to {}, and {}",
            ask.name(),
            match ask {
                Ask::Resume => "refusals and repetitions are counted from the beginning again",
                Ask::Abandon => {
                    "from here on the run is undone or, after the pivot, ends with its storage retained"
                }
                Ask::Keep => "from here on nothing is deleted: the run ends with its storage retained",
            }
        ),
        Event::Reconstructed(found) => M::why_reconstructed(found),
        Event::Intended { .. } | Event::MilestoneReached { .. } => "decided by the table".to_owned(),
    }
}

/// The milestone that a record reaches.
fn closes(entry: &Entry) -> Option<&'static str> {
    fn milestone<M: Machine>(event: &Event<M>) -> Option<&'static str> {
        match event {
            Event::MilestoneReached { reached, .. } => Some(reached.milestone().name()),
            _ => None,
        }
    }
    on_machine!(decode(&entry.record).ok()?, timed => milestone(&timed.event), _ => None)
}

fn of_earlier(event: &earlier::Event) -> &'static str {
    match event {
        earlier::Event::Accepted { .. } => {
            "a Backup is accepted when its groups are settled; the recovery table decides about groups only"
        }
        earlier::Event::Finished(_) => "a Backup ends when the last of its groups has ended",
    }
}
