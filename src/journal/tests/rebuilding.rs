//! Tests the start from damaged files, and the rebuild of a log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Opens the journal and asserts that every record is there, that the journal recorded its repairs, and that
/// the next open repairs nothing.
async fn reopened(dir: &Path, heads: &[Head]) -> Vec<Repair> {
    let (journal, opened) = Journal::open_thread(dir, small()).expect("opened");
    let entries = journal.entries(1, 1000).await.expect("readable");
    let found: Vec<_> = entries.iter().take(heads.len()).map(Entry::head).collect();
    assert_eq!(found, heads);
    assert_eq!(chain::check(entries.iter().cloned()).map(|verified| verified.head), Ok(journal.head()));
    assert_eq!((opened.head, opened.records), (journal.head(), entries.len() as u64));
    assert_eq!(opened.streams.len(), usize::from(!heads.is_empty()), "stream 1 has work left");
    let recorded: Vec<_> =
        entries[heads.len()..].iter().filter_map(|entry| repair::text(&entry.record)).collect();
    let repairs: Vec<_> = opened.repairs.iter().map(ToString::to_string).collect();
    assert!(recorded.ends_with(&repairs), "{recorded:?} do not end with {repairs:?}");
    append(&journal, 9, 0, "after").await.expect("appended");
    let head = journal.head();
    drop(journal);
    let again = Journal::open_thread(dir, small()).expect("opened again").1;
    assert_eq!((again.head, again.repairs), (head, vec![]));
    opened.repairs
}

fn refused(dir: &Path) -> JournalError {
    Journal::open_thread(dir, small()).err().expect("refused")
}

fn rebuilt(dir: &Path, accept_loss: bool) -> Result<Rebuilt, JournalError> {
    Journal::rebuild_from_index(dir, &small(), None, accept_loss)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("log")).expect("there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("readable");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}

/// Flips a bit in the last frame.
fn flip_last(dir: &Path) {
    let last = segments(dir).pop().expect("a segment");
    let at = fs::read(&last).expect("readable").len() - 40;
    flip(&last, at);
}

/// A copy of the index, to put back later.
struct Index(tempfile::TempDir);

impl Index {
    fn of(dir: &Path) -> Index {
        let copy = tempfile::tempdir().expect("a directory");
        for name in ["db", "conf"] {
            fs::copy(dir.join("sled").join(name), copy.path().join(name)).expect("copied");
        }
        Index(copy)
    }

    fn put_into(&self, dir: &Path) {
        let sled = dir.join("sled");
        fs::remove_dir_all(&sled).expect("removed");
        fs::create_dir(&sled).expect("created");
        for name in ["db", "conf"] {
            fs::copy(self.0.path().join(name), sled.join(name)).expect("copied");
        }
    }
}

#[tokio::test]
async fn log_is_split_into_segments() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 9).await;
    assert!(segments(dir.path()).len() > 3);
    assert_eq!(reopened(dir.path(), &heads).await, []);
}

#[tokio::test]
async fn rebuilds_missing_or_unreadable_index() {
    for damage in ["gone", "conf", "db"] {
        let dir = tempfile::tempdir().expect("a directory");
        let heads = written(dir.path(), 7).await;
        let sled = dir.path().join("sled");
        match damage {
            "gone" => fs::remove_dir_all(&sled).expect("removed"),
            "conf" => fs::write(sled.join("conf"), b"not a configuration").expect("written"),
            // sled takes such a file for an empty database.
            _ => fs::write(sled.join("db"), [0xa5; 9000]).expect("written"),
        }
        let snapshot = Snapshot::open(dir.path()).expect("readable");
        let found = snapshot.verify(None);
        assert_eq!((found.verdict, Some(&found.head)), (Verdict::Intact, heads.last()), "{damage}");
        assert!(snapshot.remarks()[0].contains("rebuilds it from the log"), "{:?}", snapshot.remarks());
        drop(snapshot);
        let repairs = reopened(dir.path(), &heads).await;
        assert!(
            matches!(repairs[..], [Repair::IndexRebuilt { records: 7, aside: None, .. }]),
            "{damage}: {repairs:?}"
        );
    }
}

