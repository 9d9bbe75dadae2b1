//! Tests what stays of archived segments: streams that are open or hold do not block archiving.

use std::fs;
use std::path::Path;

use super::super::archive::{COPIED_PERCENT, Carry, Policy};
use super::archiving::{all, archives, everything, holds, run, small};
use super::*;

/// A stuck run of two records, all archived. Its first record precedes seven runs that ended, and its
/// second is among them.
async fn stuck(dir: &Path) -> (Journal, Vec<Head>) {
    let (journal, _) = Journal::open_thread(dir, small()).expect("opened");
    run(&journal, 1..4).await;
    append(&journal, 100, 0, "begun").await.expect("appended");
    run(&journal, 4..6).await;
    append(&journal, 100, 1, "stuck").await.expect("appended");
    run(&journal, 6..8).await;
    let heads = journal.entries(1, 1 << 20).await.expect("readable").iter().map(Entry::head).collect();
    let archived = everything(&journal).await;
    assert_eq!(archived.copied, 2);
    (journal, heads)
}

fn reopened(dir: &Path) -> (Journal, Opened) {
    Journal::open_thread(dir, small()).expect("opened again")
}

fn move_archives(dir: &Path) {
    archives(dir, "seg").iter().for_each(|path| fs::remove_file(path).expect("moved"));
}

/// Checks that the open run has these records, and that no archive is read for them.
async fn resumed(journal: &Journal, opened: &Opened, expected: &[&str]) {
    assert_eq!(opened.streams.len(), 1);
    assert_eq!(texts(&opened.streams[0].1), expected);
    assert_eq!(texts(&journal.stream(stream(100)).await.expect("readable")), expected);
}

#[tokio::test]
async fn stuck_run_resumes_without_archives() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, heads) = stuck(dir.path()).await;
    holds(dir.path(), &journal, &heads).await;
    append(&journal, 100, 2, "asked").await.expect("appended");
    drop(journal);
    move_archives(dir.path());
    for _ in 0..2 {
        let (journal, opened) = reopened(dir.path());
        assert_eq!(opened.repairs, []);
        resumed(&journal, &opened, &["begun", "stuck", "asked"]).await;
    }
    // The log alone has the copies.
    fs::remove_dir_all(dir.path().join("sled")).expect("removed");
    let (journal, opened) = reopened(dir.path());
    assert!(matches!(&opened.repairs[..], [Repair::IndexRebuilt { .. }]), "{:?}", opened.repairs);
    resumed(&journal, &opened, &["begun", "stuck", "asked"]).await;
    let refused = append(&journal, 2, 0, "again").await;
    assert_eq!(refused, Err(AppendError::Archived { stream: stream(2) }));
}

#[tokio::test]
async fn run_that_was_copied_ends_and_leaves() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, heads) = stuck(dir.path()).await;
    journal.append(stream(100), 2, vec![record("over")], StreamState::Finished).await.expect("appended");
    let copied = everything(&journal).await.copied;
    assert_eq!(copied, 0, "nothing is needed of it");
    holds(dir.path(), &journal, &heads).await;
    assert_eq!(texts(&journal.stream(stream(100)).await.expect("archived")), ["begun", "stuck", "over"]);
    drop(journal);
    for lost in [false, true] {
        if lost {
            fs::remove_dir_all(dir.path().join("sled")).expect("removed");
        }
        let (journal, opened) = reopened(dir.path());
        assert_eq!((opened.streams.len(), opened.repairs.is_empty()), (0, !lost));
        assert!(append(&journal, 100, 3, "again").await.is_err(), "it ended in an archive");
        assert_eq!(journal.live(stream(100)).await.expect("readable"), []);
    }
}

