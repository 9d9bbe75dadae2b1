//! Every verdict of `journal verify` about a directory: the word, the named record, the exit code.
//!
//! The directories are those of the first release, which wrote a database and no log: they are written record
//! by record. The last tests read the log while a daemon has it open.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use stillpoint::journal::export::import;
use stillpoint::journal::{
    Batch, Entry, Head, Journal, Meta, SledStore, Store, StoredRecord, StreamHead, StreamState,
};
use stillpoint::records::journal_options;
use tempfile::TempDir;
use uuid::Uuid;

use crate::forger::{envelope, seal};
use crate::process::{Ended, ended};
use crate::stage::Stage;

/// The journal of the first release, as entries.
fn entries() -> Vec<Entry> {
    import(include_str!("../../fixtures/journals/0.1.0/journal.jsonl")).expect("exported lines")
}

/// The content of a directory: records by position, and the journal's data about itself.
struct Written {
    records: BTreeMap<u64, Vec<u8>>,
    meta: Meta,
    streams: Vec<StreamHead>,
}

impl Written {
    /// The content that a daemon would have written.
    fn of(entries: &[Entry]) -> Self {
        let last = entries.last().expect("records");
        let truncated_at = Head { position: 0, hash: entries[0].prev };
        let mut streams: BTreeMap<Uuid, StreamHead> = BTreeMap::new();
        for entry in entries {
            let first_position =
                streams.get(&entry.stream).map_or(entry.position, |head| head.first_position);
            let (stream, last_seq, last_position) = (entry.stream, entry.seq, entry.position);
            let state = StreamState::Finished;
            let head = StreamHead { stream, state, last_seq, first_position, last_position };
            streams.insert(stream, head);
        }
        Self {
            records: entries.iter().map(|entry| (entry.position, envelope(entry))).collect(),
            meta: Meta { schema: last.schema, epoch: last.epoch, head: last.head(), truncated_at },
            streams: streams.into_values().collect(),
        }
    }

    /// A directory with a database of these records.
    fn laid_out(self) -> TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let stored = |(position, envelope): (u64, Vec<u8>)| {
            let entry = &entries()[usize::try_from(position - 1).expect("a position")];
            StoredRecord { position, stream: entry.stream, seq: entry.seq, envelope }
        };
        let records = self.records.into_iter().map(stored).collect();
        let mut store = SledStore::open(&dir.path().join("sled")).expect("a database");
        store.write(&Batch { meta: self.meta, records, streams: self.streams }).expect("written");
        store.sync().expect("synced");
        drop(store);
        dir
    }
}

fn verify(dir: &Path, more: &[&str]) -> Ended {
    let dir = dir.display().to_string();
    ended(&[&["journal", "verify", "-o", "json", "--journal", &dir], more].concat())
}

/// Verdict, position of the problem, and number of valid records.
#[track_caller]
fn said(dir: &Path, more: &[&str], code: i32) -> (String, Option<u64>, Option<u64>) {
    let verified: Value = verify(dir, more).with(code).json();
    let word = verified["verdict"].as_str().expect("a verdict").to_owned();
    (word, verified["problem"]["position"].as_u64(), verified["records"].as_u64())
}

fn verdict(word: &str, position: Option<u64>, records: u64) -> (String, Option<u64>, Option<u64>) {
    (word.to_owned(), position, Some(records))
}

/// A directory that differs in one way from the directory that a daemon would have written.
fn changed(change: impl FnOnce(&mut Written)) -> TempDir {
    let mut written = Written::of(&entries());
    change(&mut written);
    written.laid_out()
}

/// Every record is valid, and the next start will write the log.
#[test]
fn intact() {
    let dir = changed(|_| ());
    assert_eq!(said(dir.path(), &[], 3), verdict("intact", None, 28));
    drop(Journal::open_thread(dir.path(), journal_options()).expect("opened"));
    let verified = verify(dir.path(), &[]).with(0).json();
    assert_eq!((&verified["verdict"], &verified["problem"]), (&"intact".into(), &Value::Null));
}

