//! Defines the errors of the journal.

use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

use super::fault::{ChainProblem, Fault};
use super::owner::Owner;
use super::record::MAX_APPEND_RECORDS;
use super::store::{StoreError, is_full};
use super::verification::Verdict;

/// The reason why a journal was not opened or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process holds the journal open.
    #[error("journal {} is held by {}", dir.display(), holder(owner.as_ref()))]
    Held {
        dir: PathBuf,
        /// The holder as in `owner.json`, if the file can be read.
        owner: Option<Owner>,
    },
    /// The store refused to open, or panicked.
    #[error("journal {} cannot be opened", dir.display())]
    Unopenable {
        dir: PathBuf,
        /// The store's error.
        source: StoreError,
    },
    /// A newer Stillpoint wrote the journal.
    #[error(
        "the journal was written by a newer stillpoint (schema {found}); this one reads up to schema {known}"
    )]
    NewerSchema {
        /// Schema of the journal.
        found: u16,
        /// The newest schema that this binary reads.
        known: u16,
    },
    /// The chain is broken, or its tail is torn.
    #[error("the journal is damaged")]
    Damaged {
        /// Whether all records are valid up to an end that is not the head.
        torn: bool,
        /// The first problem.
        source: ChainProblem,
    },
    /// The directory has no journal.
    #[error("there is no journal in {}", dir.display())]
    Missing {
        /// The directory that was searched.
        dir: PathBuf,
    },
    /// The directory had a journal, and neither its log nor its index is there.
    #[error("journal {} has lost its log and its index, which epoch {epoch} wrote to", dir.display())]
    Lost {
        dir: PathBuf,
        /// Epoch in `owner.json`.
        epoch: u64,
    },
    /// The log ends before a record that existed.
    #[error("journal {} ends at record {last}, but {witness} names record {known}", dir.display())]
    Short {
        dir: PathBuf,
        /// The last record of the log; 0 if there is no log.
        last: u64,
        /// The last record that is known to have existed.
        known: u64,
        /// The witness of that record.
        witness: &'static str,
    },
    /// The log ends before an epoch that was claimed.
    #[error("journal {} ends in epoch {found}, but epoch {claimed} had been claimed", dir.display())]
    Behind {
        dir: PathBuf,
        /// The last epoch in the log.
        found: u64,
        /// The last epoch that is known to have been claimed.
        claimed: u64,
    },
    /// The log cannot be rebuilt up to a record that existed.
    #[error("journal {} can be rebuilt up to record {last}, but record {known} existed", dir.display())]
    RebuildShort {
        dir: PathBuf,
        /// The last record that the log and its index have.
        last: u64,
        /// The last record that is known to have existed.
        known: u64,
    },
    /// The journal that was to be replaced is not lost.
    #[error("journal {} is not lost", dir.display())]
    NotLost { dir: PathBuf },
    /// The log that was to be rebuilt is whole.
    #[error("the log of journal {} is not damaged", dir.display())]
    NotDamaged { dir: PathBuf },
    /// Requested records are in an archive that is missing.
    #[error("records {first} to {last} are in an archive that is not here: {}", path.display())]
    ArchiveMissing {
        /// The expected path of the archive.
        path: PathBuf,
        /// First record of the archive.
        first: u64,
        /// Last record of the archive.
        last: u64,
    },
    /// The list of the streams that ended in an archive is lost.
    #[error("the journal does not know which runs ended in its archives from record {first} on ({}): {what}", dir.display())]
    IndexLost {
        /// Directory of the indexes.
        dir: PathBuf,
        /// First record of the archive.
        first: u64,
        /// The reason.
        what: &'static str,
    },
    /// The copies of archived records of unfinished runs, which an earlier release wrote to a file, are lost.
    #[error(
        "records up to {last} of {runs} streams that have not ended are carried over in {} and {what}{}",
        path.display(),
        missing.as_ref().map(|name| format!("; it cannot be rebuilt without archive {name}")).unwrap_or_default()
    )]
    CarryOverLost {
        path: PathBuf,
        /// Number of streams.
        runs: u64,
        /// The last archived record.
        last: u64,
        /// The problem of the file.
        what: &'static str,
        /// The first missing or damaged archive that a rebuild of the file needs.
        missing: Option<String>,
    },
    /// A segment cannot be archived now: a stream that had no work left was opened again meanwhile.
    #[error("stream {stream} was opened again while its records were archived")]
    Reopened { stream: Uuid },
    /// The store failed in use.
    #[error("the journal's store failed")]
    Store(#[from] StoreError),
    /// A file of the journal directory could not be read or written.
    #[error("{what} {}", path.display())]
    Io {
        /// The attempted operation, in verb form.
        what: &'static str,
        /// The file.
        path: PathBuf,
        source: io::Error,
    },
    /// The writer has stopped.
    #[error("the journal has stopped: {reason}")]
    Stopped {
        /// The reason.
        reason: String,
    },
}

