//! `stillpoint demo`: its JSON is a contract.

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ended, ended};

/// Runs a demo without a rate limit, with a journal in `dir`.
pub fn demo(dir: &TempDir, more: &[&str]) -> Ended {
    let journal = dir.path().join("journal").display().to_string();
    let args = ["demo", "-o", "json", "--controller-qps", "off", "--journal", &journal];
    ended(&[args.as_slice(), more].concat())
}

fn fresh(more: &[&str]) -> Value {
    demo(&tempfile::tempdir().expect("a directory"), more).with(0).json()
}

/// Names of the fields of an object, in their order in the text.
#[track_caller]
pub fn fields(value: &Value) -> Vec<&str> {
    let mut fields: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    fields
}

fn members<'a>(end: &'a Value, group: &str) -> &'a Vec<Value> {
    let groups = end["groups"].as_array().expect("groups");
    let found = groups.iter().find(|found| found["group"] == group).expect("the group");
    found["members"].as_array().expect("members")
}

#[test]
fn json_has_exactly_the_documented_fields() {
    let dir = tempfile::tempdir().expect("a directory");
    let end = demo(&dir, &[]).with(0).json();
    assert_eq!(fields(&end), ["backup", "groups", "journal", "ledger"]);
    assert_eq!(end["backup"], serde_json::json!({"name": "nightly", "phase": "Completed"}));
    assert_eq!(end["ledger"], serde_json::json!({"physicalSnapshots": 5, "leaked": 0, "phantom": 0}));
    for group in end["groups"].as_array().expect("groups") {
        assert_eq!(fields(group), ["attempt", "group", "members", "namespace", "skewMs", "state"]);
        assert_eq!((&group["namespace"], &group["state"]), (&"shop".into(), &"Completed".into()));
        assert_eq!((group["attempt"].as_u64(), group["skewMs"].is_u64()), (Some(1), true));
        for member in group["members"].as_array().expect("members") {
            assert_eq!(fields(member), ["pvc", "readyToUse", "snapshotHandle", "volumeSnapshot"]);
            assert_eq!(member["readyToUse"], true);
        }
    }
    assert_eq!((members(&end, "orders-db").len(), members(&end, "cache").len()), (3, 2));
    let journal = &end["journal"];
    assert_eq!(fields(journal), ["head", "path", "records"]);
    assert_eq!(journal["path"], dir.path().join("journal").display().to_string());
    assert_eq!(fields(&journal["head"]), ["hash", "position"]);
    assert_eq!(journal["head"]["position"], journal["records"]);
    assert_eq!(journal["head"]["hash"].as_str().map(str::len), Some(64));
}

#[test]
fn database_has_requested_number_of_volumes() {
    for count in [1, 2, 8] {
        let end = fresh(&["--members", &count.to_string()]);
        assert_eq!(members(&end, "orders-db").len(), count);
        assert_eq!(end["ledger"]["physicalSnapshots"], count + 2);
    }
}

#[test]
fn accepts_every_version_of_group_snapshot_api() {
    for version in ["v1", "v1beta2", "v1beta1"] {
        let end = fresh(&["--groupsnapshot-version", version]);
        assert_eq!(end["backup"]["phase"], "Completed", "{version}");
    }
}

#[test]
fn same_seed_gives_same_object_names() {
    let [one, again, other] = ["7", "7", "8"].map(|seed| fresh(&["--seed", seed, "--members", "8"]));
    assert_eq!(members(&one, "orders-db"), members(&again, "orders-db"));
    assert_eq!(members(&one, "cache"), members(&again, "cache"));
    assert_ne!(members(&one, "cache"), members(&other, "cache"));
}

#[test]
fn refuses_journal_that_contains_records() {
    let dir = tempfile::tempdir().expect("a directory");
    demo(&dir, &[]).with(0);
    let error = demo(&dir, &[]).with(2).json();
    assert_eq!(fields(&error), ["error"]);
    assert_eq!(fields(&error["error"]), ["code", "fix", "message", "object", "reason"]);
    assert_eq!(fields(&error["error"]["object"]), ["kind", "name", "namespace"]);
    assert_eq!(error["error"]["code"], "SP0050");
    assert_eq!(error["error"]["object"]["kind"], "Journal");
}

#[test]
fn text_output_has_table_and_next_commands() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("journal").display().to_string();
    let shown = ended(&["demo", "--controller-qps", "off", "--journal", &journal]).with(0).stdout;
    for text in
        ["Backup stillpoint/nightly  Completed", "SNAPSHOTHANDLE", "0 leaked", "journal replay --journal"]
    {
        assert!(shown.contains(text), "{text} is missing:\n{shown}");
    }
    assert!(!shown.contains('\x1b'), "no colour where nobody sees it");
}

#[test]
fn text_output_shows_waits_and_their_duration() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("journal").display().to_string();
    let end = ended(&["demo", "--controller-qps", "10", "--members", "2", "--journal", &journal]).with(0);
    let waits: Vec<&str> = end.stdout.lines().filter(|line| line.starts_with("  waited ")).collect();
    assert!(waits.iter().any(|line| line.ends_with("s for the members to become ready")), "{}", end.stdout);
}