#[tokio::test]
async fn catches_up_index_that_lost_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path(), 4).await;
    let older = Index::of(dir.path());
    let (journal, _) = Journal::open_thread(dir.path(), small()).expect("opened");
    for seq in 4..6 {
        append(&journal, 1, seq, "later").await.expect("appended");
    }
    let heads: Vec<_> = journal.entries(1, 10).await.expect("readable").iter().map(Entry::head).collect();
    drop(journal);
    older.put_into(dir.path());
    let snapshot = Snapshot::open(dir.path()).expect("readable");
    let found = snapshot.verify(None);
    assert_eq!((found.verdict, found.records, snapshot.remarks().len()), (Verdict::Intact, 6, 0));
    drop(snapshot);
    assert_eq!(reopened(dir.path(), &heads).await, [], "this is not a repair");
}

/// Reports a full disk at the first write to the index.
struct Full(AtomicU64);

impl FaultInjection for Full {
    fn before(&self, call: Call) -> io::Result<Answer> {
        let is_first = call == Call::SledWrite && self.0.fetch_add(1, Ordering::SeqCst) == 0;
        if is_first { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(Answer::Go) }
    }

    fn after(&self, _: Call) {}
}

#[tokio::test]
async fn index_that_does_not_fit_is_dropped_and_rebuilt() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path(), 4).await;
    let older = Index::of(dir.path());
    let (journal, _) = Journal::open_thread(dir.path(), small()).expect("opened");
    append(&journal, 1, 4, "later").await.expect("appended");
    let heads: Vec<_> = journal.entries(1, 10).await.expect("readable").iter().map(Entry::head).collect();
    drop(journal);
    older.put_into(dir.path());
    let full = Arc::new(Full(AtomicU64::new(0)));
    let options = Options { faults: Some(full.clone()), ..small() };
    let (journal, opened) = Journal::open_thread(dir.path(), options).expect("a full index is no reason");
    assert_eq!(journal.entries(1, 10).await.expect("readable").len(), 5);
    assert_eq!((opened.streams.len(), opened.epoch), (1, 3));
    assert!(full.0.load(Ordering::SeqCst) > 1, "it was written again");
    drop(journal);
    assert_eq!(reopened(dir.path(), &heads).await, []);
}

#[tokio::test]
async fn sets_aside_index_that_contradicts_log() {
    let (one, two) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    let heads = written(one.path(), 3).await;
    let (journal, _) = Journal::open_thread(two.path(), small()).expect("opened");
    append(&journal, 2, 0, "another text").await.expect("appended");
    drop(journal);
    Index::of(two.path()).put_into(one.path());
    let repairs = reopened(one.path(), &heads).await;
    let [Repair::IndexRebuilt { why, aside: Some(aside), .. }] = &repairs[..] else { panic!("{repairs:?}") };
    assert_eq!(why, "its record 1 is another one than that of the log");
    assert!(one.path().join(aside).join("db").exists());
}

/// The chain does not cover the state of a stream. The index said that the run has ended.
#[tokio::test]
async fn sets_aside_index_that_differs_in_one_stream() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 3).await;
    let mut store = SledStore::open(&dir.path().join("sled")).expect("opened");
    let meta = store.meta().expect("readable").expect("written");
    let head = store.stream(stream(1)).expect("readable").expect("there");
    let ended = StreamHead { state: StreamState::Finished, ..head };
    store.write(&Batch { meta, records: vec![], streams: vec![ended] }).expect("written");
    store.sync().expect("synced");
    drop(store);
    let repairs = reopened(dir.path(), &heads).await;
    assert!(matches!(&repairs[..], [Repair::IndexRebuilt { aside: Some(_), .. }]), "{repairs:?}");
}

#[tokio::test]
async fn truncates_and_records_torn_bytes_at_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 3).await;
    let last = segments(dir.path()).pop().expect("a segment");
    let mut bytes = fs::read(&last).expect("readable");
    bytes.extend(b"SPfr\0\0\0\x40 torn");
    fs::write(&last, bytes).expect("written");
    assert_eq!(reopened(dir.path(), &heads).await, [Repair::TailTruncated { bytes: 13, after: 3 }]);
}

