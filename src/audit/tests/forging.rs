//! A forged record with all hashes recomputed: the chain is valid, and the replay finds the record.

use crate::audit::testing::{journal, script, script_of_a_loss};
use crate::audit::{ReplayReport, replay};
use crate::domain::time::Timestamp;
use crate::journal::Entry;
use crate::journal::chain::check;
use crate::journal::export::{ExportedRecord, import};
use crate::machine::backup::{Phase, earlier};
use crate::machine::group::Event;
use crate::machine::group::GroupMachine;
use crate::machine::group::Step;
use crate::machine::group::Timed;
use crate::machine::group::columns::Column;
use crate::machine::group::table::TABLE;
use crate::machine::kit::ColumnId as _;
use crate::machine::kit::DecisionRecord;
use crate::machine::kit::Outcome;
use crate::machine::kit::Row;
use crate::machine::kit::View;
use crate::records::encode_earlier_backup;

type Records = Vec<(u64, Timed)>;

/// Writes the records into a new journal, exports and imports it, and replays it.
async fn forged(records: &Records) -> ReplayReport {
    let entries = journal(records).await;
    let lines = entries
        .iter()
        .map(|entry| serde_json::to_string(&ExportedRecord::from(entry)).expect("plain data") + "\n");
    let entries = import(&lines.collect::<String>()).expect("exported lines");
    check(entries.clone()).expect("every hash holds: the chain alone does not tell");
    replay(&entries)
}

fn grounds(event: &mut Event) -> Option<&mut DecisionRecord> {
    match event {
        Event::Intended { grounds, .. } | Event::MilestoneReached { grounds, .. } => Some(grounds),
        _ => None,
    }
}

/// Positions of the records with a decision. The tests change these decisions.
fn decisions(records: &Records) -> Vec<usize> {
    let mut copy = records.clone();
    (0..records.len()).filter(|at| grounds(&mut copy[*at].1.event).is_some()).collect()
}

fn row(grounds: &DecisionRecord) -> &'static Row<GroupMachine> {
    TABLE.iter().find(|row| row.id == grounds.row).expect("a row of the table")
}

#[tokio::test]
async fn detects_forged_row_in_every_decision() {
    let records = script_of_a_loss(Some(Step::Rebuild));
    for at in decisions(&records) {
        let mut forged_records = records.clone();
        let grounds = grounds(&mut forged_records[at].1.event).expect("a decision");
        let other = TABLE.iter().find(|other| other.id != grounds.row && other.then == row(grounds).then);
        grounds.row = other.map_or("end/rest", |other| other.id).to_owned();
        assert!(!forged(&forged_records).await.different.is_empty(), "record {at}");
    }
}

#[tokio::test]
async fn detects_forged_observation_in_every_column_read() {
    let records = script_of_a_loss(Some(Step::Rebuild));
    let mut forgeries = 0;
    for at in decisions(&records) {
        let looked_at = row(grounds(&mut records[at].1.event.clone()).expect("a decision")).when.iter();
        for cond in looked_at {
            let Some(seen) = View::columns::<Column>().position(|column| column == cond.column) else {
                continue;
            };
            let values = 0..cond.column.values().len() as u8;
            let Some(other) = values.into_iter().find(|value| cond.mask & (1 << value) == 0) else {
                continue;
            };
            let mut forged_records = records.clone();
            grounds(&mut forged_records[at].1.event).expect("a decision").view.seen[seen] = other;
            let report = forged(&forged_records).await;
            assert!(!report.different.is_empty(), "record {at}: {} forged", cond.column.name());
            forgeries += 1;
        }
    }
    assert!(forgeries > 40, "{forgeries} forgeries");
}

#[tokio::test]
async fn detects_forged_time_where_clock_was_read() {
    let hour = 3_600_000_000_000;
    let records = script(None, false);
    let create = decisions(&records)[0];
    let mut forged_records = records.clone();
    forged_records[create].1.at = Timestamp(records[create].1.at.0 + hour);
    let report = forged(&forged_records).await;
    assert_eq!(report.different[0].why, "CutDeadline is Passed");

    // The other direction: after a delete without a finalizer, a content may still appear late.
    let mut forged_records = script(None, true);
    for (_, timed) in &mut forged_records {
        if let Event::StepCompleted { step: Step::UndoDeleteGroup, outcomes } = &mut timed.event {
            outcomes.iter_mut().for_each(|outcome| {
                *outcome = Outcome::Done { uid: "u".to_owned(), resource_version: String::new() };
            });
        }
    }
    let report = forged(&forged_records).await;
    assert_eq!(report.different[0].why, "LateWindow is Open", "{report:?}");
}

/// The entries of a script, with another end of the Backup.
async fn ending(records: &Records, end: &earlier::Event) -> ReplayReport {
    let mut entries: Vec<Entry> = journal(records).await;
    let last = entries.last_mut().expect("the end of the Backup");
    last.record = encode_earlier_backup(end, Timestamp(last.record.time_ns)).expect("it fits");
    replay(&entries)
}

#[tokio::test]
async fn detects_forged_end_of_backup() {
    let end = earlier::Finished { phase: Phase::Completed, failed: Vec::new(), warnings: Vec::new() };
    let end = earlier::Event::Finished(end);
    assert_eq!(ending(&script(None, false), &end).await.different, []);
    let report = ending(&script(None, true), &end).await;
    let difference = &report.different[0];
    assert_eq!(
        (difference.recorded.as_str(), difference.now.as_str()),
        ("finished", "Failed shop/orders-db SP0012")
    );
    assert_eq!(difference.why, "the record says Completed");

    let mut unfinished = script(None, false);
    unfinished.truncate(5);
    let report = ending(&unfinished, &end).await;
    assert_eq!(report.different[0].why, "group shop/orders-db has not ended");
}
