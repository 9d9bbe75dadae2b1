//! Tests the stop of the writer: every request gets a reply, including a request that is sent at that
//! moment.

use std::path::Path;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::super::open::start_on_thread;
use super::super::worker;
use super::super::writer::{Append, Request, Shared, Writer};
use super::*;

type Reply = oneshot::Receiver<Result<Appended, AppendError>>;

fn request(number: u128) -> (Request, Reply) {
    let (reply, answer) = oneshot::channel();
    let (stream, records, state) = (stream(number), vec![record("x")], StreamState::Open);
    (
        Request::Append(Append { stream, expected_seq: 0, records, state, barrier: Barrier::Log, reply }),
        answer,
    )
}

/// A writer that stops with its first batch.
fn ending() -> (Writer<MemoryStore>, std::sync::Arc<Shared>) {
    let disk = Disk::new();
    let store = MemoryStore::open(&disk).expect("free");
    disk.fail_next_sync("no space left on device");
    let shared = Shared::new(Head::genesis(), None);
    (Writer::new(store, Meta::new(), shared.clone()), shared)
}

/// Reserves a place, stops the writer, and only then sends. Returns the reply.
async fn sent_behind_the_end(requests: &mpsc::Sender<Request>) -> Reply {
    let place = requests.reserve().await.expect("the writer lives");
    let (first, ended) = request(1);
    requests.send(first).await.expect("the writer lives");
    assert!(ended.await.is_err(), "the sync fails");
    requests.closed().await;
    // The receiver is dropped by then.
    for _ in 0..1000 {
        std::thread::yield_now();
        tokio::task::yield_now().await;
    }
    let (late, answer) = request(2);
    place.send(late);
    answer
}

#[tokio::test]
async fn task_answers_append_sent_after_end() {
    let (requests, receiver) = mpsc::channel(2);
    let (writer, shared) = ending();
    let host = tokio::spawn(worker::task(writer, shared, receiver));
    let mut answer = sent_behind_the_end(&requests).await;
    host.await.expect("the task ends");
    assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
}

#[tokio::test]
async fn thread_answers_append_sent_after_end() {
    let (requests, receiver) = mpsc::channel(2);
    let (writer, shared) = ending();
    let host = worker::thread(writer, shared, receiver).expect("a thread");
    let mut answer = sent_behind_the_end(&requests).await;
    host.join().expect("the thread ends");
    assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
}

/// Number of callers that append at the same time. It is enough to fill a queue on few cores.
const CALLERS: u128 = 6;

/// Stops a writer while the callers append. Returns the number of callers without a reply within `guard`.
fn unanswered(guard: Duration) -> u128 {
    let disk = Disk::new();
    let (store, meta) = (MemoryStore::open(&disk).expect("free"), Meta { epoch: 1, ..Meta::new() });
    let opened =
        Opened { epoch: 1, head: meta.head, records: 0, streams: vec![], repairs: vec![], ballast: false };
    let (journal, _) = start_on_thread(store, meta, opened, Path::new("nowhere"), None).expect("a thread");
    let (ended, answers) = std_mpsc::channel();
    for caller in 0..CALLERS {
        let (journal, ended) = (journal.clone(), ended.clone());
        std::thread::spawn(move || {
            let until_stopped = async {
                let mut seq = 0;
                while append(&journal, caller, seq, "x").await.is_ok() {
                    seq += 1;
                }
            };
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(until_stopped);
            // If the receiver is gone, the test has given up.
            let _ = ended.send(());
        });
    }
    while journal.head().position < 4 {
        std::thread::yield_now();
    }
    disk.fail_next_sync("no space left on device");
    // A caller without a reply holds the journal, so it cannot be dropped.
    let answered = (0..CALLERS).take_while(|_| answers.recv_timeout(guard).is_ok()).count() as u128;
    CALLERS - answered
}

/// `STILLPOINT_STOPS` sets the number of repetitions, `STILLPOINT_STOPS_GUARD_MS` the wait for a caller in
/// milliseconds.
#[test]
fn all_appends_during_shutdown_are_answered() {
    let number = |name, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let repetitions: u64 = number("STILLPOINT_STOPS", 100);
    let guard = Duration::from_millis(number("STILLPOINT_STOPS_GUARD_MS", 120_000));
    let hangs: u128 = (0..repetitions).map(|_| unanswered(guard)).sum();
    println!("{repetitions} repetitions with {CALLERS} callers each: {hangs} appends waited for ever");
    assert_eq!(hangs, 0);
}
