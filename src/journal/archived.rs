//! Loads the archives during an open and completes an interrupted archiving.
//!
//! A checkpoint on disk implies that the archive, its index and the copies of what is still needed are on disk. The
//! removal of the records from the index and from the log may still be incomplete. The segment is there until
//! the index is truncated and synced. So both are repeated from the segment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use uuid::Uuid;

use super::archive::{self, Carry, Catalog, Leaving, Places};
use super::chain::{ChainProblem, Fault};
use super::error::JournalError;
use super::fault_injection::FaultHook;
use super::log::{self, LogSummary};
use super::logged_store::LoggedStore;
use super::paths;
use super::record::Entry;
use super::repair::Repair;
use super::store::{Meta, Store};

/// Reads the indexes. Also returns those that were rebuilt.
pub(super) fn load(
    dir: &Path,
    places: Places,
    log: Option<&LogSummary>,
    faults: &FaultHook,
) -> Result<(Catalog, Vec<Repair>), JournalError> {
    let newest = log.and_then(|summary| summary.checkpoint.as_ref());
    if let Some(newest) = newest {
        // The segments are still in the log. So every lost archive file is written again.
        for leaving in Leaving::through(dir, newest.last.position)? {
            leaving.seal(&places, faults)?;
        }
    }
    Catalog::load(places, newest)
}

/// Puts archived records of open streams into the gaps of those that are live: a stream that held, and works again,
/// has such gaps.
///
/// # Errors
/// The archive is missing, or its records do not fill the gaps.
pub(super) fn complete(streams: &mut [(Uuid, Vec<Entry>)], catalog: &Catalog) -> Result<(), JournalError> {
    for (stream, entries) in streams {
        let is_whole = |entries: &[Entry]| entries.iter().zip(1..).all(|(entry, seq)| entry.seq == seq);
        if !is_whole(entries) {
            let archived = catalog.entries(*stream, u64::MAX)?;
            let all = archived.into_iter().chain(std::mem::take(entries)).map(|entry| (entry.seq, entry));
            *entries = all.collect::<BTreeMap<_, _>>().into_values().collect();
        }
        if entries.is_empty() || !is_whole(entries) {
            let (position, what) =
                (entries.first().map_or(0, |first| first.position), Fault::StreamIndex { stream: *stream });
            let source = ChainProblem { position, what };
            return Err(JournalError::Damaged { torn: false, source });
        }
    }
    Ok(())
}

/// Completes an interrupted archiving: removes archived records from the index and from the log.
pub(super) fn finish(
    dir: &Path,
    store: &mut LoggedStore,
    mut meta: Meta,
    log: Option<&LogSummary>,
    catalog: &Catalog,
    faults: &FaultHook,
) -> Result<Meta, JournalError> {
    let through = log.and_then(|log| log.checkpoint).map_or(0, |newest| newest.last.position);
    let leaving = Leaving::through(dir, through)?;
    if !leaving.is_empty() {
        let kept = copied(dir, through)?;
        for step in leaving.iter().flat_map(|leaving| archive::steps(leaving, &kept)) {
            meta = archive::truncate(store, meta, step)?;
        }
        store.sync_index()?;
    }
    store.release(through)?;
    archive::clear(catalog.places(), through, meta.head.position, faults)?;
    Ok(meta)
}

/// The positions of the records that are copied behind position `through`.
fn copied(dir: &Path, through: u64) -> Result<BTreeSet<u64>, JournalError> {
    let mut positions = BTreeSet::new();
    log::read(&paths::log(dir), &mut |admitted| {
        for (_, entry, _) in admitted.records.iter().filter(|(_, entry, _)| entry.position > through) {
            let copies = Carry::of(&entry.record).into_iter().flat_map(|carry| carry.entries);
            positions.extend(copies.map(|copy| copy.position));
        }
        Ok(())
    })?;
    Ok(positions)
}
