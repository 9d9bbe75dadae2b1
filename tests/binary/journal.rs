//! `stillpoint journal`: the properties that auditors and scripts rely on.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::demo::{demo, fields};
use crate::process::{Ended, ended};

/// The journal of a demo, and the output of the demo.
fn written() -> (TempDir, Value) {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = demo(&dir, &[]).with(0).json()["journal"].take();
    (dir, journal)
}

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("journal")
}

fn ask(dir: &Path, args: &[&str]) -> Ended {
    let dir = dir.display().to_string();
    ended(&[&["journal"], args, &["-o", "json", "--journal", &dir]].concat())
}

fn items<'a>(value: &'a Value, field: &str) -> &'a Vec<Value> {
    value[field].as_array().expect("an array")
}

#[test]
fn list_shows_stream_for_backup_and_groups() {
    let (dir, _) = written();
    let listed = ask(&path(&dir), &["list"]).with(0).json();
    assert_eq!(fields(&listed), ["streams"]);
    let expected = [
        "attempt",
        "endedAt",
        "kind",
        "name",
        "namespace",
        "problem",
        "records",
        "run",
        "short",
        "startedAt",
        "state",
    ];
    let streams = items(&listed, "streams");
    streams.iter().for_each(|stream| assert_eq!(fields(stream), expected));
    let mut names: Vec<_> =
        streams.iter().map(|stream| (stream["kind"].as_str(), stream["name"].as_str())).collect();
    names.sort_unstable();
    let of = |kind, name| (Some(kind), Some(name));
    assert_eq!(names, [of("backup", "nightly"), of("group", "cache"), of("group", "orders-db")]);
    assert!(streams.iter().all(|stream| stream["state"] == "Completed" && stream["problem"].is_null()));
}

#[test]
fn show_prints_all_records_or_one_run() {
    let (dir, said) = written();
    let shown = ask(&path(&dir), &["show"]).with(0).json();
    assert_eq!(Some(items(&shown, "records").len() as u64), said["records"].as_u64());
    let expected = [
        "epoch", "event", "hash", "kind", "kindName", "position", "prev", "seq", "stream", "summary", "time",
        "timeNs", "version", "view",
    ];
    for record in items(&shown, "records") {
        assert_eq!(fields(record), expected);
        // A note of the journal about itself is a sentence.
        let says = record["event"].is_object() || record["kindName"] == "note";
        assert!(says, "it says something: {record:#}");
        assert_eq!(
            record["view"].is_object(),
            record["event"]["Intended"].is_object() || record["event"]["Reached"].is_object()
        );
    }
    let of_one = ask(&path(&dir), &["show", "orders-db"]).with(0).json();
    let streams: Vec<&Value> = items(&of_one, "records").iter().map(|record| &record["stream"]).collect();
    assert!(streams.len() > 10 && streams.iter().all(|stream| *stream == streams[0]));
    ask(&path(&dir), &["show", "no-such-run"]).with(2);
}

#[test]
fn verify_compares_journal_with_published_head() {
    let (dir, said) = written();
    let (position, hash) =
        (said["head"]["position"].as_u64().expect("a position"), said["head"]["hash"].as_str());
    let hash = hash.expect("a hash");
    let verdict = |head: String, code| {
        let verified = ask(&path(&dir), &["verify", "--expect-head", &head]).with(code).json();
        assert_eq!(fields(&verified), ["head", "problem", "records", "verdict"]);
        assert_eq!(verified["head"], said["head"], "the head that is there");
        verified["verdict"].as_str().expect("a verdict").to_owned()
    };
    let plain = ask(&path(&dir), &["verify"]).with(0).json();
    assert_eq!((&plain["verdict"], &plain["records"]), (&"intact".into(), &said["records"]));
    assert!(plain["problem"].is_null());
    assert_eq!(verdict(format!("{position}:{hash}"), 0), "intact");
    assert_eq!(verdict(format!("{}:{hash}", position + 1), 4), "cut-tail");
    assert_ne!(verdict(format!("{position}:{}", "0".repeat(64)), 4), "intact");
    assert_ne!(verdict(format!("{}:{hash}", position - 1), 4), "intact");
}

