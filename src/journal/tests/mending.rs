//! Tests the repairs of an open if one half of a journal is damaged.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Writes a journal of `records` records in segments of about two. Returns the head of each record.
async fn written(dir: &Path, records: u64) -> Vec<Head> {
    let (journal, _) = Journal::open_thread(dir, small()).expect("opened");
    let mut heads = Vec::new();
    for seq in 0..records {
        heads.push(append(&journal, 1, seq, "some text").await.expect("appended").last);
    }
    heads
}

/// Options with segments of about two records.
fn small() -> Options {
    Options { segment_bytes: 500, now: || 77, ..impatient() }
}

/// Opens the journal and asserts that every record is there, and that both halves agree at the next open.
async fn reopened(dir: &Path, heads: &[Head]) -> Vec<Repair> {
    let (journal, opened) = Journal::open_thread(dir, small()).expect("opened");
    let entries = journal.entries(1, 1000).await.expect("readable");
    let found: Vec<_> = entries.iter().take(heads.len()).map(Entry::head).collect();
    assert_eq!(found, heads);
    assert_eq!(chain::check(entries.iter().cloned()).map(|verified| verified.head), Ok(journal.head()));
    assert_eq!((opened.head, opened.records), (journal.head(), entries.len() as u64));
    assert_eq!(opened.streams.len(), usize::from(!heads.is_empty()), "stream 1 has work left");
    let told: Vec<_> =
        entries[heads.len()..].iter().filter_map(|entry| repair::text(&entry.record)).collect();
    let repairs: Vec<_> = opened.repairs.iter().map(ToString::to_string).collect();
    assert!(told.ends_with(&repairs), "{told:?} tell of {repairs:?}");
    append(&journal, 9, 0, "after").await.expect("appended");
    let head = journal.head();
    drop(journal);
    let again = Journal::open_thread(dir, small()).expect("opened again").1;
    assert_eq!((again.head, again.repairs), (head, vec![]));
    opened.repairs
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir.join("evidence"))
        .expect("there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    paths
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("readable");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[tokio::test]
async fn log_is_split_into_segments() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 9).await;
    assert!(segments(dir.path()).len() > 3);
    assert_eq!(reopened(dir.path(), &heads).await, []);
}

#[tokio::test]
async fn writes_log_for_journal_of_earlier_release() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 5).await;
    fs::remove_dir_all(dir.path().join("evidence")).expect("removed");
    assert_eq!(reopened(dir.path(), &heads).await, [Repair::EvidenceBegun { records: 5 }]);
}

#[tokio::test]
async fn rebuilds_missing_or_unreadable_database() {
    for damage in ["gone", "conf", "db"] {
        let dir = tempfile::tempdir().expect("a directory");
        let heads = written(dir.path(), 7).await;
        let sled = dir.path().join("sled");
        match damage {
            "gone" => fs::remove_dir_all(&sled).expect("removed"),
            "conf" => fs::write(sled.join("conf"), b"not a configuration").expect("written"),
            _ => fs::write(sled.join("db"), [0xa5; 9000]).expect("written"),
        }
        let repairs = reopened(dir.path(), &heads).await;
        let [repair] = &repairs[..] else { panic!("{damage}: {repairs:?}") };
        match repair {
            Repair::DatabaseRebuilt { aside, records: 7, .. } => {
                let kept = aside.as_ref().is_some_and(|name| dir.path().join(name).exists());
                assert_eq!(kept, damage != "gone", "{damage}");
            }
            // sled takes some files that are not a database for an empty one.
            Repair::DatabaseCaughtUp { from: 1, to: 7 } => assert_eq!(damage, "db"),
            other => panic!("{damage}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn completes_database_that_lost_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let older = tempfile::tempdir().expect("a directory");
    written(dir.path(), 4).await;
    let sled = dir.path().join("sled");
    for name in ["db", "conf"] {
        fs::copy(sled.join(name), older.path().join(name)).expect("copied");
    }
    let (journal, _) = Journal::open_thread(dir.path(), small()).expect("opened");
    for seq in 4..6 {
        append(&journal, 1, seq, "later").await.expect("appended");
    }
    let heads: Vec<_> = journal.entries(1, 10).await.expect("readable").iter().map(Entry::head).collect();
    drop(journal);
    fs::remove_dir_all(&sled).expect("removed");
    fs::create_dir(&sled).expect("created");
    for name in ["db", "conf"] {
        fs::copy(older.path().join(name), sled.join(name)).expect("copied");
    }
    let snapshot = Snapshot::open(dir.path()).expect("readable");
    assert_eq!((snapshot.verify(None).records, snapshot.remarks().len()), (6, 1));
    assert_eq!(reopened(dir.path(), &heads).await, [Repair::DatabaseCaughtUp { from: 5, to: 6 }]);
}

#[tokio::test]
async fn rebuilds_log_damaged_anywhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 6).await;
    for damaged in [0, 1] {
        for at in [3, 120] {
            let paths = segments(dir.path());
            flip(&paths[damaged.min(paths.len() - 1)], at);
            let repairs = reopened_once(dir.path(), &heads).await;
            assert!(matches!(repairs[..], [Repair::EvidenceRebuilt { .. }]), "{repairs:?}");
        }
    }
    assert_eq!(reopened_once(dir.path(), &heads).await, [], "its claim begins a second segment");
    fs::remove_file(&segments(dir.path())[0]).expect("removed");
    let repairs = reopened_once(dir.path(), &heads).await;
    assert!(matches!(repairs[..], [Repair::EvidenceRebuilt { .. }]), "{repairs:?}");
}

/// As [`reopened`], without appending a record.
async fn reopened_once(dir: &Path, heads: &[Head]) -> Vec<Repair> {
    let (journal, opened) = Journal::open_thread(dir, small()).expect("opened");
    let entries = journal.entries(1, 1000).await.expect("readable");
    assert_eq!(entries.iter().take(heads.len()).map(Entry::head).collect::<Vec<_>>(), heads);
    opened.repairs
}

#[tokio::test]
async fn truncates_and_reports_torn_bytes_at_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 3).await;
    let last = segments(dir.path()).pop().expect("a segment");
    let mut bytes = fs::read(&last).expect("readable");
    bytes.extend(b"SPfr\0\0\0\x40 torn");
    fs::write(&last, bytes).expect("written");
    assert_eq!(reopened(dir.path(), &heads).await, [Repair::EvidenceTrimmed { bytes: 13, after: 3 }]);
}

