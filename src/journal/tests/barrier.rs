//! Tests what a barrier waits for: one sync of the log, and the index only if required.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;

use super::*;

/// Lists the calls that reach the disk.
#[derive(Default)]
struct Calls(Mutex<Vec<Call>>);

impl FaultInjection for Calls {
    fn before(&self, call: Call) -> io::Result<Answer> {
        self.0.lock().expect("not poisoned").push(call);
        Ok(Answer::Go)
    }

    fn after(&self, _: Call) {}
}

impl Calls {
    /// The calls since the last time.
    fn taken(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().expect("not poisoned"))
    }

    fn count(&self, call: Call) -> usize {
        self.0.lock().expect("not poisoned").iter().filter(|made| **made == call).count()
    }
}

fn opened(dir: &Path) -> (Journal, Arc<Calls>) {
    let calls = Arc::new(Calls::default());
    let options = Options { faults: Some(calls.clone()), ..impatient() };
    let (journal, _) = Journal::open_inline(dir, options).expect("opened");
    calls.taken();
    (journal, calls)
}

const LOG: [Call; 3] = [Call::LogWrite, Call::LogSync, Call::SledWrite];
const INDEX: [Call; 2] = [Call::SledFlush, Call::SledSync];

#[tokio::test(start_paused = true)]
async fn barrier_is_one_append_and_one_sync_of_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, calls) = opened(dir.path());
    append(&journal, 1, 0, "x").await.expect("appended");
    assert_eq!(calls.taken(), LOG);
    join_all((2..18).map(|number| append(&journal, number, 0, "x"))).await;
    assert_eq!(calls.taken(), LOG, "sixteen appends share it");
}

#[tokio::test(start_paused = true)]
async fn append_that_cannot_be_taken_back_syncs_index() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, calls) = opened(dir.path());
    let records = || vec![record("x")];
    let both = Barrier::LogAndIndex;
    let append = journal.append_durable_with(both, stream(1), 0, records(), StreamState::Open, ());
    assert!(append.await.is_ok());
    assert_eq!(calls.taken(), [&LOG[..], &INDEX[..]].concat(), "in the barrier, behind the log");
    // It is enough that one of the appends of a batch requires it.
    let firm = journal.append_with(both, stream(2), 0, records(), StreamState::Open);
    let (other, firm) = tokio::join!(super::append(&journal, 3, 0, "x"), firm);
    assert!(other.is_ok() && firm.is_ok());
    assert_eq!(calls.taken(), [&LOG[..], &INDEX[..]].concat());
}

#[tokio::test(start_paused = true)]
async fn index_lags_at_most_256_records() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, calls) = opened(dir.path());
    for seq in 0..MAX_UNSYNCED - 1 {
        append(&journal, 1, seq, "x").await.expect("appended");
    }
    assert_eq!(calls.count(Call::SledSync), 0);
    append(&journal, 1, MAX_UNSYNCED - 1, "x").await.expect("appended");
    assert_eq!(calls.count(Call::SledSync), 1);
    append(&journal, 1, MAX_UNSYNCED, "x").await.expect("appended");
    assert_eq!(calls.count(Call::SledSync), 1, "the count begins again");
    journal.append(stream(2), 0, vec![record("x"); 1000], StreamState::Open).await.expect("appended");
    assert_eq!(calls.count(Call::SledSync), 2, "a batch above the limit is synced before its reply");
}

#[tokio::test(start_paused = true)]
async fn index_lags_at_most_one_second() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, calls) = opened(dir.path());
    append(&journal, 1, 0, "x").await.expect("appended");
    tokio::time::sleep(Duration::from_millis(600)).await;
    append(&journal, 1, 1, "x").await.expect("appended");
    tokio::time::sleep(Duration::from_millis(399)).await;
    assert_eq!(calls.count(Call::SledSync), 0);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(calls.count(Call::SledSync), 1, "one second after the first record, not the last");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(calls.count(Call::SledSync), 1, "there is nothing to sync");
}

/// A queue that is never empty does not delay the sync.
#[tokio::test(start_paused = true)]
async fn index_is_synced_between_steady_appends() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, calls) = opened(dir.path());
    for seq in 0..100 {
        append(&journal, 1, seq, "x").await.expect("appended");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let synced = calls.count(Call::SledSync);
    assert!((8..=10).contains(&synced), "{synced} syncs in ten seconds");
}

#[test]
fn index_is_synced_when_journal_is_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let calls = Arc::new(Calls::default());
    let options = Options { faults: Some(calls.clone()), ..impatient() };
    let (journal, _) = Journal::open_thread(dir.path(), options).expect("opened");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(append(&journal, 1, 0, "x")).expect("appended");
    calls.taken();
    drop(journal);
    assert_eq!(calls.taken(), [&INDEX[..], &[Call::OwnerWrite]].concat());
}
