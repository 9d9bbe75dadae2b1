//! Tests the guarantees of archiving: one chain, no lost record, no second run of a request.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::archive::{Archived, Policy, Prefix};
use super::*;

/// Options with segments of about three records.
pub(super) fn small() -> Options {
    Options { segment_bytes: 700, now: || 77, ..impatient() }
}

fn with_faults(faults: Arc<dyn FaultInjection>) -> Options {
    Options { faults: Some(faults), ..small() }
}

/// In memory if possible: the tests check the order of calls, not the disk.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// Writes the runs `numbers` of three records each, which end.
pub(super) async fn run(journal: &Journal, numbers: std::ops::Range<u128>) {
    for number in numbers {
        append(journal, number, 0, "one").await.expect("appended");
        append(journal, number, 1, "two").await.expect("appended");
        let last = journal.append(stream(number), 2, vec![record("three")], StreamState::Finished);
        last.await.expect("appended");
    }
}

/// The policy that archives all segments, also those that are copied as a whole.
pub(super) fn all() -> Policy {
    Policy { copied_percent: 1000, ..Policy::everything() }
}

pub(super) async fn everything(journal: &Journal) -> Archived {
    journal.archive(all(), 5).await.expect("archived")
}

/// All records, archived ones first.
async fn whole(dir: &Path, journal: &Journal) -> Vec<Entry> {
    let live = journal.entries(1, 1 << 20).await.expect("readable");
    let truncated_at =
        live.first().map_or(journal.head(), |first| Head { position: first.position - 1, hash: first.prev });
    let prefix = Prefix::find(dir, None, truncated_at).expect("readable");
    assert_eq!(prefix.start().position, 0, "no archive is missing");
    let archived = prefix.entries().collect::<Result<Vec<_>, _>>().expect("archives hold");
    [archived, live].concat()
}

/// Checks that the chain is valid from its first record, and has these records in this order.
pub(super) async fn holds(dir: &Path, journal: &Journal, heads: &[Head]) {
    let entries = whole(dir, journal).await;
    let found: Vec<_> = entries.iter().map(Entry::head).take(heads.len()).collect();
    assert_eq!(found, heads);
    assert_eq!(chain::check(entries).map(|verified| verified.head), Ok(journal.head()));
}

async fn heads(journal: &Journal) -> Vec<Head> {
    journal.entries(1, 1 << 20).await.expect("readable").iter().map(Entry::head).collect()
}

pub(super) fn archives(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("archive")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn archiving_removes_ended_runs_and_preserves_chain() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), small()).expect("opened");
    run(&journal, 1..8).await;
    let (before, first) = (heads(&journal).await, journal.stream(stream(1)).await.expect("readable"));
    let archived = everything(&journal).await;
    assert_eq!((archived.copied, archived.archives.last().map(|c| c.last)), (0, before.last().copied()));
    assert!(archived.archives.len() > 3 && archived.archives.len() == archives(dir.path(), "seg").len());
    let live = journal.entries(1, 100).await.expect("readable");
    assert_eq!(live.len(), archived.archives.len(), "only the checkpoints are left");
    assert_eq!(journal.stream(stream(1)).await.expect("readable"), first, "an archived run can be read");
    assert!(!dir.path().join("log/00000001.seg").exists());
    holds(dir.path(), &journal, &before).await;

    run(&journal, 8..12).await;
    drop(journal);
    let (journal, opened) = Journal::open_thread(dir.path(), small()).expect("opened again");
    assert_eq!((opened.repairs, opened.streams), (vec![], vec![]));
    assert_eq!(opened.records, journal.head().position - before.len() as u64);
    let again = everything(&journal).await;
    assert_eq!(again.archives[0].first, before.len() as u64 + 1);
    holds(dir.path(), &journal, &before).await;
    let checkpoints = everything(&journal).await;
    assert!(!checkpoints.archives.is_empty() && checkpoints.archives.len() <= again.archives.len());
}

#[tokio::test]
async fn archived_request_never_runs_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), small()).expect("opened");
    run(&journal, 1..5).await;
    everything(&journal).await;
    let refused = AppendError::Archived { stream: stream(2) };
    for seq in [0, 3] {
        assert_eq!(append(&journal, 2, seq, "again").await, Err(refused.clone()));
    }
    drop(journal);
    // Nor does a request run again when the archives were moved elsewhere.
    archives(dir.path(), "seg").iter().for_each(|path| fs::remove_file(path).expect("removed"));
    let (journal, _) = Journal::open_thread(dir.path(), small()).expect("opened again");
    assert_eq!(append(&journal, 2, 0, "again").await, Err(refused));
    assert!(append(&journal, 9, 0, "new").await.is_ok());
    let gone = journal.stream(stream(2)).await.expect_err("its archive is not here");
    assert!(matches!(gone, JournalError::ArchiveMissing { .. }), "{gone}");
}