#[test]
fn replay_repeats_every_decision() {
    let (dir, _) = written();
    let replayed = ask(&path(&dir), &["replay"]).with(0).json();
    assert_eq!(fields(&replayed), ["decisions", "different", "notComparable", "same"]);
    assert_eq!(replayed["different"], Value::Array(vec![]));
    assert_eq!((&replayed["same"], &replayed["notComparable"]), (&replayed["decisions"], &0.into()));
    assert!(replayed["decisions"].as_u64() > Some(20), "{replayed}");
}

#[test]
fn export_writes_one_line_per_record() {
    let (dir, said) = written();
    let text = ask(&path(&dir), &["export"]).with(0).stdout;
    let entries = stillpoint::journal::export::import(&text).expect("lines of an export");
    assert_eq!(Some(entries.len() as u64), said["records"].as_u64());
    let verified = stillpoint::journal::chain::check(entries).expect("an intact chain");
    let head = format!("{}:{}", said["head"]["position"], said["head"]["hash"].as_str().expect("a hash"));
    assert_eq!(verified.head.to_string(), head);
}

/// Offsets in the database file at which the payload of a record begins.
fn payloads(journal: &Path) -> Vec<usize> {
    let text = ask(journal, &["export"]).with(0).stdout;
    let entries = stillpoint::journal::export::import(&text).expect("lines of an export");
    let file = fs::read(database(journal)).expect("the database");
    let begin = |payload: &[u8]| file.windows(payload.len()).position(|window| window == payload);
    let mut found: Vec<usize> = entries.iter().filter_map(|entry| begin(&entry.record.payload)).collect();
    found.sort_unstable();
    found
}

fn database(journal: &Path) -> PathBuf {
    journal.join("sled").join("db")
}

/// sled drops everything after a page with a wrong checksum, so sled reports a changed byte as the end of the
/// file. The log has every record.
#[test]
fn changed_byte_in_index_loses_no_record() {
    let (dir, said) = written();
    let places = payloads(&path(&dir));
    assert!(places.len() > 10, "records are found in the file: {places:?}");
    let whole = fs::read(database(&path(&dir))).expect("the database");
    for place in places.iter().step_by(4) {
        let mut changed = whole.clone();
        changed[place + 5] ^= 0x20;
        fs::write(database(&path(&dir)), &changed).expect("written");
        complete(&path(&dir), &said, &format!("byte {} is changed", place + 5));
    }
    fs::write(database(&path(&dir)), &whole).expect("written");
    ask(&path(&dir), &["verify"]).with(0);
}

#[test]
fn truncated_index_loses_no_record() {
    let (dir, said) = written();
    let places = payloads(&path(&dir));
    let whole = fs::read(database(&path(&dir))).expect("the database");
    for kept in [0, places[0], places[places.len() / 2], places[places.len() - 1]] {
        let mut cut = whole.clone();
        cut[kept..].fill(0);
        fs::write(database(&path(&dir)), &cut).expect("written");
        complete(&path(&dir), &said, &format!("{kept} bytes are left"));
    }
}

/// Every record is there, verified against the published head. An index that only lacks its end is caught up
/// by the next start, which is not a problem. Another one is rebuilt, and the output reports it.
#[track_caller]
fn complete(journal: &Path, said: &Value, what: &str) {
    let head = format!("{}:{}", said["head"]["position"], said["head"]["hash"].as_str().expect("a hash"));
    let verified = ask(journal, &["verify", "--expect-head", &head]);
    let problem = if verified.json()["problem"].is_null() { 0 } else { 3 };
    let verified = verified.with(problem).json();
    assert_eq!(
        (&verified["verdict"], &verified["records"]),
        (&"intact".into(), &said["records"]),
        "{what}: {verified}"
    );
}

