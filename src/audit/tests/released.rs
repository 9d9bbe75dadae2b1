//! Journals of every release still verify, decode, fold to the same, and are decided the same.

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::audit::testing::{journal, plan, script_of_a_loss};
use crate::audit::{Shown, Streams, describe, replay};
use crate::domain::names::rebuilt_member;
use crate::journal::chain::check;
use crate::journal::export::{Sealed, import};
use crate::journal::{Entry, Head};
use crate::machine::group::event::Facts;
use crate::machine::group::{Event, Step};

/// Journals of every release, and those from before and after each change of a payload.
const KEPT: &[&str] = &["fixtures/journals/0.1.0", "migrations/0002_rebuilt_members/before", REBUILT, AFTER];

/// The first that names rebuilt members.
const REBUILT: &str = "migrations/0002_rebuilt_members/after";

/// The one that the present code writes.
const AFTER: &str = "migrations/0004_archives/after";

fn fixture(dir: &str, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(dir).join(name)
}

fn entries(dir: &str) -> Vec<Entry> {
    let text = fs::read_to_string(fixture(dir, "journal.jsonl")).expect("read the journal");
    import(&text).expect("exported lines")
}

fn folded(entries: &[Entry]) -> Value {
    let streams = Streams::of(entries);
    let folded = streams.iter().map(|stream| {
        let value = serde_json::to_value(&stream.folded).expect("plain data");
        (stream.id.to_string(), value)
    });
    Value::Object(folded.collect::<Map<_, _>>())
}

fn line(entry: &Entry) -> String {
    let mut line = serde_json::to_value(Sealed::from(entry)).expect("plain data");
    line["summary"] = Shown::of(entry).summary.into();
    format!("{line}\n")
}

/// The journal of the present code, written only when asked for.
async fn update() {
    let entries = journal(&script_of_a_loss(Some(Step::Rebuild))).await;
    let lines: String = entries.iter().map(line).collect();
    fs::write(fixture(AFTER, "journal.jsonl"), lines).expect("write the journal");
    fs::write(fixture(AFTER, "folded.json"), format!("{:#}\n", folded(&entries))).expect("write the fold");
}

#[tokio::test]
async fn a_kept_journal_folds_to_what_it_folded_to_then() {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        update().await;
    }
    for dir in KEPT {
        let entries = entries(dir);
        let verified = check(entries.clone()).expect("an intact chain");
        assert_eq!(verified.records, entries.len() as u64);
        assert_ne!(verified.head, Head::genesis());
        let golden = fs::read_to_string(fixture(dir, "folded.json")).expect("read the fold");
        let golden: Value = serde_json::from_str(&golden).expect("JSON");
        assert_eq!(folded(&entries), golden, "{dir}");
        let report = replay(&entries);
        assert_eq!(report.different, [], "{dir}");
        assert_eq!(report.same + report.not_comparable, report.decisions);
    }
}

#[tokio::test]
async fn the_present_code_writes_the_kept_journal() {
    let written = journal(&script_of_a_loss(Some(Step::Rebuild))).await;
    assert_eq!(written, entries(AFTER));
}

/// Name of the VolumeSnapshot of the second member, which was lost and rebuilt.
fn second(entries: &[Entry]) -> String {
    let streams = Streams::of(entries);
    let run = streams.iter().find_map(|stream| stream.group()).expect("the group");
    let receipt = run.receipt.as_ref().expect("a receipt");
    receipt.members[1].snapshot.name.clone()
}

#[tokio::test]
async fn a_rebuilt_member_has_its_new_name_since_schema_2_and_its_lost_one_before() {
    let (before, after) = (entries(KEPT[1]), entries(REBUILT));
    assert!(before.iter().all(|entry| entry.schema == 1) && after.iter().all(|entry| entry.schema == 2));
    assert_eq!(second(&before), "snapshot-01");
    let plan = plan();
    assert_eq!(second(&after), rebuilt_member(plan.run, &plan.members[1].volume_handle));
    let ends =
        |entries: &[Entry]| entries.iter().map(describe).filter(|text| text.contains("8-cleaned")).collect();
    let (then, now): (Vec<String>, Vec<String>) = (ends(&before), ends(&after));
    assert_eq!(then, ["reached cleaned [release/8-cleaned]"]);
    assert_eq!(now, [format!("reached cleaned [release/8-cleaned] rebuilt {}", second(&after))]);
}

#[tokio::test]
async fn a_member_that_the_plan_does_not_have_was_not_rebuilt() {
    let mut records = script_of_a_loss(None);
    for (_, timed) in &mut records {
        if let Event::Reached { facts: Facts::Rebuilt(members), .. } = &mut timed.event {
            members[0].index = 3;
        }
    }
    let report = replay(&journal(&records).await);
    let why = "the receipt is incomplete: it has no member 3 that was rebuilt";
    assert_eq!(report.different.first().map(|first| first.why.as_str()), Some(why));
}
