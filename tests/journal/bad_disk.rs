//! Fails each call to the disk in turn.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stillpoint::journal::{
    Answer, AppendError, Call, FaultInjection, Head, Journal, Options, Repair, StreamState,
};

use crate::common::{append_all, block_on, missing, options, record, stream};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Fails the n-th call.
struct Failing {
    left: AtomicU64,
    error: i32,
}

impl FaultInjection for Failing {
    fn before(&self, _: Call) -> io::Result<Answer> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            1 => Err(io::Error::from_raw_os_error(self.error)),
            0 => {
                // Far beyond the end of the test.
                self.left.store(u64::MAX / 2, Ordering::Relaxed);
                Ok(Answer::Go)
            }
            _ => Ok(Answer::Go),
        }
    }

    fn after(&self, _: Call) {}
}

/// Writes to a journal whose n-th call fails. Returns the acknowledged records and whether a call failed.
fn written(dir: &Path, n: u64, error: i32) -> (Vec<Head>, bool) {
    let probe = Arc::new(Failing { left: AtomicU64::new(n), error });
    let options = Options { faults: Some(probe), segment_bytes: 700, ..options() };
    let Ok((journal, _)) = Journal::open_thread(dir, options) else { return (vec![], true) };
    let mut heads = Vec::new();
    for round in 0..3 {
        let appended = append_all(&journal, round * 10..round * 10 + 2, 100);
        let failed = appended.len() < 2;
        heads.extend(appended);
        if failed {
            let later = block_on(journal.append(stream(999), 0, vec![record(1)], StreamState::Open));
            assert!(matches!(later, Err(AppendError::Stopped { .. })), "{later:?}");
            return (heads, true);
        }
    }
    (heads, false)
}

#[test]
fn error_at_any_call_stops_writer_without_loss() {
    for error in [EIO, ENOSPC] {
        let mut n = 1;
        loop {
            let dir = tempfile::tempdir().expect("a directory");
            let (heads, failed) = written(dir.path(), n, error);
            assert_eq!(missing(dir.path(), &heads, &format!("error {error} at call {n}")), 0);
            if !failed {
                assert_eq!(heads.len(), 6);
                break;
            }
            n += 1;
        }
        assert!(n > 15, "only {n} calls reach the disk");
    }
}

/// Reports a full disk until the ballast is removed.
struct Full(std::path::PathBuf);

impl FaultInjection for Full {
    fn before(&self, _: Call) -> io::Result<Answer> {
        if self.0.exists() { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(Answer::Go) }
    }

    fn after(&self, _: Call) {}
}

#[test]
fn opens_on_full_disk_by_using_ballast() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = 1 << 20;
    let roomy = || Options { ballast_bytes: bytes, ..options() };
    let ballast = dir.path().join("ballast");
    let (journal, opened) = Journal::open_thread(dir.path(), roomy()).expect("opened");
    let heads = append_all(&journal, 0..5, 100);
    assert!(opened.ballast && ballast.exists());
    drop(journal);

    let full = Options { faults: Some(Arc::new(Full(ballast.clone()))), ..roomy() };
    let (journal, opened) = Journal::open_thread(dir.path(), full).expect("opened all the same");
    assert_eq!(opened.repairs, [Repair::BallastSpent { bytes }]);
    assert!(!opened.ballast && !ballast.exists());
    drop(journal);

    assert_eq!(missing(dir.path(), &heads, "after a full disk"), 0);
    let (_, opened) = Journal::open_thread(dir.path(), roomy()).expect("opened");
    assert!(opened.ballast && ballast.exists(), "there is room again");
}