/// Log and index are damaged at once: the remaining records are never accepted as the whole journal.
#[test]
fn refuses_journal_with_damaged_log_and_index() {
    let (dir, said) = written();
    let kept = payloads(&path(&dir))[2];
    let segment = fs::read_dir(path(&dir).join("log")).expect("log").next().expect("a segment");
    let segment = segment.expect("a segment").path();
    let mut bytes = fs::read(&segment).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    fs::write(&segment, bytes).expect("written");
    let mut cut = fs::read(database(&path(&dir))).expect("the database");
    cut[kept..].fill(0);
    fs::write(database(&path(&dir)), &cut).expect("written");
    let head = format!("{}:{}", said["head"]["position"], said["head"]["hash"].as_str().expect("a hash"));
    let verified = ask(&path(&dir), &["verify", "--expect-head", &head]).with(4).json();
    assert_eq!(verified["verdict"], "corrupt", "{verified}");
    let fix = verified["problem"]["fix"].as_str().expect("a fix");
    assert!(fix.contains("stillpoint journal rebuild --from-index"), "{fix}");
    let refused = ask(&path(&dir), &["rebuild", "--from-index"]).with(4).json();
    assert_eq!(refused["error"]["code"], "SP0030", "{refused}");
    let rebuilt = ask(&path(&dir), &["rebuild", "--from-index", "--accept-loss"]).with(3).json();
    assert_eq!(rebuilt["lost"], said["head"]["position"], "{rebuilt}");
    ask(&path(&dir), &["verify", "--expect-head", &head]).with(4);
    ask(&path(&dir), &["show"]).with(0);
}

/// The daemon does not start from a damaged log. One command takes the lost records from the index.
#[test]
fn damaged_log_is_rebuilt_from_index() {
    let (dir, said) = written();
    let segment = path(&dir).join("log/00000001.seg");
    let mut bytes = fs::read(&segment).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    fs::write(&segment, bytes).expect("written");
    let corrupt = ask(&path(&dir), &["verify"]).with(4).json();
    assert_eq!(corrupt["verdict"], "corrupt", "{corrupt}");
    assert_eq!(corrupt["problem"]["position"], corrupt["records"].as_u64().expect("a number") + 1);
    ask(&path(&dir), &["replay"]).with(4);
    let rebuilt = ask(&path(&dir), &["rebuild", "--from-index"]).with(0).json();
    assert_eq!(fields(&rebuilt), ["last", "lost", "lostEpoch", "replaced"]);
    assert_eq!((&rebuilt["last"], &rebuilt["lost"]), (&said["head"]["position"], &Value::Null));
    assert!(rebuilt["replaced"].as_u64() > Some(0), "{rebuilt}");
    let head = format!("{}:{}", said["head"]["position"], said["head"]["hash"].as_str().expect("a hash"));
    let verified = ask(&path(&dir), &["verify", "--expect-head", &head]).with(0).json();
    assert_eq!(verified["verdict"], "intact", "{verified}");
    let replayed = ask(&path(&dir), &["replay"]).with(0).json();
    assert_eq!(replayed["different"], Value::Array(vec![]));
    ask(&path(&dir), &["rebuild", "--from-index"]).with(2);
    ask(&path(&dir), &["rebuild"]).with(2);
}

#[test]
fn log_replaces_missing_index() {
    let (dir, said) = written();
    fs::remove_dir_all(path(&dir).join("sled")).expect("removed");
    let verified = ask(&path(&dir), &["verify"]).with(3).json();
    assert_eq!((&verified["verdict"], &verified["records"]), (&"intact".into(), &said["records"]));
    for command in ["list", "show", "replay", "export"] {
        ask(&path(&dir), &[command]).with(0);
    }
}

#[test]
fn every_command_refuses_journal_without_log_and_index() {
    let (dir, _) = written();
    fs::remove_dir_all(path(&dir).join("sled")).expect("removed");
    fs::remove_dir_all(path(&dir).join("log")).expect("removed");
    assert_eq!(ask(&path(&dir), &["verify"]).with(4).json()["verdict"], "cut-tail");
    for command in ["list", "show", "replay", "export"] {
        let error = ask(&path(&dir), &[command]).with(4).json();
        assert_eq!(error["error"]["code"], "SP0030", "{command}: {error}");
    }
}

#[test]
fn missing_journal_gives_no_verdict() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = ask(&path(&dir), &["verify"]).with(1).json();
    assert_eq!(error["error"]["code"], "SP0034", "{error}");
    assert!(!path(&dir).exists(), "looking makes nothing");
}
