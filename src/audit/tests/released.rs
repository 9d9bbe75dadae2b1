//! The journals of every release still verify, decode, fold to the same state, and replay to the same
//! decisions.

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::backups;
use crate::audit::testing::{asked, journal, plan, script_of_a_loss, script_of_a_refusal, script_of_a_skew};
use crate::audit::{Shown, Streams, describe, diff, explain, replay};
use crate::domain::atomicity::Demand;
use crate::domain::names::rebuilt_member;
use crate::domain::problem::Code;
use crate::journal::chain::check;
use crate::journal::export::{ExportedRecord, import};
use crate::journal::{Entry, Head, SCHEMA};
use crate::machine::group::Event;
use crate::machine::group::GroupRun;
use crate::machine::group::Reached;
use crate::machine::group::Stage;
use crate::machine::group::Step;
use crate::machine::kit::Ask;

/// Journals of every release, and journals from before and after each change of a payload.
const KEPT: &[&str] = &[
    "fixtures/journals/0.1.0",
    "migrations/0002_rebuilt_members/before",
    REBUILT,
    "migrations/0003_asked/before",
    ASKED,
    AFTER,
    "migrations/0005_atomicity/before",
    APART,
    "migrations/0006_backups/before",
    BACKUP,
    "migrations/0008_receipts/before",
];

/// The first journal that names rebuilt members.
const REBUILT: &str = "migrations/0002_rebuilt_members/after";

/// A stuck run that an operator resumed, as the current code writes it.
const ASKED: &str = "migrations/0003_asked/after";

/// A run that lost a member, as the current code writes it.
const AFTER: &str = "migrations/0004_archives/after";

/// A run that was rolled back because its members were cut too far apart, as the current code writes it.
const APART: &str = "migrations/0005_atomicity/after";

/// A Backup whose group failed, as the current code writes it.
const BACKUP: &str = "migrations/0006_backups/after";

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
    let mut line = serde_json::to_value(ExportedRecord::from(entry)).expect("plain data");
    line["summary"] = Shown::of(entry).summary.into();
    format!("{line}\n")
}

/// The journals that the current code writes, with their directories.
async fn present() -> [(&'static str, Vec<Entry>); 4] {
    [
        (ASKED, journal(&script_of_a_refusal(Some(Ask::Resume))).await),
        (AFTER, journal(&script_of_a_loss(Some(Step::Rebuild))).await),
        (APART, journal(&script_of_a_skew()).await),
        (BACKUP, backups::journal(true, None).await),
    ]
}

/// Writes these journals; runs only on request.
async fn update() {
    for (dir, entries) in present().await {
        let lines: String = entries.iter().map(line).collect();
        fs::write(fixture(dir, "journal.jsonl"), lines).expect("write the journal");
        fs::write(fixture(dir, "folded.json"), format!("{:#}\n", folded(&entries))).expect("write the fold");
    }
}

#[tokio::test]
async fn stored_journal_folds_to_same_state() {
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
async fn current_code_writes_identical_stored_journal() {
    for (dir, written) in present().await {
        assert_eq!(written, entries(dir), "{dir}");
        assert!(written.iter().all(|entry| entry.schema == SCHEMA));
    }
}

/// Name of the VolumeSnapshot of the second member, which was lost and rebuilt.
fn second(entries: &[Entry]) -> String {
    let streams = Streams::of(entries);
    let run = streams.iter().find_map(|stream| stream.group()).expect("the group");
    let receipt = run.state.receipt.as_ref().expect("a receipt");
    receipt.members[1].snapshot.name.clone()
}

#[tokio::test]
async fn rebuilt_member_gets_new_name_since_schema_2() {
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

fn run(entries: &[Entry]) -> GroupRun {
    let streams = Streams::of(entries);
    streams.iter().find_map(|stream| stream.group()).expect("the group").clone()
}

#[tokio::test]
async fn stuck_run_resumes_on_request_since_schema_3() {
    let (before, after) = (entries("migrations/0003_asked/before"), entries(ASKED));
    assert!(before.iter().all(|entry| entry.schema == 2));
    assert_eq!(run(&before).stuck.as_deref(), Some("release/rebuild-refused"));
    let done = run(&after);
    assert_eq!((done.stage, &done.stuck), (Stage::Completed, &None));
    assert_eq!(done.answered.expect("an answer").asked, asked(Ask::Resume));
    let told: Vec<String> = after.iter().map(describe).filter(|text| text.starts_with("asked")).collect();
    assert_eq!(told, ["asked to resume by alice@desk (request 7f3a0c55-48213)"]);
}

#[tokio::test]
async fn abandoned_run_after_pivot_ends_with_receipt() {
    let entries = journal(&script_of_a_refusal(Some(Ask::Abandon))).await;
    let done = run(&entries);
    assert_eq!((done.stage, done.keeps_storage()), (Stage::Failed, true));
    assert_eq!(done.reason.expect("a reason").code, Code::AbandonedRetained);
    assert_eq!(done.state.receipt.expect("a receipt").members.len(), 3);
    let report = replay(&entries);
    assert_eq!((report.different, report.same), (vec![], report.decisions));
    let asked = entries.iter().find(|entry| describe(entry).starts_with("asked")).expect("the request");
    let note = explain(&entries, asked.position).expect("the record").note.expect("a note");
    assert!(note.starts_with("an input, not a decision: alice@desk asked to abandon"), "{note}");
    let changed = diff(&entries, asked.position, asked.position).expect("one record").changed;
    let fields: Vec<&str> = changed.iter().map(|changed| changed.field.as_str()).collect();
    assert!(fields.contains(&"stage") && fields.contains(&"stuck"), "{fields:?}");
}

#[tokio::test]
async fn plan_records_atomicity_demand_since_version_2() {
    let (before, after) = (run(&entries("migrations/0005_atomicity/before")), run(&entries(APART)));
    assert_eq!(before.plan.atomicity, Demand::UNRECORDED);
    assert_eq!(after.plan.atomicity, Demand { required: true, ..Demand::UNRECORDED });
    assert_eq!((after.stage, after.reason.map(|reason| reason.code)), (Stage::Failed, Some(Code::NotAtomic)));
}

#[tokio::test]
async fn ignores_rebuilt_member_missing_from_plan() {
    let mut records = script_of_a_loss(None);
    for (_, timed) in &mut records {
        if let Event::MilestoneReached { reached: Reached::Cleaned(members), .. } = &mut timed.event {
            members[0].index = 3;
        }
    }
    let report = replay(&journal(&records).await);
    let why = "the receipt is incomplete: it has no member 3 that was rebuilt";
    assert_eq!(report.different.first().map(|first| first.why.as_str()), Some(why));
}
