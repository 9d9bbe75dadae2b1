//! The classification of decisions by a replay: same, different, not comparable.

use crate::audit::testing::{journal, script};
use crate::audit::{Difference, ReplayReport, replay};
use crate::domain::time::Timestamp;
use crate::journal::Entry;
use crate::machine::group::Event;
use crate::machine::group::Reached;
use crate::machine::group::Step;
use crate::machine::group::Timed;
use crate::machine::group::table::ALIASES;
use crate::machine::kit::DecisionRecord;
use crate::machine::kit::Outcome;
use crate::records::encode_group;

/// The entries of a script that was changed before it was written.
async fn tampered(change: impl Fn(&mut Event)) -> ReplayReport {
    let mut records = script(None, false);
    records.iter_mut().for_each(|(_, timed)| change(&mut timed.event));
    replay(&journal(&records).await)
}

fn only(report: ReplayReport) -> Difference {
    let [difference] = <[Difference; 1]>::try_from(report.different).expect("one difference");
    difference
}

#[tokio::test]
async fn replays_unmodified_journal_without_differences() {
    for (kill, fails) in
        [(None, false), (Some(Step::Retain), false), (Some(Step::Create), false), (None, true)]
    {
        let entries = journal(&script(kill, fails)).await;
        let report = replay(&entries);
        assert_eq!(report.different, [], "{kill:?}");
        assert!(report.decisions > 3, "{} decisions", report.decisions);
        assert_eq!((report.same, report.not_comparable), (report.decisions, 0));
    }
}

#[tokio::test]
async fn reports_different_row_with_distinguishing_columns() {
    let report = tampered(|event| {
        if let Event::Intended { grounds, step: Step::Detach, .. } = event {
            grounds.row = "release/5-delete-group".into();
        }
    })
    .await;
    let difference = only(report);
    assert_eq!(
        (difference.recorded.as_str(), difference.now.as_str()),
        ("release/5-delete-group", "release/2-detach")
    );
    assert_eq!(difference.why, "Ties is Tied");
}

#[tokio::test]
async fn reports_different_view() {
    let report = tampered(|event| {
        if let Event::Intended { grounds, step: Step::DeleteGroup, .. } = event {
            // The delete was decided on a fresh read.
            grounds.view.set(crate::machine::group::columns::Fresh::No);
        }
    })
    .await;
    let difference = only(report);
    assert_eq!(difference.recorded, "release/5-delete-group");
    assert_eq!(difference.why, "Fresh is No");
}

#[tokio::test]
async fn reports_step_that_differs_from_row() {
    let report = tampered(|event| match event {
        Event::Intended { step, .. } | Event::StepCompleted { step, .. } if *step == Step::Relabel => {
            *step = Step::Retain
        }
        _ => {}
    })
    .await;
    let why = only(report).why;
    assert_eq!(why, "the row says to relabel, the record says intend retain");
}

#[tokio::test]
async fn reports_reason_that_differs_from_row() {
    let mut records = script(None, true);
    for (_, timed) in &mut records {
        if let Event::MilestoneReached {
            reached: Reached::Unwinding(reason) | Reached::Stuck(reason), ..
        } = &mut timed.event
        {
            reason.transient = !reason.transient;
        }
    }
    let report = replay(&journal(&records).await);
    assert!(report.different[0].why.starts_with("the row says to unwind with SP0012"), "{report:?}");
}

#[tokio::test]
async fn reports_time_that_changes_deadline() {
    let mut records = script(None, false);
    let (_, timed) =
        records.iter_mut().find(|(_, t)| matches!(t.event, Event::Intended { .. })).expect("one");
    timed.at = Timestamp(timed.at.0 + 3_600_000_000_000);
    let report = replay(&journal(&records).await);
    let first = &report.different[0];
    assert_eq!((first.recorded.as_str(), first.now.as_str()), ("planned/create", "planned/too-late"));
    assert_eq!(first.why, "CutDeadline is Passed");
}

#[tokio::test]
async fn other_rules_are_not_comparable() {
    let report = tampered(|event| {
        if let Event::Intended { grounds, .. } = event {
            grounds.rules += 1;
        }
    })
    .await;
    assert_eq!(report.different, []);
    assert!(report.not_comparable > 3);
    assert_eq!(report.same + report.not_comparable, report.decisions);
}

#[tokio::test]
async fn decisions_of_merged_rows_are_same() {
    let (mut records, mut merged) = (script(None, false), 0);
    for (_, timed) in &mut records {
        let (Event::Intended { grounds, .. } | Event::MilestoneReached { grounds, .. }) = &mut timed.event
        else {
            continue;
        };
        grounds.rules -= 1;
        if let Some((older, _)) = ALIASES.iter().find(|(_, row)| *row == grounds.row) {
            grounds.row = (*older).to_owned();
            merged += 1;
        }
    }
    let report = replay(&journal(&records).await);
    assert_eq!((report.same, report.not_comparable), (report.decisions, 0), "{report:?}");
    assert!(merged >= 3, "{merged} decisions of merged rows");
}

#[tokio::test]
async fn an_unknown_row_is_named() {
    let report = tampered(|event| {
        if let Event::MilestoneReached { reached: Reached::Completed, grounds: DecisionRecord { row, .. } } =
            event
        {
            *row = "cleaned/once-upon-a-time".into();
        }
    })
    .await;
    assert_eq!(only(report).why, "the table has no row cleaned/once-upon-a-time");
}

#[tokio::test]
async fn impossible_event_ends_comparison_of_its_stream() {
    let mut records = script(None, false);
    let at =
        records.iter().position(|(_, t)| matches!(t.event, Event::StepCompleted { step: Step::Relabel, .. }));
    let at = at.expect("the script relabels");
    let outcomes = vec![Outcome::Indeterminate { message: "no".into() }];
    records[at].1.event = Event::StepCompleted { step: Step::Detach, outcomes };
    let entries = journal(&records).await;
    let report = replay(&entries);
    let first = &report.different[0];
    assert_eq!((first.recorded.as_str(), first.now.as_str()), ("ended detach", "illegal"));
    assert_eq!(first.why, "outcome of detach cannot follow VSBound");
    assert_eq!(report.different.len(), 1);
    assert_eq!(report.same + report.not_comparable, report.decisions);
    assert!(report.not_comparable > 3);
}

#[tokio::test]
async fn reports_payload_that_does_not_decode() {
    let mut entries: Vec<Entry> = journal(&script(None, false)).await;
    entries[4].record.payload.truncate(3);
    let report = replay(&entries);
    assert_eq!(report.different[0].position, 5);
    assert!(report.different[0].why.contains("does not decode as kind"), "{:?}", report.different);
}

#[test]
fn same_script_produces_same_bytes() {
    let bytes = || -> Vec<_> {
        let records = script(Some(Step::Retain), false);
        let timed = records.iter().map(|(_, timed): &(u64, Timed)| encode_group(timed).expect("it fits"));
        timed.map(|record| record.payload).collect()
    };
    assert_eq!(bytes(), bytes());
}