/// A torn frame was never acknowledged. The index names the last record, so its frame was not torn.
#[tokio::test]
async fn changed_last_frame_is_damage_if_index_names_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 6).await;
    flip_last(dir.path());
    let error = refused(dir.path());
    let JournalError::Damaged { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.position, 6);
    assert!(error.fix().contains("rebuild --from-index"), "{}", error.fix());
    assert_eq!(
        rebuilt(dir.path(), false).expect("rebuilt"),
        Rebuilt { replaced: 1, last: 6, lost: None, lost_epoch: None }
    );
    assert_eq!(reopened(dir.path(), &heads).await, []);
}

#[tokio::test]
async fn refuses_log_damaged_anywhere_and_rebuilds_it() {
    for damaged in [0, 1, 2] {
        for at in [3, 120] {
            let dir = tempfile::tempdir().expect("a directory");
            let heads = written(dir.path(), 6).await;
            flip(&segments(dir.path())[damaged], at);
            let before = fs::read(&segments(dir.path())[damaged]).expect("readable");
            for _ in 0..2 {
                let error = refused(dir.path());
                assert!(matches!(error, JournalError::Damaged { .. }), "{error:?}");
                assert_eq!(
                    Snapshot::open(dir.path()).expect("readable").verify(None).verdict,
                    Verdict::Corrupt
                );
            }
            assert_eq!(fs::read(&segments(dir.path())[damaged]).expect("readable"), before);
            let done = rebuilt(dir.path(), false).expect("rebuilt");
            assert!(done.replaced <= 2 && done.lost.is_none(), "{done:?}");
            assert_eq!(reopened(dir.path(), &heads).await, [], "segment {damaged}, byte {at}");
            let snapshot = Snapshot::open(dir.path()).expect("readable");
            let texts: Vec<_> =
                snapshot.entries().flatten().filter_map(|entry| repair::text(&entry.record)).collect();
            assert_eq!(texts[0], done.to_string());
            let aside = fs::read_dir(dir.path()).expect("there").flatten();
            let aside = aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("log.broken"));
            assert_eq!(aside.count(), 1, "the damaged log is renamed");
        }
    }
}

#[tokio::test]
async fn lost_log_is_refused_and_rebuilt_from_index() {
    for lost in ["all", "first", "last"] {
        let dir = tempfile::tempdir().expect("a directory");
        let heads = written(dir.path(), 6).await;
        let mut paths = segments(dir.path());
        let (first, last) = (paths.remove(0), paths.pop().expect("some"));
        match lost {
            "all" => fs::remove_dir_all(dir.path().join("log")).expect("removed"),
            "first" => fs::remove_file(first).expect("removed"),
            _ => fs::remove_file(last).expect("removed"),
        }
        let error = refused(dir.path());
        let verdict = if lost == "first" { Verdict::Corrupt } else { Verdict::CutTail };
        assert_eq!(error.verdict(), Some(verdict), "{lost}: {error:?}");
        let found = Snapshot::open(dir.path()).expect("readable").verify(None);
        assert_eq!((found.verdict, found.problem.is_some()), (verdict, true), "{lost}: {found:?}");
        assert!(!dir.path().join("sled.broken-2").exists());
        let done = rebuilt(dir.path(), false).expect("rebuilt");
        assert_eq!((done.last, done.lost), (6, None), "{lost}");
        assert_eq!(reopened(dir.path(), &heads).await, [], "{lost}");
    }
}

#[tokio::test]
async fn rebuild_without_index_ends_only_with_accepted_loss() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 6).await;
    flip(&segments(dir.path())[1], 120);
    fs::write(dir.path().join("sled/conf"), b"not a configuration").expect("written");
    let JournalError::Damaged { source, .. } = refused(dir.path()) else { panic!("not damaged") };
    let last = source.position - 1;
    let snapshot = Snapshot::open(dir.path()).expect("the first segment is readable");
    assert_eq!(snapshot.verify(None).records, last);
    drop(snapshot);
    let short = rebuilt(dir.path(), false).expect_err("records are lost");
    assert!(matches!(short, JournalError::RebuildShort { known: 6, .. }), "{short:?}");
    assert!(matches!(refused(dir.path()), JournalError::Damaged { .. }), "nothing was changed");
    let done = rebuilt(dir.path(), true).expect("accepted");
    assert_eq!(done, Rebuilt { replaced: 0, last, lost: Some(6), lost_epoch: None });
    let remaining = usize::try_from(last).expect("small");
    let repairs = reopened(dir.path(), &heads[..remaining]).await;
    assert!(matches!(repairs[..], [Repair::IndexRebuilt { .. }]), "{repairs:?}");
}

