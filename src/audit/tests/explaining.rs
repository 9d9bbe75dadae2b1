//! The output of explain and diff for a run that lost a member and was killed.

use serde_json::Value;

use crate::audit::testing::{journal, script, script_of_a_loss};
use crate::audit::{Changed, Incomparable, describe, diff, explain};
use crate::journal::Entry;
use crate::machine::group::Stage;
use crate::machine::group::Step;
use crate::machine::group::table::RULES;
use crate::machine::group::table::TABLE;

fn position(entries: &[Entry], begins: &str) -> u64 {
    entries.iter().find(|entry| describe(entry).starts_with(begins)).expect(begins).position
}

#[tokio::test]
async fn explains_row_columns_and_rejected_rows_of_decision() {
    let entries = journal(&script(None, false)).await;
    let explained = explain(&entries, position(&entries, "intend delete-group")).expect("a record");
    assert_eq!((explained.stage.as_deref(), explained.note), (Some("Releasing"), None));
    let decision = explained.decision.expect("a decision");
    assert_eq!(
        (decision.row.as_str(), decision.says.as_str()),
        ("release/5-delete-group", "to delete-group")
    );
    assert_eq!(decision.why, "nothing ties the members to the group any more");
    let fresh = decision.looked_at.iter().find(|looked| looked.column == "Fresh").expect("it looks at Fresh");
    assert_eq!((fresh.value, fresh.from, fresh.takes.as_slice()), ("Yes", "seen", &["Yes"][..]));
    assert!(decision.beside.iter().any(|looked| looked.column == "Loss" && looked.takes.is_empty()));
    let because =
        |row: &str| decision.others.iter().find(|other| other.row == row).map(|o| o.because.as_str());
    assert_eq!(because("release/2-detach"), Some("Ties is Free"));
    let rows = TABLE.iter().filter(|row| row.stages.contains(&Stage::Releasing)).count();
    assert_eq!(decision.others.len(), rows - 1);
    assert!(decision.others.iter().all(|other| other.because != "it matches as well"));
}

#[tokio::test]
async fn every_record_of_a_journal_has_an_explanation() {
    for records in
        [script(Some(Step::Retain), false), script(None, true), script_of_a_loss(Some(Step::Rebuild))]
    {
        let entries = journal(&records).await;
        for entry in &entries {
            let explained = explain(&entries, entry.position).expect("a record");
            assert!(explained.decision.is_some() != explained.note.is_some(), "{explained:?}");
        }
    }
}

#[tokio::test]
async fn record_without_decision_refers_to_its_decision() {
    let entries = journal(&script(None, false)).await;
    let note =
        |begins: &str| explain(&entries, position(&entries, begins)).and_then(|e| e.note).expect("a note");
    let (intent, bound) = (position(&entries, "intend retain"), position(&entries, "reached vs-bound"));
    assert!(note("ended retain").ends_with(&format!("retain was intended at record {intent}")));
    assert!(note("receipt").ends_with(&format!("decided together with vs-bound at record {bound}")));
    assert!(note("planned").starts_with("the plan") && note("finished").contains("last of its groups"));
    assert!(explain(&entries, 900).is_none());
}

#[tokio::test]
async fn decision_of_other_rules_shows_only_its_view() {
    let mut records = script(None, false);
    for (_, timed) in &mut records {
        if let crate::machine::group::Event::Intended { grounds, step: Step::Relabel, .. } = &mut timed.event
        {
            grounds.rules = RULES + 1;
        }
    }
    let entries = journal(&records).await;
    let explained = explain(&entries, position(&entries, "intend relabel")).expect("a record");
    let note =
        format!("version {} of the table decided it; this stillpoint knows version {RULES}", RULES + 1);
    assert_eq!(explained.note, Some(note));
    let decision = explained.decision.expect("what was recorded");
    assert!(decision.others.is_empty() && decision.looked_at.iter().any(|looked| looked.column == "Labels"));
}

fn field<'a>(changed: &'a [Changed], field: &str) -> Option<(Option<&'a Value>, Option<&'a Value>)> {
    let found = changed.iter().find(|changed| changed.field == field)?;
    Some((found.before.as_ref(), found.after.as_ref()))
}

#[tokio::test]
async fn reports_differences_field_by_field() {
    let entries = journal(&script_of_a_loss(None)).await;
    let (bound, cleaned) = (position(&entries, "reached vs-bound"), position(&entries, "reached cleaned"));
    let found = diff(&entries, bound, cleaned).expect("one stream");
    assert_eq!((found.name.as_str(), found.from, found.to), ("orders-db", bound, cleaned));
    let (before, after) = field(&found.changed, "receipt.members[1].snapshot.name").expect("it was rebuilt");
    assert_eq!(before.and_then(Value::as_str), Some("snapshot-01"));
    assert!(after.and_then(Value::as_str).is_some_and(|name| name.starts_with("sp-")), "{after:?}");
    assert_eq!(field(&found.changed, "receipt.members[0].snapshot.name"), None);
    assert_eq!(field(&found.changed, "stage"), Some((Some(&"VSBound".into()), Some(&"Cleaned".into()))));
    assert!(!found.changed.iter().any(|changed| changed.field.starts_with("plan.")));
}

#[tokio::test]
async fn record_compared_with_itself_shows_its_changes() {
    let entries = journal(&script(None, false)).await;
    let answered = position(&entries, "ended create");
    let found = diff(&entries, answered, answered).expect("one record");
    let (before, after) = field(&found.changed, "group_uid").expect("it says the uid");
    assert!(before.is_none() && after.is_some());
    let plan = diff(&entries, 2, 2).expect("the first record of the run");
    assert!(plan.before.is_null() && field(&plan.changed, "plan.group").is_some());
}

#[tokio::test]
async fn refuses_to_compare_records_of_two_streams() {
    let entries = journal(&script(None, false)).await;
    assert_eq!(
        diff(&entries, 1, 2).expect_err("two streams").to_string(),
        "record 1 is of nightly, record 2 of orders-db: only records of one stream can be compared"
    );
    assert_eq!(diff(&entries, 1, 900), Err(Incomparable::Missing(900)));
}