#[tokio::test]
async fn refuses_and_preserves_damaged_log_and_database() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path(), 6).await;
    flip(&segments(dir.path())[1], 120);
    fs::write(dir.path().join("sled/conf"), b"not a configuration").expect("written");
    for _ in 0..2 {
        let error = Journal::open_thread(dir.path(), small()).err().expect("refused");
        let JournalError::BothDamaged { source, .. } = &error else { panic!("{error:?}") };
        assert!(source.position > 1, "{source}");
        assert!(error.fix().contains("restore the newest copy"));
    }
    let snapshot = Snapshot::open(dir.path()).expect("the first segment is readable");
    let found = snapshot.verify(None);
    assert_eq!(
        (found.verdict, found.records),
        (Verdict::Corrupt, found.problem.expect("damage").position - 1)
    );
    assert!(matches!(snapshot.refusal(), Some(JournalError::BothDamaged { .. })));
}

#[tokio::test]
async fn refuses_log_and_database_that_diverge() {
    let (one, two) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    written(one.path(), 3).await;
    let (journal, _) = Journal::open_thread(two.path(), small()).expect("opened");
    append(&journal, 2, 0, "another text").await.expect("appended");
    drop(journal);
    fs::remove_dir_all(one.path().join("evidence")).expect("removed");
    fs::rename(two.path().join("evidence"), one.path().join("evidence")).expect("moved");
    let error = Journal::open_thread(one.path(), small()).err().expect("refused");
    assert!(
        matches!(&error, JournalError::Damaged { source, .. } if source.what == Fault::TwoHistories),
        "{error:?}"
    );
}

#[tokio::test]
async fn reads_snapshot_from_log_if_database_broken() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 4).await;
    fs::write(dir.path().join("sled/conf"), b"not a configuration").expect("written");
    let snapshot = Snapshot::open(dir.path()).expect("readable");
    let verification = snapshot.verify(None);
    assert_eq!((verification.verdict, Some(&verification.head)), (Verdict::Intact, heads.last()));
    assert!(snapshot.remarks()[0].contains("read from the evidence"), "{:?}", snapshot.remarks());
}

#[test]
fn repair_record_has_kind_and_description() {
    let repairs = [Repair::EvidenceTrimmed { bytes: 3, after: 9 }];
    let batch = repair::claim(Meta { epoch: 4, ..Meta::new() }, &repairs, None, 5);
    let entry = envelope::open(&batch.slots[0].envelope).expect("sealed");
    assert_eq!((entry.record.kind, entry.record.time_ns, entry.seq, entry.epoch), (32, 5, 1, 4));
    assert_eq!(
        repair::text(&entry.record).as_deref(),
        Some("3 bytes behind record 9 of the evidence were no whole batch and were cut off")
    );
    assert_eq!(batch.streams[0].state, StreamState::Finished);
}