#[tokio::test]
async fn copies_of_archived_copies_are_the_originals() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, heads) = stuck(dir.path()).await;
    for round in 1..6_u128 {
        run(&journal, round * 10..round * 10 + 3).await;
        assert_eq!(everything(&journal).await.copied % 2, 0);
        let live = journal.entries(1, 1 << 20).await.expect("readable");
        let copies: Vec<_> = live.iter().filter_map(|entry| Carry::of(&entry.record)).collect();
        let originals: Vec<_> = copies.iter().flat_map(|carry| &carry.entries).map(Entry::head).collect();
        assert!(!originals.is_empty() && originals.iter().all(|head| heads.contains(head)), "round {round}");
    }
    drop(journal);
    move_archives(dir.path());
    let (journal, opened) = reopened(dir.path());
    resumed(&journal, &opened, &["begun", "stuck"]).await;
}

#[tokio::test]
async fn rebuilds_index_that_lost_copied_record() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, heads) = stuck(dir.path()).await;
    drop(journal);
    let begun = heads[9].position;
    for (records, streams) in [(vec![], vec![stream(100)]), (vec![(begun, stream(100), 1)], vec![])] {
        let mut store = SledStore::open(&dir.path().join("sled")).expect("opened");
        let meta = store.meta().expect("readable").expect("there is one");
        store.truncate(&Truncation { meta, records, streams }).expect("forgotten");
        store.sync().expect("synced");
        drop(store);
        let (journal, opened) = reopened(dir.path());
        assert!(matches!(&opened.repairs[..], [Repair::IndexRebuilt { .. }]), "{:?}", opened.repairs);
        resumed(&journal, &opened, &["begun", "stuck"]).await;
    }
}

#[tokio::test]
async fn ended_streams_stay_while_open_run_refers_to_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), Options { links, ..small() }).expect("opened");
    let backup = stream(200);
    journal.append(backup, 0, vec![accepted(&[1, 100])], StreamState::Open).await.expect("appended");
    run(&journal, 1..4).await;
    append(&journal, 100, 0, "stuck").await.expect("appended");
    run(&journal, 4..6).await;
    let copied = everything(&journal).await.copied;
    assert_eq!(copied, 1 + 3 + 1, "the one that refers to others, the one that ended and the stuck one");
    drop(journal);
    move_archives(dir.path());
    let linked = Options { links, ..small() };
    let (journal, opened) = Journal::open_thread(dir.path(), linked).expect("opened again");
    let open: Vec<_> = opened.streams.iter().map(|(stream, _)| *stream).collect();
    assert_eq!(open, [backup, stream(100)], "what has ended is not resumed");
    assert_eq!(texts(&journal.stream(stream(1)).await.expect("copied")), ["one", "two", "three"]);
    assert_eq!(append(&journal, 1, 3, "more").await, Err(AppendError::Archived { stream: stream(1) }));
    let gone = journal.stream(stream(2)).await.expect_err("no run needs it");
    assert!(matches!(gone, JournalError::ArchiveMissing { .. }), "{gone}");
    // The run that referred to it ends: nothing of both is live any more.
    journal.append(backup, 1, vec![record("over")], StreamState::Finished).await.expect("appended");
    everything(&journal).await;
    for id in [backup, stream(1)] {
        assert_eq!(journal.live(id).await.expect("readable"), []);
    }
    drop(journal);
    fs::remove_dir_all(dir.path().join("sled")).expect("removed");
    let (_, opened) = reopened(dir.path());
    assert_eq!(opened.streams.len(), 1, "only the stuck run is open");
}

/// A record that refers to streams. Their numbers are its payload.
fn accepted(groups: &[u128]) -> Record {
    let payload = groups.iter().flat_map(|number| number.to_be_bytes()).collect();
    Record { kind: REFERS, version: 1, time_ns: 1, payload }
}

const REFERS: u16 = 16;

fn links(record: &Record) -> Vec<uuid::Uuid> {
    let numbers = record.payload.chunks_exact(16).filter(|_| record.kind == REFERS);
    numbers.map(|bytes| stream(u128::from_be_bytes(bytes.try_into().expect("16 bytes")))).collect()
}

fn receipts() -> Options {
    Options { keeps: |record| record.payload.starts_with(b"receipt"), ..small() }
}