/// The index has more records than can be joined to the log, so it is renamed with the loss.
#[tokio::test]
async fn rebuild_with_loss_renames_longer_index() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 6).await;
    let mut store = SledStore::open(&dir.path().join("sled")).expect("opened");
    let meta = store.meta().expect("readable").expect("written");
    let records = vec![(3, stream(1), 3)];
    store.truncate(&Truncation { meta, records, streams: vec![] }).expect("removed");
    store.sync().expect("synced");
    drop(store);
    fs::remove_dir_all(dir.path().join("log")).expect("removed");
    assert!(matches!(rebuilt(dir.path(), false), Err(JournalError::RebuildShort { last: 2, known: 6, .. })));
    assert_eq!(rebuilt(dir.path(), true).expect("accepted").lost, Some(6));
    let repairs = reopened(dir.path(), &heads[..2]).await;
    assert!(
        matches!(&repairs[..], [Repair::IndexRebuilt { why, .. }] if why == "it was missing"),
        "{repairs:?}"
    );
    let aside = fs::read_dir(dir.path()).expect("there").flatten();
    assert!(
        aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("sled.broken")).count() == 1
    );
}

#[tokio::test]
async fn rebuild_respects_published_head_and_whole_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 4).await;
    assert!(matches!(rebuilt(dir.path(), true), Err(JournalError::NotDamaged { .. })));
    let beyond = Head { position: 9, hash: [1; 32] };
    let rebuild = |published| Journal::rebuild_from_index(dir.path(), &small(), Some(published), false);
    assert!(matches!(rebuild(beyond), Err(JournalError::RebuildShort { last: 4, known: 9, .. })));
    flip(&segments(dir.path())[0], 120);
    let other = Head { hash: [1; 32], ..heads[2] };
    let error = rebuild(other).expect_err("another history");
    assert!(
        matches!(&error, JournalError::Damaged { source, .. } if source.what == Fault::OtherHistory),
        "{error:?}"
    );
    assert_eq!(rebuild(heads[2]).expect("rebuilt").lost, None);
    assert_eq!(reopened(dir.path(), &heads).await, []);
}

/// A copy of the journal from before the last start. It cannot know how many records that start has written.
#[tokio::test]
async fn rebuild_of_older_copy_needs_accepted_loss() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 4).await;
    let owner = Owner { pid: 1, host: "other".to_owned(), epoch: 5, position: 0 };
    owner.write(dir.path(), &fault_injection::FaultHook::default()).expect("written");
    assert!(matches!(refused(dir.path()), JournalError::Behind { found: 1, claimed: 5, .. }));
    assert!(matches!(rebuilt(dir.path(), false), Err(JournalError::Behind { found: 1, claimed: 5, .. })));
    let done = rebuilt(dir.path(), true).expect("accepted");
    assert_eq!((done.last, done.lost, done.lost_epoch), (4, None, Some(5)));
    assert_eq!(reopened(dir.path(), &heads).await, []);
    assert_eq!(Owner::read(dir.path()).expect("readable").expect("there").epoch, 8);
}

#[tokio::test]
async fn interrupted_replacement_of_log_is_finished() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = written(dir.path(), 6).await;
    flip(&segments(dir.path())[0], 120);
    rebuilt(dir.path(), false).expect("rebuilt");
    let path = |name: &str| dir.path().join(name);
    for both in [false, true] {
        fs::rename(path("log"), path("log.rebuilt")).expect("as before the last rename");
        if both {
            fs::create_dir(path("log")).expect("as before the first rename");
            fs::write(path("log/00000001.seg"), b"damaged").expect("written");
        }
        drop(Journal::open_thread(dir.path(), small()).expect("opened"));
        assert!(!path("log.rebuilt").exists() && path("log/00000001.seg").exists());
    }
    assert_eq!(reopened(dir.path(), &heads).await, []);
}

