//! Commands on an exported file, honest or forged, as used by an auditor without access to the journal.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use stillpoint::audit::Shown;
use stillpoint::journal::Entry;
use stillpoint::journal::export::{ExportedRecord, import};
use stillpoint::machine::group::Event;
use stillpoint::machine::group::Step;
use stillpoint::machine::group::Timed;
use stillpoint::machine::group::table::TABLE;
use stillpoint::records::{Decoded, decode, encode_group};
use tempfile::TempDir;

use crate::demo::{demo, fields};
use crate::forger::seal;
use crate::process::{Ended, ended, stillpoint};

/// The export of a demo, created once.
fn honest() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        demo(&dir, &[]).with(0);
        let journal = dir.path().join("journal").display().to_string();
        ended(&["journal", "export", "--journal", &journal]).with(0).stdout
    })
}

fn entries() -> Vec<Entry> {
    import(honest()).expect("exported lines")
}

/// The lines of an export of these entries.
fn lines(entries: &[Entry]) -> Vec<Value> {
    let line = |entry: &Entry| {
        let [mut line, shown] =
            [json!(ExportedRecord::from(entry)), json!(Shown::of(entry))].map(|value| match value {
                Value::Object(fields) => fields,
                other => panic!("{other} is no object"),
            });
        line.extend(shown);
        Value::Object(line)
    };
    entries.iter().map(line).collect()
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A file with this text.
struct Export(TempDir);

impl Export {
    fn of(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("export.jsonl"), text).expect("written");
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("export.jsonl")
    }

    fn ask(&self, args: &[&str]) -> Ended {
        ask(&self.path(), args)
    }
}

fn ask(path: &Path, args: &[&str]) -> Ended {
    let path = path.display().to_string();
    ended(&[&["journal"], args, &["-o", "json", "--export", &path]].concat())
}

fn head(entry: &Entry) -> String {
    entry.head().to_string()
}

// ---- forged records with recomputed hashes ----------------------------------------------------------------

/// The position of the intent of this step.
fn intent(entries: &[Entry], wanted: Step) -> usize {
    let is = |entry: &Entry| match decode(&entry.record) {
        Ok(Decoded::Group(Timed { event: Event::Intended { step, .. }, .. })) => step == wanted,
        _ => false,
    };
    entries.iter().position(is).expect("an intent")
}

/// Changes one intent and recomputes all hashes.
fn forged(step: Step, change: impl FnOnce(&mut Timed)) -> (usize, Vec<Entry>) {
    let mut entries = entries();
    let at = intent(&entries, step);
    let Ok(Decoded::Group(mut timed)) = decode(&entries[at].record) else { panic!("an intent") };
    change(&mut timed);
    entries[at].record = encode_group(&timed).expect("it fits");
    seal(&mut entries);
    (at, entries)
}

/// The chain is valid. The replay names the record, the recorded row, the row that would be decided, and the
/// reason.
#[track_caller]
fn caught_by_replay_alone(what: &str, (at, entries): (usize, Vec<Entry>), why: &str) {
    let export = Export::of(&text(&lines(&entries)));
    let verified = export.ask(&["verify"]).with(0).json();
    assert_eq!(verified["verdict"], "intact", "{what}: all hashes hold");
    let replayed = export.ask(&["replay"]).with(3).json();
    let first = &replayed["different"][0];
    assert_eq!(first["position"], entries[at].position, "{what}: {replayed}");
    assert_ne!(first["recorded"], first["now"], "{what}: {first}");
    assert_eq!(first["why"], why, "{what}");
    // With a head that was published before the forgery, `verify` finds the forgery without a replay.
    let published = self::entries();
    let published = head(published.last().expect("records"));
    let verified = export.ask(&["verify", "--expect-head", &published]).with(4).json();
    assert_eq!(verified["verdict"], "corrupt", "{what}: {verified}");
}

#[test]
fn replay_detects_forged_fact() {
    let forge = |timed: &mut Timed| {
        let Event::Intended { grounds, .. } = &mut timed.event else { panic!("an intent") };
        // The PVCs had changed, but the group was created nevertheless.
        let claims = stillpoint::machine::kit::View::columns::<stillpoint::machine::group::columns::Column>()
            .position(|column| stillpoint::machine::kit::ColumnId::name(column) == "Claims");
        grounds.view.seen[claims.expect("a column")] ^= 1;
    };
    caught_by_replay_alone("a fact", forged(Step::Create, forge), "Claims is Changed");
}

