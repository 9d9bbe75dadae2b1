//! How a journal directory is opened: patience, identity, sizes, and who may look on.
//!
//! Every value has a default that a daemon uses; tests set others. Not here: what an open does with them
//! ([`super::open`]).

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::ballast;
use super::error::JournalError;
use super::fault_injection::FaultInjection;
use super::log::SEGMENT_BYTES;
use super::record::{Links, no_links};

/// How a journal directory is opened.
#[derive(Clone)]
pub struct Options {
    /// How often the lock is tried while another process holds it.
    pub lock_attempts: u32,
    /// Pause between two tries.
    pub lock_pause: Duration,
    /// Receives once that another process holds the lock, when the open begins to wait for it.
    pub on_held: Arc<dyn Fn(&JournalError) + Send + Sync>,
    /// How to pause.
    pub sleep: Arc<dyn Fn(Duration) + Send + Sync>,
    /// Name of this host, for `owner.json`.
    pub host: String,
    /// Id of this process, for `owner.json`.
    pub pid: u32,
    /// The time in nanoseconds since the Unix epoch, for the record of a repair.
    pub now: fn() -> i64,
    /// Room to put aside for a full disk, in bytes; 0 for none.
    pub ballast_bytes: u64,
    /// Size from which on a segment of evidence gets a successor, in bytes.
    pub segment_bytes: u64,
    /// An epoch that was claimed elsewhere: the one that is claimed is above it.
    pub after_epoch: u64,
    /// Streams that a record refers to.
    pub links: Links,
    /// Who looks at every call that reaches the disk: tests.
    pub faults: Option<Arc<dyn FaultInjection>>,
}

impl Default for Options {
    /// Ten seconds of patience, which is more than a killed process needs to be gone.
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
            faults: None,
        }
    }
}

/// Before 1970 and after 2262 it is a number all the same: nothing depends on it.
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
