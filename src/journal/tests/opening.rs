//! Tests the guarantees of an open.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::super::testing::batches;
use super::*;

#[tokio::test]
async fn closed_journal_reopens_with_same_chain() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a/new/journal");
    let (journal, opened) = Journal::open_thread(&path, impatient()).expect("created");
    assert_eq!((opened.epoch, opened.head, opened.records), (1, Head::genesis(), 0));
    for seq in 0..3 {
        append(&journal, 1, seq, "x").await.expect("appended");
    }
    let (head, entries) = (journal.head(), journal.entries(1, 10).await.expect("readable"));
    drop(journal);

    let (journal, opened) = Journal::open_thread(&path, impatient()).expect("opened again");
    assert_eq!((opened.epoch, opened.head, opened.records), (2, head, 3));
    assert_eq!((journal.epoch(), journal.head()), (2, head));
    assert_eq!(opened.streams, [(stream(1), entries)]);
    append(&journal, 1, 3, "y").await.expect("appended");
    let entries = journal.entries(1, 10).await.expect("readable");
    assert_eq!(entries.iter().map(|entry| entry.epoch).collect::<Vec<_>>(), [1, 1, 1, 2]);
    assert_eq!(chain::check(entries).map(|verified| verified.head), Ok(journal.head()));
}

#[tokio::test(start_paused = true)]
async fn open_claims_epoch_durably_before_returning() {
    let disk = Disk::new();
    for epoch in 1..=3 {
        let (journal, opened) = on(&disk);
        assert_eq!((journal.epoch(), opened.epoch), (epoch, epoch));
        disk.crash();
    }
}

#[tokio::test(start_paused = true)]
async fn returns_open_streams_in_order_of_start() {
    let disk = Disk::new();
    let (journal, _) = on(&disk);
    append(&journal, 9, 0, "nine").await.expect("appended");
    append(&journal, 3, 0, "three").await.expect("appended");
    append(&journal, 5, 0, "five").await.expect("appended");
    append(&journal, 9, 1, "nine again").await.expect("appended");
    journal.append(stream(3), 1, vec![record("done")], StreamState::Finished).await.expect("appended");
    disk.crash();

    let (journal, opened) = on(&disk);
    let found: Vec<_> = opened.streams.iter().map(|(stream, entries)| (*stream, texts(entries))).collect();
    let nine = vec!["nine".to_owned(), "nine again".to_owned()];
    assert_eq!(found, [(stream(9), nine), (stream(5), vec!["five".to_owned()])]);
    assert_eq!(texts(&journal.stream(stream(3)).await.expect("readable")), ["three", "done"]);

    append(&journal, 3, 2, "resumed").await.expect("appended");
    disk.crash();
    assert_eq!(on(&disk).1.streams.len(), 3, "the last append decides whether a stream is open");
}

#[test]
fn refuses_held_journal_and_names_its_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { pid: 4711, host: "node-a".to_owned(), ..impatient() };
    let _held = Journal::open_thread(dir.path(), options).expect("opened");
    let (tries, named) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (counted, counted_named) = (tries.clone(), named.clone());
    let options = Options {
        lock_attempts: 5,
        on_held: Arc::new(move |held| {
            assert!(held.to_string().ends_with("is held by pid 4711 on host node-a (owner.json)"), "{held}");
            counted_named.fetch_add(1, Ordering::Relaxed);
        }),
        sleep: Arc::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        }),
        ..Options::default()
    };
    let error = Journal::open_thread(dir.path(), options).err().expect("held");
    assert_eq!(
        error.to_string(),
        format!("journal {} is held by pid 4711 on host node-a (owner.json)", dir.path().display())
    );
    assert_eq!(tries.load(Ordering::Relaxed), 4);
    assert_eq!(named.load(Ordering::Relaxed), 1, "the holder is named once, before the first pause");
    assert_eq!(error.verdict(), Some(Verdict::Locked));
}