#[test]
fn corrupt_at_a_flipped_byte() {
    let dir = changed(|written| written.records.get_mut(&7).expect("a record")[95] ^= 0x20);
    assert_eq!(said(dir.path(), &[], 4), verdict("corrupt", Some(7), 6));
}

/// The records before the damage can be read, and the exit code reports that the output is incomplete.
#[test]
fn shows_records_before_the_damage() {
    let dir = changed(|written| written.records.get_mut(&7).expect("a record")[95] ^= 0x20);
    let path = dir.path().display().to_string();
    let shown = ended(&["journal", "show", "--journal", &path]).with(4);
    assert_eq!(shown.stdout.lines().count(), 1 + 6, "{}", shown.stdout);
    assert!(shown.stderr.contains("SP0030") && shown.stderr.contains("record 7"), "{}", shown.stderr);
    let error = ended(&["journal", "show", "-o", "json", "--journal", &path]).with(4).json();
    assert_eq!(error["error"]["code"], "SP0030", "a program gets all or nothing: {error}");
}

#[test]
fn corrupt_at_a_missing_record() {
    let dir = changed(|written| drop(written.records.remove(&7)));
    assert_eq!(said(dir.path(), &[], 4), verdict("corrupt", Some(7), 6));
}

#[test]
fn corrupt_at_records_in_another_order() {
    let dir = changed(|written| {
        let (seventh, eighth) = (written.records[&7].clone(), written.records[&8].clone());
        written.records.extend([(7, eighth), (8, seventh)]);
    });
    assert_eq!(said(dir.path(), &[], 4), verdict("corrupt", Some(7), 6));
}

/// The hash of the replaced record was recomputed, and the next record does not follow from it.
#[test]
fn corrupt_after_replaced_record() {
    let mut forged = entries();
    forged[6].record.time_ns += 1;
    seal(&mut forged);
    let dir = changed(|written| drop(written.records.insert(7, envelope(&forged[6]))));
    assert_eq!(said(dir.path(), &[], 4), verdict("corrupt", Some(8), 7));
}

/// A batch is written as one unit: a crash cannot cause either damage, and a daemon refuses both.
#[test]
fn corrupt_after_head_and_truncated_before_it() {
    let entries = entries();
    let dir = changed(|written| written.meta.head = entries[26].head());
    assert_eq!(said(dir.path(), &[], 4), verdict("corrupt", Some(28), 27));
    let dir = changed(|written| drop(written.records.remove(&28)));
    assert_eq!(said(dir.path(), &[], 4), verdict("cut-tail", Some(28), 27));
}

/// A power failure leaves a partial batch after the last complete batch: a daemon truncates it and reports
/// this.
#[test]
fn torn_tail_after_last_complete_batch() {
    let dir = changed(|_| ());
    drop(Journal::open_thread(dir.path(), journal_options()).expect("opened"));
    let whole = verify(dir.path(), &[]).with(0).json();
    let segment = dir.path().join("log/00000001.seg");
    let mut bytes = std::fs::read(&segment).expect("readable");
    bytes.extend(b"SPfr\0\0\0\x40 torn");
    std::fs::write(&segment, bytes).expect("written");
    let torn = verify(dir.path(), &[]).with(3).json();
    assert_eq!((&torn["verdict"], &torn["head"]), (&"torn-tail".into(), &whole["head"]));
    let reason = torn["problem"]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("13 bytes behind record"), "{reason}");
    let dir = dir.path().display().to_string();
    ended(&["journal", "replay", "--journal", &dir]).with(0);
}

#[test]
fn cut_tail_against_published_head() {
    let entries = entries();
    let dir = Written::of(&entries[..27]).laid_out();
    assert_eq!(said(dir.path(), &[], 3), verdict("intact", None, 27));
    let published = entries[27].head().to_string();
    assert_eq!(said(dir.path(), &["--expect-head", &published], 4), verdict("cut-tail", Some(28), 27));
}