/// Writes the run `number`, which ends and holds.
async fn hold(journal: &Journal, number: u128) {
    append(journal, number, 0, "one").await.expect("appended");
    append(journal, number, 1, "receipt").await.expect("appended");
    append(journal, number, 2, "three").await.expect("appended");
    journal.append(stream(number), 3, vec![record("over")], StreamState::Holding).await.expect("appended");
}

#[tokio::test]
async fn receipt_of_holding_run_stays_live() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), receipts()).expect("opened");
    hold(&journal, 300).await;
    run(&journal, 1..8).await;
    assert_eq!(everything(&journal).await.copied, 2, "its receipt and its last record");
    let all_of_it = ["one", "receipt", "three", "over"];
    assert_eq!(texts(&journal.live(stream(300)).await.expect("readable")), ["receipt", "over"]);
    assert_eq!(texts(&journal.stream(stream(300)).await.expect("readable")), all_of_it);
    drop(journal);
    let kept = archives(dir.path(), "seg");
    for (lost, more) in [("nothing", 50), ("archives", 60), ("index", 70)] {
        match lost {
            "archives" => kept.iter().for_each(|path| fs::remove_file(path).expect("moved")),
            "index" => fs::remove_dir_all(dir.path().join("sled")).expect("removed"),
            _ => {}
        }
        let (journal, opened) = Journal::open_thread(dir.path(), receipts()).expect("opened again");
        assert_eq!(opened.streams, [], "it has no work left");
        assert_eq!(texts(&journal.live(stream(300)).await.expect("there")), ["receipt", "over"], "{lost}");
        let whole = journal.stream(stream(300)).await;
        assert_eq!(whole.is_ok(), lost == "nothing", "{lost}: {whole:?}");
        run(&journal, more..more + 2).await;
        everything(&journal).await;
        assert_eq!(texts(&journal.live(stream(300)).await.expect("there")), ["receipt", "over"], "{lost}");
    }
    // What it held was freed.
    let (journal, _) = Journal::open_thread(dir.path(), receipts()).expect("opened again");
    let freed = vec![record("freed")];
    journal.append(stream(300), 4, freed, StreamState::Finished).await.expect("it continues");
    everything(&journal).await;
    assert_eq!(journal.live(stream(300)).await.expect("readable"), []);
    assert!(append(&journal, 300, 5, "more").await.is_err(), "it ended in an archive");
}

#[tokio::test]
async fn segment_stays_if_quarter_of_it_is_needed() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { segment_bytes: 20_000, ..small() };
    let (journal, _) = Journal::open_thread(dir.path(), options).expect("opened");
    for number in 500..510 {
        append(&journal, number, 0, "stuck").await.expect("appended");
    }
    run(&journal, 1..4).await;
    let archived = journal.archive(Policy::everything(), 5).await.expect("nothing to archive");
    let stays = archived.stays.expect("too much of it is needed");
    assert!(archived.archives.is_empty() && stays.needed * 100 >= stays.bytes * COPIED_PERCENT, "{stays:?}");
    assert_eq!((stays.first, stays.last), (1, 19));
    for number in 500..508 {
        journal.append(stream(number), 1, vec![record("over")], StreamState::Finished).await.expect("ended");
    }
    let archived = journal.archive(Policy::everything(), 6).await.expect("archived");
    assert_eq!((archived.archives.len(), archived.copied), (2, 2));
}