#[tokio::test]
async fn reads_run_across_archive_boundary() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), small()).expect("opened");
    run(&journal, 1..2).await;
    append(&journal, 50, 0, "a").await.expect("appended");
    run(&journal, 2..5).await;
    // The last record of the run is in the current segment.
    journal.append(stream(50), 1, vec![record("b")], StreamState::Finished).await.expect("appended");
    let later = Policy { records: u64::MAX, ..all() };
    let archived = journal.archive(later, 5).await.expect("archived");
    assert!(!archived.archives.is_empty());
    let live = journal.entries(1, 100).await.expect("readable");
    assert!(live.iter().any(|entry| entry.stream == stream(50) && entry.seq == 2));
    assert!(!live.iter().any(|entry| entry.stream == stream(50) && entry.seq == 1));
    assert_eq!(texts(&journal.stream(stream(50)).await.expect("readable")), ["a", "b"]);
    drop(journal);
    let (journal, _) = Journal::open_thread(dir.path(), small()).expect("opened again");
    assert_eq!(texts(&journal.stream(stream(50)).await.expect("readable")), ["a", "b"]);
    assert!(append(&journal, 50, 0, "again").await.is_err());
}

/// Stops the journal at its n-th call: no later call reaches the disk.
pub(super) struct Ending(AtomicU64);

impl Ending {
    pub fn at(call: u64) -> Arc<Ending> {
        Arc::new(Ending(AtomicU64::new(call)))
    }
}

impl FaultInjection for Ending {
    fn before(&self, _: Call) -> std::io::Result<Answer> {
        match self.0.load(Ordering::SeqCst) {
            0 => Err(std::io::Error::other("killed")),
            left => {
                self.0.store(left - 1, Ordering::SeqCst);
                Ok(Answer::Go)
            }
        }
    }

    fn after(&self, _: Call) {}
}

/// Writes a journal of seven runs and one stuck run, whose archiving is killed at its n-th call. Returns
/// its heads, or `None` if no call was killed.
async fn killed_at(dir: &Path, n: u64) -> Option<Vec<Head>> {
    let faults = Arc::new(Ending(AtomicU64::new(u64::MAX)));
    let (journal, _) = Journal::open_thread(dir, with_faults(faults.clone())).expect("opened");
    run(&journal, 1..3).await;
    append(&journal, 100, 0, "begun").await.expect("appended");
    run(&journal, 3..5).await;
    // An archiving before, so that copies are copied again.
    everything(&journal).await;
    run(&journal, 5..6).await;
    append(&journal, 100, 1, "stuck").await.expect("appended");
    run(&journal, 6..8).await;
    let heads: Vec<_> = whole(dir, &journal).await.iter().map(Entry::head).collect();
    faults.0.store(n, Ordering::SeqCst);
    let archived = journal.archive(all(), 5).await;
    archived.is_err().then_some(heads)
}

/// The part that is lost as well, after the archiving was killed.
const LOST: [&str; 2] = ["nothing", "sled"];

fn lose(dir: &Path, lost: &str) {
    match lost {
        "nothing" => {}
        part => fs::remove_dir_all(dir.join(part)).expect("removed"),
    }
}

#[tokio::test]
async fn archiving_resumes_after_kill_at_every_call() {
    let mut killed = 0;
    for lost in LOST {
        for n in (0..).step_by(every(3)) {
            let dir = directory();
            let Some(heads) = killed_at(dir.path(), n).await else { break };
            killed += 1;
            lose(dir.path(), lost);
            let (journal, opened) = Journal::open_thread(dir.path(), small())
                .unwrap_or_else(|error| panic!("killed at call {n}, {lost} lost: {error:?}"));
            assert_eq!(opened.repairs.is_empty(), lost == "nothing", "call {n}: {:?}", opened.repairs);
            holds(dir.path(), &journal, &heads).await;
            let case = format!("killed at call {n}, {lost} lost");
            assert_eq!(opened.streams.len(), 1, "{case}");
            assert_eq!(texts(&opened.streams[0].1), ["begun", "stuck"], "{case}");
            for number in 1..8 {
                let case = format!("killed at call {n}, {lost} lost, run {number}");
                assert_eq!(journal.stream(stream(number)).await.expect(&case).len(), 3, "{case}");
                assert!(append(&journal, number, 0, "again").await.is_err(), "{case}");
            }
            everything(&journal).await;
            run(&journal, 8..9).await;
            holds(dir.path(), &journal, &heads).await;
            drop(journal);
            let opened = Journal::open_thread(dir.path(), small()).expect("opened again").1;
            assert_eq!(opened.repairs, [], "call {n}, {lost} lost");
        }
    }
    println!("{killed} kills");
    assert!(killed > 3 * 12 / every(3), "only {killed} kills");
}

