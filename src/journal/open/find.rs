//! Inspects a journal directory: the lock, the last owner, the database, the log.
//!
//! This module changes only three things. It removes half-made files of a crash, it creates the empty log
//! with which a new journal begins, and it removes the ballast if there is no room. The result is compared
//! with the last owner ([`Found::not_behind`]) and the two halves with each other ([`Found::row`]). Not
//! here: the decision ([`crate::reconcile`]) and its execution ([`super::opening`]).

use std::path::{Path, PathBuf};

use super::Opened;
use super::recover::recover;
use crate::archive::Prefix;
use crate::ballast;
use crate::chain::open_at;
use crate::envelope::SCHEMA;
use crate::error::JournalError;
use crate::fault_injection::FaultHook;
use crate::lock::Lock;
use crate::log::{self, LogSummary, LogWriter};
use crate::options::Options;
use crate::owner::Owner;
use crate::reconcile::{Common, Database, Row, decide};
use crate::record::Head;
use crate::repair;
use crate::repair_half;
use crate::sled_store::SledStore;
use crate::store::{Meta, Store, StoreError, StreamHead};

/// Path of the database in a journal directory.
pub(crate) fn database(dir: &Path) -> PathBuf {
    dir.join("sled")
}

/// Path of the log in a journal directory.
pub(crate) fn evidence_dir(dir: &Path) -> PathBuf {
    dir.join("evidence")
}

/// Name of the directory of a log that is being written.
pub(crate) const DRAFT: &str = "evidence.new";

/// A journal as found, with its lock held.
pub(crate) struct Found {
    pub lock: Lock,
    owner: Option<Owner>,
    pub database: FoundDatabase,
    pub evidence: FoundLog,
    /// Size of the ballast in bytes, if it was removed because there was no other room to work.
    pub spent: Option<u64>,
}

/// The database as found.
pub(crate) enum FoundDatabase {
    None,
    Whole(Box<(SledStore, Meta, Opened)>),
    /// With its head, if it can be read.
    Broken(JournalError, Option<Head>),
}

/// The log as found.
#[derive(Default)]
pub(crate) struct FoundLog {
    pub summary: Option<LogSummary>,
    /// The stream of the repair records.
    pub repairs: Option<StreamHead>,
    /// Hash in the log at the position of the database's head.
    pub at_head: Option<[u8; 32]>,
}

/// Tries to lock until the lock is free, as often as the options say.
pub(crate) fn wait_for_lock(
    dir: &Path,
    options: &Options,
    faults: &FaultHook,
) -> Result<Found, JournalError> {
    for attempt in 1..options.lock_attempts.max(1) {
        match find(dir, options, faults) {
            Err(held @ JournalError::Held { .. }) => {
                if attempt == 1 {
                    (options.on_held)(&held);
                }
                (options.sleep)(options.lock_pause);
            }
            other => return other,
        }
    }
    find(dir, options, faults)
}

fn find(dir: &Path, options: &Options, faults: &FaultHook) -> Result<Found, JournalError> {
    let lock = Lock::exclusive(dir)?;
    // Read under the lock: before, its holder may still have written the file.
    let owner = Owner::read(dir)?;
    repair_half::clear(&dir.join(DRAFT))?;
    let path = evidence_dir(dir);
    let has_database = SledStore::lock_file(&database(dir)).exists();
    if !has_database && !path.exists() {
        if let Some(Owner { epoch, .. }) = owner {
            return Err(JournalError::Lost { dir: dir.to_owned(), epoch });
        }
        // This is a new journal. A log without records marks it as new if the first open of sled is
        // interrupted.
        let begun = LogWriter::begin(&path, Head::genesis(), options.segment_bytes, faults.clone());
        begun.map_err(JournalError::io("begin evidence in", &path))?;
    }
    let database = if has_database { look(dir, faults)? } else { FoundDatabase::None };
    let head = match &database {
        FoundDatabase::None => None,
        FoundDatabase::Whole(whole) => Some(whole.1.head),
        FoundDatabase::Broken(_, head) => *head,
    };
    let mut evidence = summary(&path, head)?;
    if let (Some(summary), Some(head)) = (&evidence.summary, head)
        && summary.start.position > head.position
    {
        evidence.at_head = archived_hash(dir, summary.start, head.position)?;
    }
    let spent =
        ballast::spend_without_room(dir, faults).map_err(JournalError::io("look for room in", dir))?;
    Ok(Found { lock, owner, database, evidence, spent })
}

fn look(dir: &Path, faults: &FaultHook) -> Result<FoundDatabase, JournalError> {
    let store = match named(dir, SledStore::open_probed(&database(dir), faults.clone())) {
        Ok(store) => store,
        Err(error @ JournalError::Unopenable { source: StoreError::Broken { .. }, .. }) => {
            return Ok(FoundDatabase::Broken(error, None));
        }
        Err(error) => return Err(error),
    };
    match recover(&store) {
        Ok((meta, opened)) => Ok(FoundDatabase::Whole(Box::new((store, meta, opened)))),
        Err(error @ JournalError::NewerSchema { .. }) => Err(error),
        Err(error) => Ok(FoundDatabase::Broken(error, store.meta().ok().flatten().map(|meta| meta.head))),
    }
}