fn holder(owner: Option<&Owner>) -> String {
    match owner {
        Some(Owner { pid, host, .. }) => format!("pid {pid} on host {host} (owner.json)"),
        None => "another process, which owner.json does not name".to_owned(),
    }
}

impl JournalError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
        let path = path.to_owned();
        move |source| JournalError::Io { what, path, source }
    }

    /// Whether the disk was full.
    pub(super) fn is_full(&self) -> bool {
        match self {
            JournalError::Io { source, .. } => is_full(source),
            JournalError::Store(source) | JournalError::Unopenable { source, .. } => {
                matches!(source, StoreError::Full { .. })
            }
            _ => false,
        }
    }

    /// The error and its causes, in one line.
    pub fn text(&self) -> String {
        let sources = std::iter::successors(std::error::Error::source(self), |error| error.source());
        sources.fold(self.to_string(), |text, source| format!("{text}: {source}"))
    }

    /// Turns an error about a copy into one about the journal in `dir`.
    pub(super) fn of_original(mut self, copy: &Path, dir: &Path) -> JournalError {
        let moved = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(copy) {
                // `join` with an empty path would add a slash.
                *path = if rest.as_os_str().is_empty() { dir.to_owned() } else { dir.join(rest) };
            }
        };
        match &mut self {
            JournalError::Held { dir: path, .. }
            | JournalError::Unopenable { dir: path, .. }
            | JournalError::Missing { dir: path }
            | JournalError::Lost { dir: path, .. }
            | JournalError::Short { dir: path, .. }
            | JournalError::Behind { dir: path, .. }
            | JournalError::RebuildShort { dir: path, .. }
            | JournalError::NotLost { dir: path }
            | JournalError::NotDamaged { dir: path }
            | JournalError::ArchiveMissing { path, .. }
            | JournalError::IndexLost { dir: path, .. }
            | JournalError::CarryOverLost { path, .. }
            | JournalError::Io { path, .. } => moved(path),
            JournalError::NewerSchema { .. }
            | JournalError::Damaged { .. }
            | JournalError::Store(_)
            | JournalError::Reopened { .. }
            | JournalError::Stopped { .. } => {}
        }
        self
    }

    /// The verdict of `journal verify` for a journal that cannot be read. `None` if the error does not
    /// concern the state of the journal.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            JournalError::Held { .. } => Some(Verdict::Locked),
            JournalError::NewerSchema { .. } => Some(Verdict::NewerSchema),
            JournalError::Lost { .. } | JournalError::Short { .. } | JournalError::Behind { .. } => {
                Some(Verdict::CutTail)
            }
            JournalError::Damaged { source, .. } if matches!(source.what, Fault::EndsEarly { .. }) => {
                Some(Verdict::CutTail)
            }
            JournalError::Damaged { .. }
            | JournalError::Unopenable { .. }
            | JournalError::IndexLost { .. }
            | JournalError::CarryOverLost { .. }
            | JournalError::ArchiveMissing { .. } => Some(Verdict::Corrupt),
            JournalError::NotLost { .. }
            | JournalError::NotDamaged { .. }
            | JournalError::RebuildShort { .. }
            | JournalError::Missing { .. } => None,
            JournalError::Store(_)
            | JournalError::Io { .. }
            | JournalError::Reopened { .. }
            | JournalError::Stopped { .. } => None,
        }
    }

    /// How to fix the error.
    pub fn fix(&self) -> &'static str {
        match self {
            JournalError::Held { .. } => "stop that process, or wait until it has ended",
            JournalError::Unopenable { .. } | JournalError::Lost { .. } => {
                "keep a copy of the directory, and restore the newest copy that `stillpoint journal verify` calls intact"
            }
            JournalError::NewerSchema { .. } => "run the stillpoint that wrote it, or a later one",
            JournalError::Damaged { .. } | JournalError::Short { .. } => {
                "keep a copy of the directory, and run `stillpoint journal rebuild --from-index`, which takes the records that the log cannot read from its index; or restore the newest copy that `stillpoint journal verify` calls intact"
            }
            JournalError::RebuildShort { .. } => {
                "restore the newest copy that `stillpoint journal verify` calls intact; to continue without the records behind the first one that cannot be read, add --accept-loss"
            }
            JournalError::NotDamaged { .. } => "start the daemon: it continues from the log",
            JournalError::Missing { .. } => "check the path given with --journal",
            JournalError::ArchiveMissing { .. } => {
                "put the archive back into the journal's archive directory, or give its place with --archive"
            }
            JournalError::NotLost { .. } => {
                "start the daemon, or rebuild a damaged log with `stillpoint journal rebuild --from-index`: a rebuild from the cluster would know less"
            }
            JournalError::IndexLost { .. } => {
                "put the .ids or .seg files of that directory back from where they were moved or saved: without them a request that has ended could be run again"
            }
            JournalError::CarryOverLost { .. } => {
                "put that file back, or every .seg file of the archives from where they were moved: the next start then rebuilds the file; without either those runs cannot be resumed"
            }
            JournalError::Reopened { .. } => "nothing: it is tried again",
            JournalError::Behind { .. } => {
                "restore the newest copy of the directory; to use this one, run `stillpoint journal rebuild --from-index --accept-loss`, which is recorded"
            }
            JournalError::Store(_) | JournalError::Io { .. } => {
                "check the disk and the permissions of the journal directory"
            }
            JournalError::Stopped { .. } => "fix what the reason names and start the daemon again",
        }
    }
}