#[tokio::test]
async fn segment_full_of_needed_records_leaves_with_those_behind_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { segment_bytes: 4_000, ..small() };
    let (journal, _) = Journal::open_thread(dir.path(), options).expect("opened");
    for number in 500..520 {
        append(&journal, number, 0, "stuck").await.expect("appended");
    }
    let quarter = Policy { records: u64::MAX, ..Policy::everything() };
    let alone = journal.archive(quarter, 5).await.expect("nothing to archive");
    assert!(alone.archives.is_empty() && alone.stays.is_some(), "{alone:?}");
    run(&journal, 1..60).await;
    let archived = journal.archive(quarter, 6).await.expect("archived");
    assert!(archived.archives.len() > 3 && archived.copied == 20, "{archived:?}");
    assert_eq!(archived.archives[0].first, 1);
    for number in 500..520 {
        assert_eq!(texts(&journal.live(stream(number)).await.expect("copied")), ["stuck"]);
    }
    // The copies are a segment of needed records now. They do not keep the log from shrinking again.
    run(&journal, 100..400).await;
    let again = journal.archive(quarter, 7).await.expect("archived");
    let segments = fs::read_dir(dir.path().join("log")).expect("there").count();
    assert!(segments < 12 && again.archives.len() > 30, "{segments} of {}", again.archives.len());
    drop(journal);
    fs::remove_dir_all(dir.path().join("sled")).expect("removed");
    let (_, opened) = reopened(dir.path());
    assert_eq!(opened.streams.len(), 20);
}

/// A stuck run costs only its own records, and not those of the runs that end after it.
#[tokio::test]
async fn stuck_run_keeps_disk_and_memory_bounded() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = stuck(dir.path()).await;
    let reopened =
        |dir| Journal::open_thread(dir, Options { segment_bytes: 20_000, ..small() }).expect("opened again");
    let size = |name: &str| {
        let files = fs::read_dir(dir.path().join(name)).expect("there").flatten();
        files.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum::<u64>()
    };
    let mut journal = Some(journal);
    let mut sizes = vec![];
    for round in 1..5u128 {
        let open = journal.take().unwrap_or_else(|| reopened(dir.path()).0);
        run(&open, round * 1000..round * 1000 + 50).await;
        everything(&open).await;
        drop(open);
        let (_, opened) = reopened(dir.path());
        assert_eq!(opened.streams.len(), 1);
        assert!(opened.records < 100, "{} live records after {round} rounds", opened.records);
        sizes.push(size("log"));
    }
    assert!(sizes[3] <= sizes[0] + 1_000, "{sizes:?}");
}

#[tokio::test]
async fn reads_whole_run_without_archives() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = stuck(dir.path()).await;
    append(&journal, 100, 2, "asked").await.expect("appended");
    drop(journal);
    let read = || {
        let snapshot = Snapshot::open(dir.path()).expect("readable");
        let verification = snapshot.verify(None);
        (texts(snapshot.carried()), verification.verdict, verification.problem, snapshot.remarks().len())
    };
    assert_eq!(read(), (vec![], Verdict::Intact, None, 0), "every record is in the chain");
    move_archives(dir.path());
    let begun = ["begun", "stuck"].map(str::to_owned).to_vec();
    assert_eq!(read(), (begun, Verdict::NeedsArchive, None, 1), "a remark says that archives are elsewhere");
}

#[tokio::test]
async fn archives_go_to_another_directory() {
    let (dir, elsewhere) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
    let options = || Options { archive_dir: Some(elsewhere.path().join("old")), ..small() };
    let (journal, _) = Journal::open_thread(dir.path(), options()).expect("opened");
    run(&journal, 1..8).await;
    let archived = journal.archive(all(), 5).await.expect("archived");
    assert!(!archived.archives.is_empty() && archives(dir.path(), "seg").is_empty());
    let files = fs::read_dir(elsewhere.path().join("old")).expect("there").count();
    assert_eq!(files, archived.archives.len());
    assert_eq!(texts(&journal.stream(stream(1)).await.expect("readable")), ["one", "two", "three"]);
    drop(journal);
    let verdict =
        |archives| Snapshot::open_with(dir.path(), archives).expect("readable").verify(None).verdict;
    assert_eq!(verdict(None), Verdict::NeedsArchive);
    assert_eq!(verdict(Some(&elsewhere.path().join("old"))), Verdict::Intact);
    let (journal, opened) = Journal::open_thread(dir.path(), options()).expect("opened again");
    assert_eq!(opened.repairs, []);
    assert!(append(&journal, 1, 0, "again").await.is_err());
}