/// Reads the whole log. `head` is the head of the database.
pub(crate) fn summary(path: &Path, head: Option<Head>) -> Result<FoundLog, JournalError> {
    let mut found = FoundLog::default();
    let told = repair::stream();
    found.summary = log::read(path, &mut |admitted| {
        for (state, entry, _) in &admitted.records {
            let position = entry.position;
            if head.is_some_and(|head| head.position == position) {
                found.at_head = Some(entry.hash);
            }
            if entry.stream == told {
                let first_position = found.repairs.map_or(position, |head| head.first_position);
                let (state, last_seq) = (*state, entry.seq);
                found.repairs = Some(StreamHead {
                    stream: told,
                    state,
                    last_seq,
                    first_position,
                    last_position: position,
                });
            }
        }
        Ok(())
    })?;
    if let (Some(summary), Some(head)) = (&found.summary, head)
        && summary.start.position == head.position
    {
        found.at_head = Some(summary.start.hash);
    }
    Ok(found)
}

/// The hash of a record in the archives before `start`.
fn archived_hash(dir: &Path, start: Head, position: u64) -> Result<Option<[u8; 32]>, JournalError> {
    let archives = Prefix::find(dir, None, start)?;
    if archives.start().position == position {
        return Ok(Some(archives.start().hash));
    }
    let mut entries = archives.entries().filter_map(Result::ok);
    Ok(entries.find(|entry| entry.position == position).map(|entry| entry.hash))
}

impl Found {
    /// The last epoch in either half.
    pub fn epoch(&self) -> u64 {
        let database = match &self.database {
            FoundDatabase::Whole(whole) => whole.1.epoch,
            FoundDatabase::None | FoundDatabase::Broken(..) => 0,
        };
        database.max(self.evidence.summary.as_ref().map_or(0, |summary| summary.epoch))
    }

    /// The [`Meta`] of the half that reaches further.
    pub fn meta(&self) -> Meta {
        let (schema, head) = match &self.database {
            FoundDatabase::Whole(whole) => (whole.1.schema, Some(whole.1.head)),
            FoundDatabase::None | FoundDatabase::Broken(..) => (SCHEMA, None),
        };
        let heads = head.into_iter().chain(self.evidence.summary.as_ref().map(|summary| summary.head));
        let head = heads.max_by_key(|head| head.position).unwrap_or(Head::genesis());
        Meta { schema, epoch: self.epoch(), head, ..Meta::new() }
    }

    /// Checks that the journal reaches the epoch of its last owner. Skips the check if the journal is
    /// refused for a more specific reason.
    pub fn not_behind(&self, dir: &Path) -> Result<(), JournalError> {
        let undamaged = self.evidence.summary.as_ref().is_none_or(|summary| summary.damage.is_none());
        let broken = matches!(self.database, FoundDatabase::Broken(..));
        match &self.owner {
            Some(Owner { epoch, .. }) if *epoch > self.epoch() && undamaged => {
                if broken && self.evidence.summary.is_none() {
                    return Ok(());
                }
                Err(JournalError::Behind { dir: dir.to_owned(), found: self.epoch(), owner: *epoch })
            }
            _ => Ok(()),
        }
    }

    fn common(&self) -> Result<Common, JournalError> {
        let in_database = match (&self.database, &self.evidence.summary) {
            (FoundDatabase::Whole(whole), Some(summary)) => {
                hash_at(&whole.0, whole.1.cut, summary.head.position)?
            }
            _ => None,
        };
        Ok(Common { in_evidence: self.evidence.at_head, in_database })
    }

    /// The row of the reconcile table for this journal.
    pub fn row(&self) -> Result<Row, JournalError> {
        let database = match &self.database {
            FoundDatabase::None => Database::None,
            FoundDatabase::Whole(whole) => Database::Whole(whole.1.head),
            FoundDatabase::Broken(_, head) => Database::Broken(*head),
        };
        Ok(decide(database, self.evidence.summary.as_ref(), self.common()?))
    }
}

fn hash_at(store: &dyn Store, cut: Head, position: u64) -> Result<Option<[u8; 32]>, JournalError> {
    if position == cut.position {
        return Ok(Some(cut.hash));
    }
    let bytes = store.record(position)?;
    Ok(bytes.and_then(|bytes| open_at(position, &bytes).ok()).map(|entry| entry.hash))
}

/// The message about the database if neither half can repair the other.
pub(crate) fn said(database: &FoundDatabase) -> String {
    match database {
        FoundDatabase::None => "it is missing".to_owned(),
        FoundDatabase::Whole(whole) => format!("it ends at record {}", whole.1.head.position),
        FoundDatabase::Broken(error, _) => error.text(),
    }
}

/// Adds the directory and the holder to an error of the database.
pub(crate) fn named(dir: &Path, opened: Result<SledStore, StoreError>) -> Result<SledStore, JournalError> {
    let dir = dir.to_owned();
    opened.map_err(|error| match error {
        StoreError::Held => JournalError::Held { owner: Owner::read(&dir).ok().flatten(), dir },
        source => JournalError::Unopenable { dir, source },
    })
}