#[test]
fn replay_detects_forged_row() {
    let forge = |timed: &mut Timed| {
        let Event::Intended { grounds, .. } = &mut timed.event else { panic!("an intent") };
        let row = TABLE.iter().find(|row| row.id == grounds.row).expect("a row");
        let other = TABLE.iter().find(|other| other.then == row.then && other.id != row.id);
        grounds.row = other.expect("another row with this step").id.to_owned();
    };
    caught_by_replay_alone("a row", forged(Step::ClearNames, forge), "Group is Ours");
}

#[test]
fn replay_detects_forged_time() {
    let forge = |timed: &mut Timed| timed.at.0 += 3_600_000_000_000;
    caught_by_replay_alone("a time", forged(Step::Create, forge), "CutDeadline is Passed");
}

#[test]
fn unmodified_export_replays_identically() {
    let export = Export::of(honest());
    let entries = entries();
    let last = entries.last().expect("records");
    let verified = export.ask(&["verify", "--expect-head", &head(last)]).with(0).json();
    assert_eq!(fields(&verified), ["head", "problem", "records", "verdict"]);
    assert_eq!((&verified["verdict"], &verified["records"]), (&"intact".into(), &entries.len().into()));
    let replayed = export.ask(&["replay"]).with(0).json();
    assert_eq!((&replayed["same"], &replayed["different"]), (&replayed["decisions"], &json!([])));
    let mut again = entries.clone();
    seal(&mut again);
    assert!(again == entries, "the documented layout is the one that is hashed");
}

// ---- forged records without recomputed hashes -------------------------------------------------------------

/// The result of `verify` for these lines: verdict and position of the problem. Asserts the exit code.
#[track_caller]
fn verdict(lines: &[Value], more: &[&str], code: i32) -> (String, Option<u64>) {
    let verified = Export::of(&text(lines)).ask(&[&["verify"], more].concat()).with(code).json();
    let verdict = verified["verdict"].as_str().expect("a verdict").to_owned();
    (verdict, verified["problem"]["position"].as_u64())
}

#[test]
fn reports_record_that_was_changed() {
    let honest = lines(&entries());
    let mut changed = honest.clone();
    changed[6]["timeNs"] = json!(changed[6]["timeNs"].as_i64().expect("a number") + 1);
    assert_eq!(verdict(&changed, &[], 4), ("corrupt".to_owned(), Some(7)));
    let missing = [&honest[..6], &honest[7..]].concat();
    assert_eq!(verdict(&missing, &[], 4), ("corrupt".to_owned(), Some(7)));
    let mut reordered = honest.clone();
    reordered.swap(6, 7);
    assert_eq!(verdict(&reordered, &[], 4), ("corrupt".to_owned(), Some(7)));
    let twice = [&honest[..7], &honest[6..]].concat();
    assert_eq!(verdict(&twice, &[], 4), ("corrupt".to_owned(), Some(8)));
    let mut newer = honest.clone();
    newer[6]["schema"] = json!(99);
    assert_eq!(verdict(&newer, &[], 4), ("newer-schema".to_owned(), Some(7)));
}

#[test]
fn rejects_export_with_another_genesis() {
    let mut entries = entries();
    entries[0].prev = [7; 32];
    seal(&mut entries);
    assert_eq!(verdict(&lines(&entries), &[], 4), ("corrupt".to_owned(), Some(1)));
}

#[test]
fn published_head_reveals_truncated_export() {
    let entries = entries();
    let honest = lines(&entries);
    let (last, cut) = (entries.last().expect("records"), &honest[..honest.len() - 2]);
    assert_eq!(verdict(cut, &[], 0), ("intact".to_owned(), None), "an export does not know its end");
    let published = head(last);
    let found = verdict(cut, &["--expect-head", &published], 4);
    assert_eq!(found, ("cut-tail".to_owned(), Some(last.position)));
}

#[test]
fn reports_export_without_its_first_records() {
    let entries = entries();
    let rest = Export::of(&text(&lines(&entries[4..])));
    let verified = rest.ask(&["verify"]).with(3).json();
    let reason = verified["problem"]["reason"].as_str().expect("a reason");
    assert!(reason.contains(&head(&entries[3])), "{reason}");
}