#[tokio::test]
async fn killed_recovery_of_archiving_resumes() {
    for (first, lost) in
        [1, 4, 8, 11, 14, 17, 20].into_iter().flat_map(|first| [(first, "nothing"), (first, "sled")])
    {
        for second in (0..).step_by(every(4)) {
            let dir = directory();
            let Some(heads) = killed_at(dir.path(), first).await else { break };
            lose(dir.path(), lost);
            let faults = Arc::new(Ending(AtomicU64::new(second)));
            let whole = Journal::open_thread(dir.path(), with_faults(faults)).is_ok();
            let (journal, opened) = Journal::open_thread(dir.path(), small()).unwrap_or_else(|error| {
                panic!("killed at {first}, {lost} lost, then at {second}: {error:?}")
            });
            holds(dir.path(), &journal, &heads).await;
            assert_eq!(
                texts(&opened.streams[0].1),
                ["begun", "stuck"],
                "killed at {first}, then at {second}"
            );
            if whole {
                break;
            }
        }
    }
}

#[tokio::test]
async fn rebuilds_lost_archive_index_or_refuses_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), small()).expect("opened");
    run(&journal, 1..5).await;
    everything(&journal).await;
    drop(journal);
    let (index, archive) = (archives(dir.path(), "ids").remove(0), archives(dir.path(), "seg").remove(0));
    let saved = fs::read(&index).expect("readable");
    for damage in [None, Some(saved[..20].to_vec())] {
        match &damage {
            None => fs::remove_file(&index).expect("removed"),
            Some(bytes) => fs::write(&index, bytes).expect("written"),
        }
        let (journal, opened) = Journal::open_thread(dir.path(), small()).expect("rebuilt");
        let name = index.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert_eq!(opened.repairs, [Repair::ArchiveIndexRebuilt { name }]);
        assert!(append(&journal, 1, 0, "again").await.is_err());
        assert_eq!(fs::read(&index).expect("it is there"), saved);
    }
    // The checkpoint detects another valid index under the same name.
    fs::write(&index, fs::read(archives(dir.path(), "ids").last().expect("some")).expect("readable"))
        .expect("written");
    let refused = Journal::open_thread(dir.path(), small()).err().expect("not the one");
    assert!(matches!(refused, JournalError::IndexLost { .. }), "{refused}");
    // Both are lost: a request that has ended could run again.
    fs::remove_file(&index).expect("removed");
    fs::rename(&archive, dir.path().join("elsewhere")).expect("moved");
    let refused = Journal::open_thread(dir.path(), small()).err().expect("unknown");
    assert!(matches!(refused, JournalError::IndexLost { first: 1, .. }), "{refused}");
    fs::rename(dir.path().join("elsewhere"), &archive).expect("moved back");
    assert!(Journal::open_thread(dir.path(), small()).is_ok());
}

#[tokio::test]
async fn log_starting_after_checkpoint_has_lost_records() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), small()).expect("opened");
    run(&journal, 1..4).await;
    everything(&journal).await;
    run(&journal, 4..8).await;
    let before = heads(&journal).await;
    drop(journal);
    let mut segments: Vec<_> = fs::read_dir(dir.path().join("log"))
        .expect("there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    segments.sort();
    fs::remove_file(&segments[0]).expect("removed");
    let error = Journal::open_thread(dir.path(), small()).err().expect("refused");
    assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
    Journal::rebuild_from_index(dir.path(), &small(), None, false).expect("the index has it");
    let (journal, opened) = Journal::open_thread(dir.path(), small()).expect("opened");
    assert_eq!(opened.repairs, []);
    let live: Vec<_> = heads(&journal).await;
    assert_eq!(live[..before.len()], before);
}
