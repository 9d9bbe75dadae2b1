//! Where a test stands between the journal and its disk.
//!
//! Each call that can change what a loss of power leaves behind passes a [`FaultInjection`]: it may fail the
//! call before it is made, leave it out, and look at the files once it was made. In production there
//! is none. Reads do not pass here.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A call that reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// A segment of evidence is created, synced and named.
    EvidenceCreate,
    /// A frame is written to a segment.
    EvidenceWrite,
    /// A segment is synced.
    EvidenceSync,
    /// sled is opened, and the files that it made are synced.
    SledOpen,
    /// A batch is handed to sled.
    SledWrite,
    /// sled hands what it holds to the kernel.
    SledFlush,
    /// sled's file is synced.
    SledSync,
    /// `owner.json` is replaced.
    OwnerWrite,
    /// The ballast is written.
    BallastWrite,
    /// An archive and its index are given their names, and synced.
    ArchiveWrite,
    /// What is carried forward behind the archives is written, synced and named.
    CarryOverWrite,
    /// Archived segments are removed from the evidence.
    EvidenceRelease,
    /// Files beside the archives that no checkpoint names, or no longer, are removed.
    ArchiveClear,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is made.
    Go,
    /// It is left out, and its caller believes that it was made.
    Skip,
}

/// Looks at every call.
pub trait FaultInjection: Send + Sync {
    /// Before a call is made.
    ///
    /// # Errors
    /// The error that the call then has; it is not made.
    fn before(&self, call: Call) -> io::Result<Answer>;

    /// After it was made without an error.
    fn after(&self, call: Call);
}

/// The probe of a journal; usually there is none.
#[derive(Clone, Default)]
pub(super) struct FaultHook(pub Option<Arc<dyn FaultInjection>>);

impl FaultHook {
    /// Makes a call, unless the probe has it fail or left out.
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