/// No head was published, but the file of the last owner names a later epoch.
#[test]
fn cut_tail_against_epoch_of_last_owner() {
    let dir = changed(|_| ());
    std::fs::write(dir.path().join("owner.json"), r#"{"pid":7,"host":"node-1","epoch":9}"#).expect("written");
    assert_eq!(said(dir.path(), &[], 4), verdict("cut-tail", Some(29), 28));
}

#[test]
fn newer_schema() {
    let dir = changed(|written| written.meta.schema = 99);
    let verified = verify(dir.path(), &[]).with(4).json();
    assert_eq!(verified["verdict"], "newer-schema");
    let reason = verified["problem"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("written by a newer stillpoint (schema 99)"), "{reason}");
    // Neither a reader nor a daemon changes the directory.
    assert!(Journal::open_thread(dir.path(), journal_options()).is_err());
    verify(dir.path(), &[]).with(4);
    assert!(!dir.path().join("owner.json").exists(), "nobody owned it");
    let store = SledStore::open(&dir.path().join("sled")).expect("it opens");
    let written =
        Written { meta: Meta { schema: 99, ..Written::of(&entries()).meta }, ..Written::of(&entries()) };
    assert_eq!(store.meta(), Ok(Some(written.meta)));
    let records: BTreeMap<u64, Vec<u8>> = store.records(0).map(|record| record.expect("readable")).collect();
    assert!(records == written.records, "nothing is rewritten");
}

#[test]
fn locked() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), journal_options()).expect("opened");
    let verified = verify(dir.path(), &[]).with(4).json();
    assert_eq!((&verified["verdict"], &verified["records"]), (&"locked".into(), &0.into()));
    let reason = verified["problem"]["reason"].as_str().expect("a reason");
    assert!(reason.contains(&format!("pid {}", std::process::id())), "{reason}");
    drop(journal);
    verify(dir.path(), &[]).with(0);
}

/// Changes one byte in the middle of the used part of a file.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("readable");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("not empty");
    bytes[used / 2] ^= 0x20;
    std::fs::write(path, bytes).expect("written");
}

/// The daemon answers from memory; its next start would read the damaged file.
#[test]
fn files_are_readable_beside_running_daemon() {
    let mut stage = Stage::with_group(2);
    let mut daemon = stage.daemon(&[]);
    assert_eq!(stage.phase(&mut daemon), "Completed");
    let dir = stage.journal();
    let whole = verify(&dir, &[]).with(0).json();

    flip(&dir.join("sled/db"));
    verify(&dir, &[]).with(0);
    flip(&dir.join("log/00000001.seg"));
    let corrupt = verify(&dir, &[]).with(4).json();
    assert_eq!((&corrupt["verdict"], &corrupt["records"]), (&"corrupt".into(), &whole["records"]));
    let problem = &corrupt["problem"];
    assert!(
        problem["reason"]
            .as_str()
            .expect("a reason")
            .starts_with("the files do not hold what the daemon answers")
    );
    assert!(problem["fix"].as_str().expect("a fix").contains("stillpoint journal export"), "{problem}");
    let exported = ended(&["journal", "export", "--journal", &dir.display().to_string()]).with(0).stdout;
    assert_eq!(
        Some(exported.lines().count() as u64),
        whole["records"].as_u64(),
        "the daemon has every record"
    );

    daemon.kill();
    assert_eq!(verify(&dir, &[]).with(4).json()["verdict"], "corrupt");
    for command in ["export", "replay", "list", "show"] {
        ended(&["journal", command, "--journal", &dir.display().to_string()]).with(4);
    }
    assert_eq!(stage.daemon(&[]).end().0, Some(4), "the start refuses it as well");
}

#[test]
fn export_without_records_is_truncated() {
    let dir = tempfile::tempdir().expect("a directory");
    let export = dir.path().join("export.jsonl");
    for text in ["", "\n\n"] {
        std::fs::write(&export, text).expect("written");
        let path = export.display().to_string();
        let verified = ended(&["journal", "verify", "-o", "json", "--export", &path]).with(4).json();
        assert_eq!((&verified["verdict"], &verified["records"]), (&"cut-tail".into(), &0.into()));
        assert_eq!(verified["problem"]["reason"], "record 1: is missing: there are no records at all");
        ended(&["journal", "replay", "--export", &path]).with(4);
    }
}