#[test]
fn ignores_fields_beside_the_record_bytes() {
    let mut told = lines(&entries());
    told[2]["event"]["Intended"]["step"] = json!("retain");
    told[2]["summary"] = json!("all is well");
    let export = Export::of(&text(&told));
    let verified = export.ask(&["verify"]).with(3).json();
    assert_eq!(verified["verdict"], "intact", "the bytes hold");
    let reason = verified["problem"]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("event of record 3 says something else than its bytes"), "{reason}");
    let shown = export.ask(&["show"]).with(0).json();
    assert_eq!(shown["records"][2]["summary"], lines(&entries())[2]["summary"], "the bytes are shown");
}

#[test]
fn rejects_invalid_export_with_line_number() {
    let torn = &honest()[..honest().len() - 40];
    let verified = Export::of(torn).ask(&["verify"]).with(4).json();
    let lines = honest().lines().count();
    assert_eq!(verified["problem"]["position"].as_u64(), Some(lines as u64), "{verified}");
    let reason = verified["problem"]["reason"].as_str().expect("a reason");
    assert!(reason.contains(&format!("line {lines} is not an exported record")), "{reason}");
    for command in [&["list"][..], &["show"], &["replay"], &["explain", "3"], &["diff", "2", "5"]] {
        let error = Export::of(torn).ask(command).with(4).json();
        assert_eq!(error["error"]["code"], "SP0030", "{command:?}: {error}");
    }
    let error = ask(Path::new("no-such-file"), &["verify"]).with(2).json();
    assert_eq!(error["error"]["code"], "SP0050", "{error}");
}

// ---- the other commands -----------------------------------------------------------------------------------

#[test]
fn commands_treat_export_and_directory_alike() {
    let dir = tempfile::tempdir().expect("a directory");
    demo(&dir, &[]).with(0);
    let journal = dir.path().join("journal").display().to_string();
    let export = Export::of(&ended(&["journal", "export", "--journal", &journal]).with(0).stdout);
    // Groups run concurrently, so the order of their records differs from run to run.
    let shown = ended(&["journal", "show", "-o", "json", "--journal", &journal]).with(0).json();
    let records = shown["records"].as_array().expect("records");
    let planned = records.iter().find(|record| record["kindName"] == "planned").expect("a run");
    let of_a_run = |record: &&Value| record["stream"] == planned["stream"];
    let [a, b] =
        [0, 2].map(|nth| records.iter().filter(of_a_run).nth(nth).expect("one")["position"].to_string());
    for command in [
        &["list"][..],
        &["show"],
        &["verify"],
        &["replay"],
        &["explain", "3"],
        &["diff", a.as_str(), b.as_str()],
    ] {
        let of_dir = ended(&[&["journal"], command, &["-o", "json", "--journal", &journal]].concat());
        assert_eq!(export.ask(command).with(0).stdout, of_dir.with(0).stdout, "{command:?}");
    }
}

#[test]
fn reads_export_from_stdin() {
    let mut command = stillpoint(&["journal", "replay", "-o", "json", "--export", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("piped").write_all(honest().as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let replayed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(replayed["different"], json!([]));
}

// ---- without Stillpoint -----------------------------------------------------------------------------------

/// The code lines in docs/auditing.md.
fn documented() -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/auditing.md"));
    let page = page.expect("the page");
    let (_, code) = page.split_once("```python\n").expect("lines of Python");
    code.split_once("```").expect("their end").0.to_owned()
}

/// Runs the code lines; none if Python or its package is missing.
fn in_python(text: &str) -> Option<(bool, String)> {
    let python = std::env::var("STILLPOINT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", "import blake3"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: {python} cannot import blake3; STILLPOINT_PYTHON may name one that can");
        return None;
    }
    let export = Export::of(text);
    let output = Command::new(&python).args(["-c", &documented()]).arg(export.path()).output();
    let output = output.expect("it runs");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Some((output.status.success(), said.concat().trim().to_owned()))
}

#[test]
fn documented_script_verifies_an_export() {
    let entries = entries();
    let Some(honest) = in_python(honest()) else { return };
    assert_eq!(honest, (true, head(entries.last().expect("records"))));
    let whole = lines(&entries);
    let mut changed = whole.clone();
    changed[6]["timeNs"] = json!(changed[6]["timeNs"].as_i64().expect("a number") + 1);
    let missing = [&whole[..6], &whole[7..]].concat();
    let mut forged = entries.clone();
    forged[0].prev = [7; 32];
    seal(&mut forged);
    for (lines, said) in [
        (changed, "record 7: its hash does not hold"),
        (missing, "record 8: it does not come next"),
        (lines(&forged), "record 1: it is no beginning"),
    ] {
        assert_eq!(in_python(&text(&lines)), Some((false, said.to_owned())));
    }
}
