//! The text output for users.

use crate::audit::testing::{journal, script};
use crate::audit::{Row, Shown, Streams, describe, only, timeline};
use crate::domain::ids::StreamId;
use crate::domain::time::Millis;
use crate::journal::Entry;
use crate::machine::group::Event;
use crate::machine::group::Step;
use crate::machine::kit::Outcome;

fn lines(entries: &[Entry]) -> Vec<String> {
    timeline(entries).iter().map(line).collect()
}

fn line(row: &Row) -> String {
    match row {
        Row::Started { epoch, after, silent } => format!("--- epoch {epoch} after {after}, {silent} silent"),
        Row::Record { position, epoch, offset: Millis(ms), name, text, open, failures, .. } => {
            let open = open.map(|open| format!(" <- {open:?}")).unwrap_or_default();
            let failures: String = failures.iter().map(|failure| format!(" !! {failure}")).collect();
            format!("#{position} e{epoch} +{ms} {name} {text}{open}{failures}")
        }
    }
}

#[tokio::test]
async fn line_has_position_time_stream_and_event() {
    let entries = journal(&script(None, false)).await;
    let lines = lines(&entries);
    assert_eq!(lines[0], "#1 e1 +0 nightly accepted 1 group");
    assert_eq!(
        lines[1],
        "#2 e1 +0 orders-db planned 3 members of hostpath.csi.k8s.io for Backup stillpoint/nightly"
    );
    assert_eq!(lines[2], "#3 e1 +40 orders-db intend create [planned/create] 1 effect: CreateGroup");
    assert_eq!(lines[3], "#4 e1 +52 orders-db ended create 1 of 1 done");
    let receipt = lines.iter().find(|line| line.contains("receipt of members")).expect("a receipt");
    assert!(receipt.ends_with("receipt of members 1 to 3"), "{receipt}");
    assert!(lines.last().expect("lines").ends_with("nightly finished Completed"));
    assert!(!lines.iter().any(|line| line.contains("---") || line.contains("<-")));
}

#[tokio::test]
async fn crash_is_gap_after_intent_without_outcome() {
    let entries = journal(&script(Some(Step::Retain), false)).await;
    let lines = lines(&entries);
    let gap = lines.iter().position(|line| line.starts_with("---")).expect("a gap");
    assert_eq!(lines[gap], "--- epoch 2 after 3.1 s, 0 silent");
    assert!(lines[gap - 1].contains("intend retain"), "{}", lines[gap - 1]);
    assert!(lines[gap - 1].ends_with(" <- Ended"), "{}", lines[gap - 1]);
    assert!(lines[gap + 1].contains(" e2 ") && lines[gap + 1].contains("intend claim"), "{}", lines[gap + 1]);
    assert_eq!(lines.iter().filter(|line| line.contains("<-")).count(), 1);
}

#[tokio::test]
async fn single_stream_shows_gaps_of_whole_journal() {
    let entries = journal(&script(Some(Step::Retain), false)).await;
    let all = lines(&entries);
    let gap = all.iter().find(|line| line.starts_with("---")).expect("a gap");
    let backup: Vec<String> =
        only(timeline(&entries), StreamId(entries[0].stream)).iter().map(line).collect();
    assert_eq!((backup.len(), &backup[1]), (3, gap));
    let group: Vec<String> = only(timeline(&entries), StreamId(entries[1].stream)).iter().map(line).collect();
    assert_eq!(group.len(), all.len() - 2);
    assert_eq!(only(timeline(&entries[..1]), StreamId(entries[1].stream)), []);
}

#[tokio::test]
async fn last_intent_may_still_be_in_progress() {
    let mut records = script(None, false);
    records.truncate(2);
    let entries = journal(&records).await;
    let lines = lines(&entries[..3]);
    assert!(lines[2].ends_with(" <- Pending"), "{}", lines[2]);
}

#[tokio::test]
async fn failed_effect_is_named_by_its_pvc() {
    let mut records = script(None, false);
    for (_, timed) in &mut records {
        if let Event::StepCompleted { step: Step::Relabel, outcomes } = &mut timed.event {
            outcomes[1] = Outcome::Determinate { code: 403, message: "forbidden".into() };
            outcomes[2] = Outcome::Indeterminate { message: "timed out".into() };
        }
    }
    let lines = lines(&journal(&records).await);
    let ended = lines.iter().find(|line| line.contains("ended relabel")).expect("the outcome");
    assert!(
        ended.ends_with(
            "ended relabel 1 of 3 done !! LabelMember of data-orders-1: refused: 403 forbidden \
             !! LabelMember of log-orders-0: may have happened: timed out"
        ),
        "{ended}"
    );
    let retain = lines.iter().find(|line| line.contains("intend retain")).expect("an intent");
    assert!(retain.ends_with(" 4 effects: SetGroupContentPolicy, 3 SetContentPolicy"), "{retain}");
}

#[tokio::test]
async fn streams_are_listed_with_their_state() {
    let entries = journal(&script(Some(Step::Retain), false)).await;
    let streams = Streams::of(&entries);
    let listed: Vec<_> = streams.iter().map(|s| (s.namespace.as_str(), s.name.as_str(), s.state())).collect();
    assert_eq!(listed, [("stillpoint", "nightly", "Completed"), ("shop", "orders-db", "Completed")]);
    let records: u64 = streams.iter().map(|stream| stream.records).sum();
    assert_eq!(records, entries.len() as u64);
    assert!(streams.iter().all(|stream| stream.ended().is_some()));
    let unfinished = Streams::of(&entries[..6]);
    assert_eq!(unfinished.iter().map(|stream| stream.ended()).collect::<Vec<_>>(), [None, None]);
}

#[tokio::test]
async fn broken_stream_shows_name_and_position_of_error() {
    let mut entries = journal(&script(None, false)).await;
    let intent = entries.iter().position(|entry| describe(entry).starts_with("intend relabel"));
    let intent = entries.remove(intent.expect("the script relabels"));
    let streams = Streams::of(&entries);
    let broken = streams.iter().nth(1).expect("the group");
    assert_eq!((broken.name.as_str(), broken.state()), ("orders-db", "Broken"));
    assert!(
        broken.broken.as_ref().is_some_and(|broken| broken.position == intent.position + 1),
        "{broken:?}"
    );
    assert_eq!(streams.iter().next().expect("the Backup").state(), "Completed");
}

#[tokio::test]
async fn json_record_names_event_and_view_columns() {
    let entries = journal(&script(None, false)).await;
    let shown = Shown::of(&entries[2]);
    assert_eq!((shown.kind_name, shown.summary), ("intend", describe(&entries[2])));
    assert_eq!(shown.time, "2026-01-01T00:00:00.04Z");
    assert_eq!(shown.view.expect("a decision")["Group"], "Absent");
    assert_eq!(shown.event.expect("decoded")["Intended"]["step"], "create");
    let mut unknown = entries[2].clone();
    unknown.record.kind = 900;
    let shown = Shown::of(&unknown);
    assert_eq!((shown.kind_name, shown.event), ("unknown", None));
    assert!(shown.summary.contains("records of kind 900 are not known"), "{}", shown.summary);
}
