//! Lets a test intercept the calls from the journal to its disk.
//!
//! Each call that affects the state after a loss of power passes a [`FaultInjection`]. It can fail the
//! call, skip it, and inspect the files afterwards. In production there is none. Reads do not pass it.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A call that reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Create, sync and name a log segment.
    LogCreate,
    /// Write the last segment again, truncate its torn bytes, and sync it.
    LogSettle,
    /// Rename a part of the journal while a rebuilt log replaces the damaged one.
    LogReplace,
    /// Write a frame to a segment.
    LogWrite,
    /// Sync a segment.
    LogSync,
    /// Open sled, and sync the files that it created.
    SledOpen,
    /// Write a batch to sled.
    SledWrite,
    /// Flush sled's buffers to the kernel.
    SledFlush,
    /// Sync sled's file.
    SledSync,
    /// Replace `owner.json`.
    OwnerWrite,
    /// Write the ballast.
    BallastWrite,
    /// Look for free room on the disk.
    RoomLook,
    /// Name and sync an archive and its index.
    ArchiveWrite,
    /// Remove archived segments from the log.
    LogRelease,
    /// Remove files in the archive directory that no checkpoint names, or no longer names.
    ArchiveClear,
}

/// The decision about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Make the call.
    Go,
    /// Skip the call. The caller gets success.
    Skip,
}

/// Intercepts every call.
pub trait FaultInjection: Send + Sync {
    /// Runs before a call.
    ///
    /// # Errors
    /// The call is skipped and fails with this error.
    fn before(&self, call: Call) -> io::Result<Answer>;

    /// Runs after a successful call.
    fn after(&self, call: Call);
}

/// The fault injection of a journal. In production there is none.
#[derive(Clone, Default)]
pub(super) struct FaultHook(pub Option<Arc<dyn FaultInjection>>);

impl FaultHook {
    /// Makes a call, unless the fault injection fails or skips it.
    pub fn run<E>(
        &self,
        call: Call,
        failed: impl FnOnce(io::Error) -> E,
        make: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(faults) = &self.0 else { return make() };
        if faults.before(call).map_err(failed)? == Answer::Go {
            make()?;
            faults.after(call);
        }
        Ok(())
    }
}

impl fmt::Debug for FaultHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "faults" } else { "not faults" })
    }
}
