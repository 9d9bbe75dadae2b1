//! Tests journals that an older Stillpoint wrote.

use std::path::Path;

use super::super::sled_store::SledStore;
use super::super::testing::batches_of;
use super::*;
use crate::open::recover::read_meta_up_to;

/// Three records of schema 1, as that Stillpoint left them.
fn older(dir: &Path) -> Vec<(u64, Vec<u8>)> {
    let mut store = SledStore::open(&dir.join("sled")).expect("opened");
    batches_of(1, 3).iter().for_each(|batch| store.write(batch).expect("written"));
    store.sync().expect("synced");
    raw(&store)
}

fn raw(store: &SledStore) -> Vec<(u64, Vec<u8>)> {
    store.records(0).map(|record| record.expect("readable")).collect()
}

#[tokio::test]
async fn opens_schema_1_without_changing_its_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = older(dir.path());
    let (journal, opened) = Journal::open_thread(dir.path(), impatient()).expect("it opens");
    // There is one more record: the journal had no log, and the record reports that it was written.
    assert_eq!((opened.records, opened.epoch), (4, 2));
    append(&journal, 7, 0, "new").await.expect("appended");
    let entries = journal.entries(1, 10).await.expect("readable");
    assert_eq!(entries.iter().map(|entry| entry.schema).collect::<Vec<_>>(), [1, 1, 1, SCHEMA, SCHEMA]);
    assert_eq!(chain::check(entries).map(|verified| verified.head), Ok(journal.head()));
    drop(journal);
    let after = raw(&SledStore::open(&dir.path().join("sled")).expect("opened"));
    assert_eq!(after[..3], before);
    assert_eq!(Snapshot::open(dir.path()).expect("readable").verify(None).verdict, Verdict::Intact);
}

#[tokio::test]
async fn older_binary_refuses_upgraded_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    older(dir.path());
    let store = SledStore::open(&dir.path().join("sled")).expect("opened");
    assert!(read_meta_up_to(1, &store).is_ok(), "no newer release has opened it yet");
    drop(store);
    drop(Journal::open_thread(dir.path(), impatient()).expect("it opens"));
    let store = SledStore::open(&dir.path().join("sled")).expect("opened");
    assert_eq!(
        read_meta_up_to(1, &store).expect_err("it is newer").to_string(),
        "the journal was written by a newer stillpoint (schema 7); this one reads up to schema 1"
    );
}

#[test]
fn reading_alone_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    older(dir.path());
    let snapshot = Snapshot::open(dir.path()).expect("readable");
    assert_eq!((snapshot.verify(None).verdict, snapshot.meta().schema), (Verdict::Intact, 1));
    drop(snapshot);
    let store = SledStore::open(&dir.path().join("sled")).expect("opened");
    assert!(read_meta_up_to(1, &store).is_ok());
}

/// The log of a journal that schema 2 wrote, and its head.
const SCHEMA_2: &[u8] = include_bytes!("../../../migrations/0004_archives/before/00000001.seg");
const HEAD_2: &str = "48:34112b95de5996339a511a8a20cb1e5d0301ad6d9c2435ae369adc4a9366d7d9";

#[tokio::test]
async fn archives_log_of_schema_2_byte_for_byte() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("log")).expect("created");
    std::fs::write(dir.path().join("log/00000001.seg"), SCHEMA_2).expect("written");
    let (journal, opened) = Journal::open_thread(dir.path(), impatient()).expect("it opens");
    assert!(matches!(opened.repairs[..], [Repair::IndexRebuilt { records: 48, .. }]), "{:?}", opened.repairs);
    let head: Head = HEAD_2.parse().expect("a head");
    let archived = journal.archive(archive::Policy::everything(), 0).await.expect("archived");
    assert_eq!(archived.archives.len(), 1);
    drop(journal);
    let archive = std::fs::read(dir.path().join("archive").join(archived.archives[0].name())).expect("there");
    assert_eq!(archive[..SCHEMA_2.len()], *SCHEMA_2, "what schema 2 wrote stays as it is");
    let snapshot = Snapshot::open(dir.path()).expect("readable");
    assert_eq!(snapshot.verify(Some(&head)).verdict, Verdict::Intact);
    assert_eq!(snapshot.entries().filter(|entry| entry.as_ref().is_ok_and(|e| e.schema == 2)).count(), 48);
}

/// The segment that schema 2 wrote for a stuck run (`migrations/0003_asked`).
#[tokio::test]
async fn log_of_schema_2_rebuilds_store_and_continues() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/0003_asked/before/evidence");
    let segment = "00000001.seg";
    std::fs::create_dir(dir.path().join("log")).expect("a directory");
    std::fs::copy(before.join(segment), dir.path().join("log").join(segment)).expect("a copy");
    let (journal, opened) = Journal::open_thread(dir.path(), impatient()).expect("it opens");
    assert_eq!(opened.streams.len(), 1, "{:?}", opened.repairs);
    let before = journal.entries(1, 1_000).await.expect("readable").len();
    append(&journal, 7, 0, "new").await.expect("appended");
    drop(journal);
    let (journal, _) = Journal::open_thread(dir.path(), impatient()).expect("it opens again");
    let schemas: Vec<u16> =
        journal.entries(1, 1_000).await.expect("readable").iter().map(|e| e.schema).collect();
    assert_eq!((schemas[0], schemas[before]), (2, SCHEMA));
    drop(journal);
    assert_eq!(Snapshot::open(dir.path()).expect("readable").verify(None).verdict, Verdict::Intact);
}
