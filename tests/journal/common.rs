//! Shares functions between the tests of this binary.

use std::path::Path;

use futures::future::join_all;
use stillpoint::domain::ids::StreamId;
use stillpoint::journal::{Appended, Entry, Head, Journal, Options, Record, Snapshot, StreamState, Verdict};
use stillpoint::records::journal_options;
use uuid::Uuid;

/// Options without ballast, with small segments. A test that starts a process holds all locks of this process until
/// the new one runs its program: so an open waits for a moment.
pub fn options() -> Options {
    let lock_pause = std::time::Duration::from_millis(5);
    Options { lock_pause, ballast_bytes: 0, segment_bytes: 4096, ..journal_options() }
}

pub fn stream(number: u128) -> StreamId {
    StreamId(Uuid::from_u128(number))
}

pub fn record(bytes: usize) -> Record {
    Record { kind: 1, version: 1, time_ns: 0, payload: vec![7; bytes] }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// Appends one record to each of the new streams `numbers` at the same time. Returns the heads of the
/// successful appends.
pub fn append_all(journal: &Journal, numbers: std::ops::Range<u128>, bytes: usize) -> Vec<Head> {
    let append = |number| journal.append(stream(number), 0, vec![record(bytes)], StreamState::Finished);
    let appended = block_on(join_all(numbers.map(append)));
    appended.into_iter().flatten().map(|Appended { last, .. }| last).collect()
}

pub fn entries(journal: &Journal) -> Vec<Entry> {
    block_on(journal.entries(1, 1_000_000)).expect("readable")
}

/// Opens a journal and checks its chain, including archives. Returns how many of `acknowledged` are
/// missing.
pub fn missing(dir: &Path, acknowledged: &[Head], told: &str) -> usize {
    drop(Journal::open_thread(dir, options()).unwrap_or_else(|error| panic!("{told}: {error:?}")));
    let snapshot = Snapshot::open(dir).unwrap_or_else(|error| panic!("{told}: {error:?}"));
    let verification = snapshot.verify(None);
    assert_eq!(
        (verification.verdict, snapshot.remarks()),
        (Verdict::Intact, &[][..]),
        "{told}: {verification:?}"
    );
    let entries: Vec<Entry> =
        snapshot.entries().collect::<Result<_, _>>().unwrap_or_else(|problem| panic!("{told}: {problem}"));
    let there = |head: &&Head| {
        let index = usize::try_from(head.position - 1).expect("a position");
        entries.get(index).map(Entry::head) == Some(**head)
    };
    acknowledged.iter().filter(|head| !there(head)).count()
}
