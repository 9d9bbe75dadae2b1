//! Repeats every recorded decision and compares the results.
//!
//! An intent or a milestone carries the row, the version of the table, and the view of the decision. The
//! records before it give the state, the record itself gives the time. A decision is the *same* if the table
//! gives the same row now, and if the recorded event is the event of that row. A decision of an older version of
//! the table that this one does not repeat is *not comparable*; so are decisions of a newer version, and
//! decisions in a stream after the record that broke it.
//! The end of a Backup that an earlier release recorded is decided again from the ends of its groups. The ends of
//! groups that a Backup records are compared with their streams.
//!
//! Not here: whether outcomes are correct. The journal records the replies to effects, not their results in
//! the cluster.

use serde::Serialize;

use super::describe::event_name;
use super::finished::{self, Compared};
use super::record_text::RecordText;
use super::streams::{Broken, Folded, Streams};
use crate::domain::ids::StreamId;
use crate::domain::time::Timestamp;
use crate::journal::Entry;
use crate::machine::backup::earlier;
use crate::machine::kit::decide::{columns, mismatch};
use crate::machine::kit::step::disagreement;
use crate::machine::kit::table::{self, current_id};
use crate::machine::kit::{
    Action, DecisionRecord, Event, Machine, Reached as _, Run, Stage as _, Timed, decide,
};
use crate::on_machine;
use crate::records::{Decoded, decode};

/// A decision that would be different now, or a record that cannot follow the records before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Position of the record.
    pub position: u64,
    /// The recorded row; for a record without a decision, its name.
    pub recorded: String,
    /// Row of the current table, or the reason why there is none.
    pub now: String,
    /// The first difference between the two.
    pub why: String,
}

/// The result of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayReport {
    /// Number of records that carry a decision.
    pub decisions: u64,
    /// Number of decisions that are the same now.
    pub same: u64,
    /// Decisions that differ, and records that cannot follow the records before them.
    pub different: Vec<Difference>,
    /// Number of decisions of another version of the table, or after a record that broke its stream.
    pub not_comparable: u64,
}

/// Replays entries, in the order of the journal and from its beginning.
pub fn replay<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> ReplayReport {
    let mut replay = Replay::default();
    entries.into_iter().for_each(|entry| replay.admit(entry));
    replay.finish()
}

/// A replay that receives entries one by one and stores none. For a run that has ended it stores only the
/// end, so that a long journal needs little memory.
#[derive(Default)]
pub struct Replay {
    report: ReplayReport,
    streams: Streams,
}

impl Replay {
    /// Processes the next entry.
    pub fn admit(&mut self, entry: &Entry) {
        let Self { report, streams } = self;
        let decoded = decode(&entry.record);
        let folded = streams.get(StreamId(entry.stream)).and_then(|stream| stream.folded.as_ref());
        match (&decoded, folded) {
            (Ok(Decoded::EarlierBackup { event, .. }), Some(Folded::Backup(run))) => {
                if let (earlier::Event::Finished(finished), false) = (event, run.stage.is_final()) {
                    report.end(entry.position, finished::compare(run, streams, finished));
                }
            }
            (Ok(decoded), folded) => {
                on_machine!(decoded, timed => report.decided(entry.position, folded, timed), _ => ());
            }
            (Err(_), _) => {}
        }
        if let (Ok(Decoded::Backup(timed)), Some(Folded::Backup(run))) = (&decoded, folded)
            && let Event::MilestoneReached { reached, .. } = &timed.event
            && let Some(why) = finished::disagreement(run, streams, reached.ends())
        {
            report.illegal(entry.position, reached.milestone().name().to_owned(), why);
        }
        let kind = entry.record.kind;
        let name = decoded.as_ref().ok().map(event_name);
        let broken = streams.admit(entry, decoded).filter(|broken| broken.position == entry.position);
        if let Some(Broken { why, .. }) = broken.cloned() {
            report.illegal(entry.position, name.unwrap_or_else(|| format!("kind {kind}")), why);
        }
        streams.forget_ended(StreamId(entry.stream));
    }

    /// Returns the report. Must be called after the last entry.
    pub fn finish(self) -> ReplayReport {
        self.report
    }
}

impl ReplayReport {
    /// Repeats the decision of a record, if it has one.
    fn decided<M: RecordText>(&mut self, position: u64, folded: Option<&Folded>, timed: &Timed<M>) {
        if let Some(grounds) = timed.event.grounds() {
            self.decision(position, folded.and_then(M::run), &timed.event, grounds, timed.at);
        }
    }

    fn decision<M: Machine>(
        &mut self,
        position: u64,
        run: Option<&Run<M>>,
        event: &Event<M>,
        grounds: &DecisionRecord,
        at: Timestamp,
    ) {
        self.decisions += 1;
        let Some(run) = run.filter(|_| grounds.rules <= M::RULES) else {
            self.not_comparable += 1;
            return;
        };
        match compare(run, event, grounds, at) {
            Ok(()) => self.same += 1,
            // Another version of the table may have decided otherwise.
            Err(_) if grounds.rules < M::RULES => self.not_comparable += 1,
            Err((now, why)) => {
                self.different.push(Difference { position, recorded: grounds.row.clone(), now, why });
            }
        }
    }

    fn end(&mut self, position: u64, compared: Compared) {
        self.decisions += 1;
        match compared {
            Compared::Same => self.same += 1,
            Compared::Unknown => self.not_comparable += 1,
            Compared::Different(now, why) => {
                let recorded = "finished".to_owned();
                self.different.push(Difference { position, recorded, now, why });
            }
        }
    }

    fn illegal(&mut self, position: u64, recorded: String, why: String) {
        // A decision that cannot be folded is counted once, whatever the result of the table is.
        if self.different.last().is_some_and(|last| last.position == position) {
            self.different.pop();
        }
        self.different.push(Difference { position, recorded, now: "illegal".to_owned(), why });
    }
}

/// The row that the table gives now, and the first difference from the recorded row. A row that was merged
/// into another counts as that row.
fn compare<M: Machine>(
    run: &Run<M>,
    event: &Event<M>,
    grounds: &DecisionRecord,
    at: Timestamp,
) -> Result<(), (String, String)> {
    let decision = decide(run, &grounds.view, at);
    let decision = decision.map_err(|error| ("undecided".to_owned(), error.to_string()))?;
    let row = decision.row;
    let parts = |why| (row.id.to_owned(), why);
    if row.id != current_id::<M>(&grounds.row) || matches!(decision.then, Action::Refresh) {
        return Err(parts(why_not(run, grounds, at)));
    }
    disagreement(row, event).map_or(Ok(()), |why| Err(parts(why)))
}

/// The reason why the recorded row does not match now.
fn why_not<M: Machine>(run: &Run<M>, grounds: &DecisionRecord, at: Timestamp) -> String {
    let Some(recorded) = table::row::<M>(&grounds.row) else {
        return format!("the table has no row {}", grounds.row);
    };
    let columns = columns(run, &grounds.view, at).ok();
    let why = columns.and_then(|columns| mismatch(recorded, run, &columns));
    why.unwrap_or_else(|| "both rows match".to_owned())
}
