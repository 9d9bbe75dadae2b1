//! Configures how a journal directory is opened: wait times, identity, sizes, callbacks.
//!
//! Every value has a default for a daemon. Tests set other values. Not here: how an open uses them
//! ([`super::open`]).

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::ballast;
use super::error::JournalError;
use super::fault_injection::FaultInjection;
use super::log::SEGMENT_BYTES;
use super::record::{Keeps, Links, keeps_all, no_links};

/// Options of an open.
#[derive(Clone)]
pub struct Options {
    /// Number of attempts to lock while another process holds the lock.
    pub lock_attempts: u32,
    /// Pause between two attempts.
    pub lock_pause: Duration,
    /// Receives one error when the open begins to wait for a lock that another process holds.
    pub on_held: Arc<dyn Fn(&JournalError) + Send + Sync>,
    /// The function that pauses.
    pub sleep: Arc<dyn Fn(Duration) + Send + Sync>,
    /// Name of this host, for `owner.json`.
    pub host: String,
    /// Id of this process, for `owner.json`.
    pub pid: u32,
    /// Returns the time in nanoseconds since the Unix epoch, for the record of a repair.
    pub now: fn() -> i64,
    /// Size of the ballast in bytes; 0 for none.
    pub ballast_bytes: u64,
    /// Size from which on a log segment gets a successor, in bytes.
    pub segment_bytes: u64,
    /// An epoch that was claimed elsewhere. The open claims a higher one.
    pub after_epoch: u64,
    /// Returns the streams that a record refers to.
    pub links: Links,
    /// Says which records of a holding stream stay in the live journal.
    pub keeps: Keeps,
    /// Where archives are written, if not in the journal directory. It may be another volume.
    pub archive_dir: Option<PathBuf>,
    /// Intercepts every call that reaches the disk, in tests.
    pub faults: Option<Arc<dyn FaultInjection>>,
}

impl Default for Options {
    /// Waits for the lock for ten seconds, which is longer than a killed process takes to exit.
    fn default() -> Options {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Options {
            lock_attempts: 100,
            lock_pause: Duration::from_millis(100),
            on_held: Arc::new(|_| ()),
            sleep: Arc::new(std::thread::sleep),
            host: host.trim().to_owned(),
            pid: std::process::id(),
            now: wall_clock,
            ballast_bytes: ballast::BALLAST_BYTES,
            segment_bytes: SEGMENT_BYTES,
            after_epoch: 0,
            links: no_links,
            keeps: keeps_all,
            archive_dir: None,
            faults: None,
        }
    }
}

/// A time before 1970 or after 2262 also gives a number. No logic depends on it.
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl Options {
    /// How long an open waits for the lock.
    pub fn patience(&self) -> Duration {
        self.lock_pause * self.lock_attempts
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { lock_attempts, lock_pause, host, pid, .. } = self;
        write!(f, "Options {{ {lock_attempts} x {lock_pause:?}, pid {pid} on {host} }}")
    }
}
