//! Loads the archives during an open and completes an interrupted archiving.
//!
//! A checkpoint on disk implies that the archive and the index are on disk. The removal of the records from
//! the log and from its index may still be incomplete. Each is done only after the archive was read and
//! holds all the records.

use std::path::Path;
use uuid::Uuid;

use super::archive::{self, Catalog, Prior};
use super::chain::{ChainProblem, Fault};
use super::error::JournalError;
use super::fault_injection::FaultHook;
use super::log::LogSummary;
use super::logged_store::LoggedStore;
use super::record::{Entry, Head, Links};
use super::repair::Repair;
use super::store::{Meta, Store};

/// Number of records that leave the index in one step.
pub(super) const TRUNCATE_RECORDS: usize = 512;

/// Reads the indexes and the carry-over. Also returns the files that were rebuilt.
pub(super) fn load(
    dir: &Path,
    log: Option<&LogSummary>,
    faults: &FaultHook,
    links: Links,
) -> Result<(Catalog, Vec<Repair>), JournalError> {
    let newest = log.and_then(|summary| summary.checkpoint.as_ref());
    if let (Some(newest), Some(summary)) = (newest, log)
        && summary.start.position < newest.last.position
    {
        // The segments are still in the log. So every lost archive file is written again.
        archive::seal(dir, summary.start, newest.last.position, &mut Prior::none(links), faults)?;
    }
    Catalog::load(dir, newest, links)
}

/// Puts the archived records of unfinished runs before those that the index still has.
///
/// # Errors
/// The records do not fill the gap.
pub(super) fn complete(streams: &mut [(Uuid, Vec<Entry>)], catalog: &Catalog) -> Result<(), JournalError> {
    for (stream, entries) in streams {
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

/// Reads the archives and removes their records from the index.
fn truncate_archived(
    store: &mut LoggedStore,
    mut meta: Meta,
    catalog: &Catalog,
) -> Result<Meta, JournalError> {
    let Some(end) = catalog.check(meta.truncated_at)? else { return Ok(meta) };
    while meta.truncated_at.position < end.position {
        let before: Head = meta.truncated_at;
        meta = archive::truncate(store, meta, end.position, TRUNCATE_RECORDS)?;
        if meta.truncated_at == before {
            break;
        }
    }
    store.sync_index()?;
    Ok(meta)
}

/// Completes an interrupted archiving: removes archived records from the log and from its index.
pub(super) fn finish(
    dir: &Path,
    store: &mut LoggedStore,
    meta: Meta,
    catalog: &Catalog,
    faults: &FaultHook,
) -> Result<Meta, JournalError> {
    let meta = truncate_archived(store, meta, catalog)?;
    store.release(meta.truncated_at.position)?;
    archive::clear(dir, meta.truncated_at.position, meta.head.position, faults)?;
    Ok(meta)
}
