//! What can go wrong between a caller and its journal.

use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

use super::chain::{ChainProblem, Fault};
use super::owner::Owner;
use super::store::{StoreError, is_full};
use super::verification::Verdict;
use super::writer::MAX_APPEND_RECORDS;

/// Why a journal was not opened, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it open.
    #[error("journal {} is held by {}", dir.display(), holder(owner.as_ref()))]
    Held {
        /// The journal directory.
        dir: PathBuf,
        /// What `owner.json` says about the holder, if it can be read.
        owner: Option<Owner>,
    },
    /// The store refused to open, or panicked.
    #[error("journal {} cannot be opened", dir.display())]
    Unopenable {
        /// The journal directory.
        dir: PathBuf,
        /// What the store said.
        source: StoreError,
    },
    /// A newer Stillpoint wrote it.
    #[error(
        "the journal was written by a newer stillpoint (schema {found}); this one reads up to schema {known}"
    )]
    NewerSchema {
        /// Its schema.
        found: u16,
        /// The newest that this binary reads.
        known: u16,
    },
    /// The chain is broken, or its tail is torn.
    #[error("the journal is damaged")]
    Damaged {
        /// Whether everything is right up to an end that is not the head's.
        torn: bool,
        /// The first problem.
        source: ChainProblem,
    },
    /// The database and the evidence are both damaged, and neither has all records.
    #[error("the journal's database cannot be used ({database}), and its evidence does not make up for it")]
    BothDamaged {
        /// What is wrong with the database.
        database: String,
        /// What is wrong with the evidence.
        source: ChainProblem,
    },
    /// There is no journal.
    #[error("there is no journal in {}", dir.display())]
    Missing {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// There was a journal, and its database is gone.
    #[error("journal {} has lost its database, which epoch {epoch} wrote to", dir.display())]
    Lost {
        /// The journal directory.
        dir: PathBuf,
        /// The epoch in `owner.json`.
        epoch: u64,
    },
    /// The database is older than what the last owner wrote.
    #[error("journal {} ends in epoch {found}, but epoch {owner} had been claimed", dir.display())]
    Behind {
        /// The journal directory.
        dir: PathBuf,
        /// The epoch in the database.
        found: u64,
        /// The epoch in `owner.json`.
        owner: u64,
    },
    /// There is a journal, which a new one was to take the place of.
    #[error("journal {} is not lost", dir.display())]
    NotLost {
        /// The journal directory.
        dir: PathBuf,
    },
    /// Records were asked for that are in an archive which is not there.
    #[error("records {first} to {last} are in an archive that is not here: {}", path.display())]
    ArchiveMissing {
        /// Where it was looked for.
        path: PathBuf,
        /// Its first record.
        first: u64,
        /// Its last record.
        last: u64,
    },
    /// It is not known which streams ended in the archives.
    #[error("the journal does not know which runs ended in its archives from record {first} on ({}): {what}", dir.display())]
    IndexLost {
        /// Where the indexes are.
        dir: PathBuf,
        /// The first record of the archive.
        first: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The records of runs that have not ended were archived, and the copy from which they are resumed is lost.
    #[error(
        "records up to {last} of {runs} streams that have not ended are carried forward in {} and {what}{}",
        path.display(),
        missing.as_ref().map(|name| format!("; it cannot be made anew without archive {name}")).unwrap_or_default()
    )]
    CarryOverLost {
        /// The file.
        path: PathBuf,
        /// How many streams.
        runs: u64,
        /// The last archived record.
        last: u64,
        /// What is wrong with the file.
        what: &'static str,
        /// The first archive that is missing or damaged and would be needed to make it anew.
        missing: Option<String>,
    },
    /// The store failed while it was used.
    #[error("the journal's store failed")]
    Store(#[from] StoreError),
    /// A file of the journal directory could not be read or written.
    #[error("{what} {}", path.display())]
    Io {
        /// What was attempted, in verb form.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The writer has ended.
    #[error("the journal has stopped: {reason}")]
    Stopped {
        /// Why.
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

    /// Whether there was no room.
    pub(super) fn is_full(&self) -> bool {
        match self {
            JournalError::Io { source, .. } => is_full(source),
            JournalError::Store(source) | JournalError::Unopenable { source, .. } => {
                matches!(source, StoreError::Full { .. })
            }
            _ => false,
        }
    }

    /// The error and what caused it, in one line.
    pub fn text(&self) -> String {
        let sources = std::iter::successors(std::error::Error::source(self), |error| error.source());
        sources.fold(self.to_string(), |text, source| format!("{text}: {source}"))
    }

    /// An error about a copy, as one about the journal in `dir`.
    pub(super) fn of_original(mut self, copy: &Path, dir: &Path) -> JournalError {
        let moved = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(copy) {
                // An empty rest would add a slash.
                *path = if rest.as_os_str().is_empty() { dir.to_owned() } else { dir.join(rest) };
            }
        };
        match &mut self {
            JournalError::Held { dir: path, .. }
            | JournalError::Unopenable { dir: path, .. }
            | JournalError::Missing { dir: path }
            | JournalError::Lost { dir: path, .. }
            | JournalError::Behind { dir: path, .. }
            | JournalError::NotLost { dir: path }
            | JournalError::ArchiveMissing { path, .. }
            | JournalError::IndexLost { dir: path, .. }
            | JournalError::CarryOverLost { path, .. }
            | JournalError::Io { path, .. } => moved(path),
            JournalError::BothDamaged { database, .. } => {
                *database = database.replace(&copy.display().to_string(), &dir.display().to_string());
            }
            JournalError::NewerSchema { .. }
            | JournalError::Damaged { .. }
            | JournalError::Store(_)
            | JournalError::Stopped { .. } => {}
        }
        self
    }

    /// What `journal verify` answers when the journal cannot even be read; none if that says nothing
    /// about the journal.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            JournalError::Held { .. } => Some(Verdict::Locked),
            JournalError::NewerSchema { .. } => Some(Verdict::NewerSchema),
            JournalError::Behind { .. } => Some(Verdict::CutTail),
            JournalError::Damaged { source, .. } if matches!(source.what, Fault::EndsEarly { .. }) => {
                Some(Verdict::CutTail)
            }
            JournalError::Damaged { .. }
            | JournalError::BothDamaged { .. }
            | JournalError::Unopenable { .. }
            | JournalError::IndexLost { .. }
            | JournalError::CarryOverLost { .. }
            | JournalError::ArchiveMissing { .. }
            | JournalError::Lost { .. } => Some(Verdict::Corrupt),
            JournalError::NotLost { .. } | JournalError::Missing { .. } => None,
            JournalError::Store(_) | JournalError::Io { .. } | JournalError::Stopped { .. } => None,
        }
    }

    /// What a person can do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            JournalError::Held { .. } => "stop that process, or wait until it has ended",
            JournalError::Unopenable { .. } | JournalError::Lost { .. } => {
                "keep a copy of the directory, and restore the newest one that `stillpoint journal verify` calls intact"
            }
            JournalError::NewerSchema { .. } => "run the stillpoint that wrote it, or a later one",
            JournalError::Damaged { .. } | JournalError::BothDamaged { .. } => {
                "keep a copy of the directory, look at it with `stillpoint journal verify`, and restore the newest copy that it calls intact"
            }
            JournalError::Missing { .. } => "check the path given with --journal",
            JournalError::ArchiveMissing { .. } => {
                "put the archive back into the journal's archive directory, or give its place with --archive"
            }
            JournalError::NotLost { .. } => {
                "start the daemon: it goes on from its records; a rebuild from the cluster would know less"
            }
            JournalError::IndexLost { .. } => {
                "put the .ids or .seg files of that directory back from where they were moved or saved: without them a request that has ended could be run again"
            }
            JournalError::CarryOverLost { .. } => {
                "put that file back, or every .seg file of the archives from where they were moved: the file is then made anew; without either those runs cannot be resumed"
            }
            JournalError::Behind { .. } => {
                "restore the newest copy of the directory; to use this one, remove its owner.json"
            }
            JournalError::Store(_) | JournalError::Io { .. } => {
                "check the disk and the rights of the journal directory"
            }
            JournalError::Stopped { .. } => "mend what the reason names and start the daemon again",
        }
    }
}

/// Why records were not appended. Unless it says [`Stopped`](AppendError::Stopped), nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The caller's idea of the stream is not the journal's: a bug of ours.
    #[error("stream {stream} has {actual} records, the caller expected {expected}")]
    Sequence {
        /// The stream.
        stream: Uuid,
        /// What the caller expected.
        expected: u64,
        /// What the journal holds.
        actual: u64,
    },
    /// No records at all: a bug of ours.
    #[error("an append without records")]
    Empty,
    /// One payload, or all of them together, are above the limit.
    #[error("{what} of {bytes} bytes, above the limit of {limit}")]
    TooLarge {
        /// Which of the two.
        what: &'static str,
        /// How many bytes there are.
        bytes: usize,
        /// How many may be.
        limit: usize,
    },
    /// More records than one append may have.
    #[error("an append of {records} records, above the limit of {MAX_APPEND_RECORDS}")]
    TooMany {
        /// How many there are.
        records: usize,
    },
    /// The stream ended in an archive: nothing is ever added to it.
    #[error("stream {stream} has ended and was archived")]
    Archived {
        /// The stream.
        stream: Uuid,
    },
    /// The writer has ended. Whether the records are on disk is known only after the next open.
    #[error("the journal has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}