/// Fails every call from the n-th on, as if the process was killed before it.
struct Killed(AtomicU64);

impl FaultInjection for Killed {
    fn before(&self, _: Call) -> io::Result<Answer> {
        let left = self.0.load(Ordering::SeqCst);
        self.0.store(left.saturating_sub(1), Ordering::SeqCst);
        if left == 0 { Err(io::Error::other("killed")) } else { Ok(Answer::Go) }
    }

    fn after(&self, _: Call) {}
}

/// A rebuild that was killed is finished by the next open, or repeated. It loses nothing that it had.
#[tokio::test]
async fn rebuild_resumes_after_kill_at_every_call() {
    let mut killed = 0;
    for accept_loss in [false, true] {
        for n in 0.. {
            let dir = tempfile::tempdir().expect("a directory");
            let heads = written(dir.path(), 6).await;
            if accept_loss {
                let mut store = SledStore::open(&dir.path().join("sled")).expect("opened");
                let meta = store.meta().expect("readable").expect("written");
                let records =
                    vec![(1, stream(1), 1), (2, stream(1), 2), (3, stream(1), 3), (4, stream(1), 4)];
                store.truncate(&Truncation { meta, records, streams: vec![] }).expect("removed");
                store.sync().expect("synced");
            }
            flip(&segments(dir.path())[1], 120);
            let faults: Arc<dyn FaultInjection> = Arc::new(Killed(AtomicU64::new(n)));
            let options = Options { faults: Some(faults), ..small() };
            let whole = Journal::rebuild_from_index(dir.path(), &options, None, accept_loss).is_ok();
            killed += u64::from(!whole);
            // The open finishes a replacement that has begun, and refuses a log that is still damaged.
            let opened = Journal::open_thread(dir.path(), small());
            if matches!(opened, Err(JournalError::Damaged { .. })) {
                rebuilt(dir.path(), accept_loss).expect("rebuilt");
            } else {
                assert!(opened.is_ok(), "killed at call {n}: {:?}", opened.err());
            }
            drop(opened);
            let kept = if accept_loss { 2 } else { heads.len() };
            let (journal, _) = Journal::open_thread(dir.path(), small()).expect("opened");
            let entries = journal.entries(1, 100).await.expect("readable");
            let found: Vec<_> = entries.iter().take(kept).map(Entry::head).collect();
            assert_eq!(found, heads[..kept], "killed at call {n}");
            if whole {
                break;
            }
        }
    }
    println!("{killed} kills");
    assert!(killed > 12, "only {killed} kills");
}

/// The lost journal had more records than the new one. Its `owner.json` does not count against the new one.
#[tokio::test]
async fn replacement_of_lost_journal_starts() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path(), 9).await;
    for name in ["sled", "log"] {
        fs::remove_dir_all(dir.path().join(name)).expect("removed");
    }
    let error = refused(dir.path());
    assert!(matches!(error, JournalError::Lost { epoch: 1, .. }), "{error:?}");
    assert_eq!(error.verdict(), Some(Verdict::CutTail));
    Replacement::is_called_for(dir.path()).expect("it is lost");
    let new = Replacement::begin(dir.path(), 7, small()).expect("begun");
    append(new.journal(), 1, 0, "from the cluster").await.expect("appended");
    let head = new.journal().head();
    new.put_in_place().expect("in place");
    assert_eq!(reopened(dir.path(), &[head]).await, []);
    assert!(Owner::read(dir.path()).expect("readable").expect("there").epoch > 8);
}

#[test]
fn repair_record_has_kind_and_description() {
    let repairs = [Repair::TailTruncated { bytes: 3, after: 9 }];
    let batch = repair::claim(Meta { epoch: 4, ..Meta::new() }, &repairs, None, 5);
    let entry = envelope::open(&batch.records[0].envelope).expect("sealed");
    assert_eq!((entry.record.kind, entry.record.time_ns, entry.seq, entry.epoch), (32, 5, 1, 4));
    assert_eq!(
        repair::text(&entry.record).as_deref(),
        Some("3 bytes behind record 9 of the log were not a whole batch and were truncated")
    );
    assert_eq!(batch.streams[0].state, StreamState::Finished);
}
