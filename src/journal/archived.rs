//! Loads the archives during an open and completes an interrupted archiving.
//!
//! A checkpoint on disk implies that the archive and the index are on disk. The removal of the records from
//! the log and from the database may still be incomplete. Each is done only after the archive was read and
//! holds all the records.

use std::path::Path;

use super::archive::{self, Catalog, Checkpoint, Prior};
use super::chain::{ChainProblem, Fault};
use super::error::JournalError;
use super::fault_injection::FaultHook;
use super::open::Opened;
use super::record::{Head, Links};
use super::repair::Repair;
use super::store::{Meta, Store};
use super::twin::TwinStore;
use crate::open::find::{FoundDatabase, FoundLog};

/// Number of records that leave the database in one step.
pub(super) const TRIM_RECORDS: usize = 512;

/// The newest checkpoint in either half.
pub(super) fn newest(
    database: &FoundDatabase,
    evidence: &FoundLog,
) -> Result<Option<Checkpoint>, JournalError> {
    let in_database = match database {
        FoundDatabase::Whole(whole) => archive::newest(&whole.0)?,
        FoundDatabase::None | FoundDatabase::Broken(..) => None,
    };
    let in_evidence = evidence.summary.as_ref().and_then(|summary| summary.checkpoint);
    Ok(in_database.into_iter().chain(in_evidence).max_by_key(|checkpoint| checkpoint.last.position))
}

/// Reads the indexes and the carry-over. Also returns the files that were rebuilt.
pub(super) fn load(
    dir: &Path,
    evidence: &FoundLog,
    newest: Option<&Checkpoint>,
    faults: &FaultHook,
    links: Links,
) -> Result<(Catalog, Vec<Repair>), JournalError> {
    if let (Some(newest), Some(summary)) = (newest, &evidence.summary)
        && summary.damage.is_none()
        && summary.start.position < newest.last.position
    {
        // The segments are still in the log. So every lost archive file is written again.
        archive::seal(dir, summary.start, newest.last.position, &mut Prior::none(links), faults)?;
    }
    Catalog::load(dir, newest, links)
}

/// Checks a database against the carry-over. A database whose index of streams lacks a run of the
/// carry-over is broken. Returns the reason.
pub(super) fn lacks(
    store: &dyn Store,
    meta: &Meta,
    newest: Option<&Checkpoint>,
    catalog: &Catalog,
) -> Result<Option<JournalError>, JournalError> {
    // A database that ends before the checkpoint does not contain that carry-over yet.
    if newest.is_none_or(|newest| meta.head.position < newest.last.position) {
        return Ok(None);
    }
    for stream in catalog.kept().open() {
        if store.stream(stream)?.is_none() {
            let what = Fault::StreamIndex { stream };
            let source = ChainProblem { position: meta.cut.position, what };
            return Ok(Some(JournalError::Damaged { torn: false, source }));
        }
    }
    Ok(None)
}

/// Puts the archived records of unfinished runs before those that the database still has.
///
/// # Errors
/// The records do not fill the gap.
pub(super) fn complete(opened: &mut Opened, catalog: &Catalog) -> Result<(), JournalError> {
    for (stream, entries) in &mut opened.streams {
        let begins = entries.first().map_or(u64::MAX, |first| first.seq);
        if begins > 1 {
            let live = std::mem::replace(entries, catalog.entries(*stream, begins)?);
            entries.extend(live);
        }
        let follows = entries.iter().zip(1..).all(|(entry, seq)| entry.seq == seq);
        if entries.is_empty() || !follows {
            let (position, what) =
                (entries.first().map_or(0, |first| first.position), Fault::StreamIndex { stream: *stream });
            let source = ChainProblem { position, what };
            return Err(JournalError::Damaged { torn: false, source });
        }
    }
    Ok(())
}

/// Reads the archives and removes their records from a database.
pub(super) fn trim_archived(
    store: &mut dyn Store,
    mut meta: Meta,
    catalog: &Catalog,
) -> Result<Meta, JournalError> {
    let Some(end) = catalog.check(meta.cut)? else { return Ok(meta) };
    while meta.cut.position < end.position {
        let before: Head = meta.cut;
        meta = archive::trim(store, meta, end.position, TRIM_RECORDS)?;
        if meta.cut == before {
            break;
        }
    }
    store.sync()?;
    Ok(meta)
}

/// Completes an interrupted archiving: removes archived records from both halves.
pub(super) fn finish(
    dir: &Path,
    store: &mut TwinStore,
    meta: Meta,
    catalog: &Catalog,
    faults: &FaultHook,
) -> Result<Meta, JournalError> {
    let meta = trim_archived(store, meta, catalog)?;
    store.release(meta.cut.position)?;
    archive::clear(dir, meta.cut.position, meta.head.position, faults)?;
    Ok(meta)
}