/// The reason why records were not appended. Nothing was written, unless it is
/// [`Stopped`](AppendError::Stopped).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The caller's sequence differs from the journal's. This is a bug in Stillpoint.
    #[error("stream {stream} has {actual} records, the caller expected {expected}")]
    Sequence {
        stream: Uuid,
        /// Sequence that the caller expected.
        expected: u64,
        /// Sequence in the journal.
        actual: u64,
    },
    /// The append has no records. This is a bug in Stillpoint.
    #[error("an append without records")]
    Empty,
    /// One payload, or the sum of all payloads, is above the limit.
    #[error("{what} of {bytes} bytes, above the limit of {limit}")]
    TooLarge {
        /// Which of the two.
        what: &'static str,
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The append has more records than the limit.
    #[error("an append of {records} records, above the limit of {MAX_APPEND_RECORDS}")]
    TooMany {
        /// Number of records.
        records: usize,
    },
    /// A note about an archive is out of date: the stream was opened again.
    #[error("stream {stream} was opened again")]
    Reopened { stream: Uuid },
    /// The stream ended in an archive. No record can be added to it.
    #[error("stream {stream} has ended and was archived")]
    Archived { stream: Uuid },
    /// The writer has stopped. Only the next open can find out whether the records are on disk.
    #[error("the journal has stopped: {reason}")]
    Stopped {
        /// The reason.
        reason: String,
    },
}
