//! Tests the guarantees of an append.

use std::sync::mpsc;
use std::time::Duration;
use uuid::Uuid;

use futures::future::join_all;
use tokio::time::{Instant, timeout};

use super::super::open::start_on_thread;
use super::super::store::RawRecords;
use super::*;

#[tokio::test(start_paused = true)]
async fn records_of_one_append_are_contiguous() {
    let (journal, _) = on(&Disk::new());
    append(&journal, 1, 0, "a").await.expect("appended");
    let records = vec![record("b"), record("c")];
    let appended = journal.append(stream(2), 0, records, StreamState::Open).await.expect("appended");
    assert_eq!((appended.first, appended.last.position), (2, 3));
    assert_eq!(journal.head(), appended.last);

    let entries = journal.entries(1, 10).await.expect("readable");
    assert_eq!(texts(&entries), ["a", "b", "c"]);
    assert_eq!(chain::check(entries), Ok(Verified { records: 3, head: journal.head() }));
    let entries = journal.stream(stream(2)).await.expect("readable");
    assert_eq!(entries.iter().map(|entry| (entry.position, entry.seq)).collect::<Vec<_>>(), [(2, 1), (3, 2)]);
    assert_eq!(journal.stream(stream(3)).await.expect("readable"), []);
    assert_eq!(texts(&journal.entries(2, 1).await.expect("readable")), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn the_proof_carries_the_value_and_its_position() {
    let (journal, _) = on(&Disk::new());
    let records = vec![record("intent"), record("intent")];
    let durable =
        journal.append_durable(stream(1), 0, records, StreamState::Open, "create").await.expect("appended");
    assert_eq!((durable.get(), durable.position(), durable.len()), (&"create", 2, 6));
    assert_eq!(durable.into_inner(), "create");
}

#[tokio::test(start_paused = true)]
async fn wrong_sequence_is_rejected_without_side_effects() {
    let disk = Disk::new();
    let (journal, _) = on(&disk);
    append(&journal, 1, 0, "a").await.expect("appended");
    let before = journal.head();
    let refused = append(&journal, 1, 0, "again").await;
    assert_eq!(refused, Err(AppendError::Sequence { stream: stream(1), expected: 0, actual: 1 }));
    assert_eq!(journal.head(), before);

    let (bad, good) = tokio::join!(append(&journal, 1, 7, "bad"), append(&journal, 1, 1, "good"));
    assert_eq!(bad, Err(AppendError::Sequence { stream: stream(1), expected: 7, actual: 1 }));
    assert_eq!(good.expect("appended").first, 2);
    assert_eq!(texts(&journal.entries(1, 10).await.expect("readable")), ["a", "good"]);
}

#[tokio::test(start_paused = true)]
async fn limits_are_refused_before_anything_is_written() {
    let disk = Disk::new();
    let (journal, _) = on(&disk);
    let syncs = disk.syncs();
    let sized = |bytes: usize| Record { payload: vec![7; bytes], ..record("") };
    let append = |records| journal.append(stream(1), 0, records, StreamState::Open);

    assert_eq!(append(vec![]).await, Err(AppendError::Empty));
    let error = append(vec![sized(MAX_PAYLOAD_BYTES + 1)]).await.expect_err("too large");
    assert_eq!(error.to_string(), "a payload of 65537 bytes, above the limit of 65536");
    let error = append(vec![sized(MAX_PAYLOAD_BYTES); 65]).await.expect_err("too large");
    assert!(matches!(error, AppendError::TooLarge { what: "an append", .. }));
    let error = append(vec![sized(0); 1025]).await;
    assert_eq!(error, Err(AppendError::TooMany { records: 1025 }));
    assert_eq!((journal.head(), disk.syncs()), (Head::genesis(), syncs));

    append(vec![sized(MAX_PAYLOAD_BYTES); 64]).await.expect("the limits themselves are allowed");
}

#[tokio::test(start_paused = true)]
async fn waiting_appends_share_one_sync() {
    let disk = Disk::new();
    let (journal, _) = on(&disk);
    let before = disk.syncs();
    let appends = (0..16).map(|number| append(&journal, number, 0, "x"));
    let appended = join_all(appends).await;
    assert!(appended.iter().all(Result::is_ok));
    assert_eq!(disk.syncs() - before, 1);

    let before = disk.syncs();
    let count = u128::try_from(MAX_BATCH_REQUESTS).expect("small") + 1;
    join_all((0..count).map(|number| append(&journal, 100 + number, 0, "x"))).await;
    assert_eq!(disk.syncs() - before, 2, "a batch has a limit");
    let entries = journal.entries(1, 1000).await.expect("readable");
    assert_eq!(chain::check(entries).map(|verified| verified.records), Ok(16 + 65));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_limited_in_bytes() {
    let disk = Disk::new();
    let (journal, _) = on(&disk);
    let before = disk.syncs();
    let large = || vec![Record { payload: vec![1; MAX_PAYLOAD_BYTES], ..record("") }; 48];
    join_all((0..4).map(|number| journal.append(stream(number), 0, large(), StreamState::Open))).await;
    assert_eq!(disk.syncs() - before, 2);
}

#[tokio::test(start_paused = true)]
async fn one_stream_may_appear_twice_in_a_batch() {
    let (journal, _) = on(&Disk::new());
    let (first, second) = tokio::join!(append(&journal, 1, 0, "a"), append(&journal, 1, 1, "b"));
    assert_eq!((first.expect("appended").first, second.expect("appended").first), (1, 2));
    assert_eq!(texts(&journal.stream(stream(1)).await.expect("readable")), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn failed_sync_stops_writer_for_all_appends() {
    let disk = Disk::new();
    let (journal, _) = on(&disk);
    append(&journal, 1, 0, "kept").await.expect("appended");
    let (head, syncs) = (journal.head(), disk.syncs());
    disk.fail_next_sync("no space left on device");

    let stopped = AppendError::Stopped { reason: "sync: no space left on device".to_owned() };
    let (first, second) = tokio::join!(append(&journal, 1, 1, "lost"), append(&journal, 2, 0, "lost"));
    assert_eq!((first, second), (Err(stopped.clone()), Err(stopped.clone())));
    assert_eq!(append(&journal, 3, 0, "later").await, Err(stopped));
    assert!(matches!(journal.stream(stream(1)).await, Err(JournalError::Stopped { .. })));
    assert_eq!(journal.stopped().await, "sync: no space left on device");
    assert_eq!((journal.head(), disk.syncs()), (head, syncs), "it is never retried");
}

#[tokio::test(start_paused = true)]
async fn crash_loses_only_unacknowledged_records() {
    for surviving in [0, 1] {
        let disk = Disk::new();
        let (journal, _) = on(&disk);
        for seq in 0..5 {
            append(&journal, 1, seq, "acknowledged").await.expect("appended");
        }
        let acknowledged = journal.head();
        disk.fail_next_sync("power");
        append(&journal, 1, 5, "never acknowledged").await.expect_err("the power went");
        disk.crash_keeping(surviving);

        let (journal, opened) = on(&disk);
        let entries = journal.entries(1, 100).await.expect("readable");
        assert_eq!(entries.len(), 5 + surviving);
        assert_eq!(entries[4].head(), acknowledged);
        assert_eq!(chain::check(entries).map(|verified| verified.head), Ok(opened.head));
        append(&journal, 1, 5 + surviving as u64, "after").await.expect("appended");
    }
}

#[test]
fn killed_process_loses_only_unacknowledged_records() {
    let disk = Disk::new();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("built")
    };
    let first = runtime();
    let head = first.block_on(async {
        let (journal, _) = on(&disk);
        let appended = append(&journal, 1, 0, "acknowledged").await.expect("appended");
        tokio::spawn(async move { append(&journal, 1, 1, "not polled again").await });
        appended.last
    });
    drop(first);
    disk.crash();
    let opened = runtime().block_on(async { on(&disk).1 });
    assert_eq!(opened.head, head);
}

#[tokio::test(start_paused = true)]
async fn the_same_appends_give_the_same_bytes() {
    let mut heads = Vec::new();
    for _ in 0..2 {
        let (journal, _) = on(&Disk::new());
        join_all((0..30).map(|number| append(&journal, number % 7, number as u64 / 7, "x"))).await;
        heads.push(journal.head());
    }
    assert_eq!(heads[0].position, 30);
    assert_eq!(heads[0], heads[1]);
}

#[tokio::test(start_paused = true)]
async fn disk_takes_no_paused_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(dir.path()).expect("opened");
    let (journal, _) = Journal::open_task(store).expect("opened");
    let start = Instant::now();
    let deadline = Duration::from_secs(600);
    let appends = (0..50).map(|number| timeout(deadline, append(&journal, number, 0, "x")));
    for appended in join_all(appends).await {
        appended.expect("in time").expect("appended");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// A store whose syncs wait for a signal from the test, and whose writes can be made to fail.
struct Gated {
    inner: MemoryStore,
    gate: mpsc::Receiver<()>,
    write_fault: bool,
}

impl Store for Gated {
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        match self.write_fault {
            true => panic!("a bug in the store"),
            false => self.inner.write(batch),
        }
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        self.gate.recv().map_err(|error| StoreError::failed("sync", error))?;
        self.inner.sync()
    }
    fn truncate(&mut self, truncation: &Truncation) -> Result<(), StoreError> {
        self.inner.truncate(truncation)
    }
    fn meta(&self) -> Result<Option<Meta>, StoreError> {
        self.inner.meta()
    }
    fn records(&self, from: u64) -> RawRecords<'_> {
        self.inner.records(from)
    }
    fn record(&self, position: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.record(position)
    }
    fn stream(&self, stream: Uuid) -> Result<Option<StreamHead>, StoreError> {
        self.inner.stream(stream)
    }
    fn streams(&self) -> Result<Vec<StreamHead>, StoreError> {
        self.inner.streams()
    }
    fn positions(&self, stream: Uuid) -> Result<Vec<u64>, StoreError> {
        self.inner.positions(stream)
    }
}

fn gated(disk: &Disk, write_fault: bool) -> (Journal, mpsc::Sender<()>) {
    let (sign, gate) = mpsc::channel();
    let store = Gated { inner: MemoryStore::open(disk).expect("free"), gate, write_fault };
    let meta = Meta { epoch: 1, ..Meta::new() };
    let opened =
        Opened { epoch: 1, head: meta.head, records: 0, streams: vec![], repairs: vec![], ballast: false };
    let dir = std::path::Path::new("nowhere");
    (start_on_thread(store, meta, opened, dir, None).expect("a thread").0, sign)
}

#[tokio::test]
async fn thread_batches_appends_that_arrive_during_sync() {
    let disk = Disk::new();
    let (journal, sign) = gated(&disk, false);
    let appends = join_all((0..16).map(|number| append(&journal, number, 0, "x")));
    // All sixteen are queued before the first barrier can end.
    let signs = async { (0..16).for_each(|_| sign.send(()).expect("the writer waits")) };
    let (appended, ()) = tokio::join!(biased; appends, signs);
    assert!(appended.iter().all(Result::is_ok));
    assert!(disk.syncs() <= 2, "{} barriers", disk.syncs());
}

#[tokio::test]
async fn a_panic_of_the_thread_stops_the_journal() {
    let (journal, _sign) = gated(&Disk::new(), true);
    let stopped = append(&journal, 1, 0, "x").await.expect_err("the writer panicked");
    assert!(matches!(stopped, AppendError::Stopped { .. }));
    assert_eq!(journal.stopped().await, "its writer panicked");
}

#[tokio::test]
async fn a_failed_sync_ends_the_thread() {
    let (journal, sign) = gated(&Disk::new(), false);
    drop(sign);
    let stopped = append(&journal, 1, 0, "x").await.expect_err("the sync failed");
    assert!(matches!(&stopped, AppendError::Stopped { reason } if reason.starts_with("sync: ")), "{stopped}");
    assert_eq!(append(&journal, 1, 0, "x").await, Err(stopped));
}