#[test]
fn waits_for_owner_that_is_terminating() {
    let dir = tempfile::tempdir().expect("a directory");
    let (dying, _) = Journal::open_thread(dir.path(), impatient()).expect("opened");
    let (dying, pauses) = (Mutex::new(Some(dying)), AtomicU32::new(0));
    let sleep = move |_| {
        if pauses.fetch_add(1, Ordering::Relaxed) == 2 {
            drop(dying.lock().expect("not poisoned").take());
        }
    };
    let options = Options { sleep: Arc::new(sleep), ..Options::default() };
    let (journal, _) = Journal::open_thread(dir.path(), options).expect("the lock became free");
    assert_eq!(journal.epoch(), 2);
}

#[test]
fn refuses_newer_schema_with_clear_message() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut newer = batches(1).remove(0);
    newer.meta.schema = SCHEMA + 1;
    let mut store = SledStore::open(&dir.path().join("sled")).expect("opened");
    store.write(&newer).expect("written");
    store.sync().expect("synced");
    drop(store);
    let sentence = "the journal was written by a newer stillpoint (schema 8); this one reads up to schema 7";
    let error = Journal::open_thread(dir.path(), impatient()).err().expect("newer");
    assert_eq!(error.to_string(), sentence);
    let error = Snapshot::open(dir.path()).err().expect("newer");
    assert_eq!(error.to_string(), sentence);
}

#[tokio::test(start_paused = true)]
async fn damage_stops_the_open_with_its_position() {
    let mut written = batches(4);
    written[2].records[0].envelope[100] ^= 1;
    let disk = Disk::new();
    let mut store = MemoryStore::open(&disk).expect("free");
    written.iter().for_each(|batch| store.write(batch).expect("written"));
    let error = Journal::open_task(store).err().expect("damaged");
    let JournalError::Damaged { torn: false, source } = &error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "record 3: its hash does not hold");
}

#[tokio::test(start_paused = true)]
async fn torn_tail_stops_open_without_epoch_claim() {
    let mut written = batches(4);
    written[3].records.clear();
    let disk = Disk::new();
    let mut store = MemoryStore::open(&disk).expect("free");
    written.iter().for_each(|batch| store.write(batch).expect("written"));
    let syncs = disk.syncs();
    let error = Journal::open_task(store).err().expect("torn");
    assert!(matches!(error, JournalError::Damaged { torn: true, .. }));
    assert_eq!(disk.syncs(), syncs);
}

#[test]
fn lost_database_is_not_created_again() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(Journal::open_thread(dir.path(), impatient()).expect("opened"));
    for name in ["sled", "log"] {
        std::fs::remove_dir_all(dir.path().join(name)).expect("removed");
    }
    let error = Journal::open_thread(dir.path(), impatient()).err().expect("lost");
    assert!(matches!(error, JournalError::Lost { epoch: 1, .. }), "{error:?}");
    assert!(!dir.path().join("sled").exists());
    assert!(matches!(Snapshot::open(dir.path()), Err(JournalError::Lost { .. })));
}

#[test]
fn refuses_database_older_than_owner_file() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(Journal::open_thread(dir.path(), impatient()).expect("opened"));
    Owner { pid: 1, host: "h".to_owned(), epoch: 5, position: 0 }
        .write(dir.path(), &fault_injection::FaultHook::default())
        .expect("written");
    let error = Journal::open_thread(dir.path(), impatient()).err().expect("behind");
    assert!(matches!(error, JournalError::Behind { found: 1, claimed: 5, .. }), "{error:?}");
    let verification = Snapshot::open(dir.path()).expect("readable all the same").verify(None);
    assert_eq!(verification.verdict, Verdict::CutTail);
}

#[test]
fn store_that_fails_to_open_reports_fix() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("sled")).expect("created");
    for name in ["conf", "db"] {
        std::fs::write(dir.path().join("sled").join(name), b"not a configuration").expect("written");
    }
    let error = Journal::open_thread(dir.path(), impatient()).err().expect("unopenable");
    assert!(matches!(error, JournalError::Unopenable { .. }), "{error:?}");
    assert!(error.fix().contains("stillpoint journal verify"));
}
