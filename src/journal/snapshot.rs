//! Reads a journal without holding it.
//!
//! sled has no read-only open: it takes an exclusive lock and writes. So the reader uses a private copy,
//! which is removed when the [`Snapshot`] is dropped. The journal itself is not written to.
//!
//! The copy is **started**, by the function that starts a daemon ([`super::open`]). So the reader's result
//! is the result of the next start: the same records, the same repairs, the same refusal. The epoch and the
//! repair records that this start adds to the copy are hidden.
//!
//! If the start refuses, the readable records are returned. [`refusal`](Snapshot::refusal) gives the reason
//! why some are missing.

mod copy;
mod verify;

use std::path::Path;

use tempfile::TempDir;

use super::archive::{self, Prefix};
use super::chain::{ChainProblem, Fault, open_at};
use super::error::JournalError;
use super::fault_injection::FaultHook;
use super::handle::Journal;
use super::options::Options;
use super::record::{self, Entry};
use super::repair::{self, Repair};
use super::store::{Meta, Store, StoreError};
use crate::open::start::{Ready, start};

/// A private copy of a journal.
pub struct Snapshot {
    store: Box<dyn Store>,
    /// The journal's [`Meta`] before the start of the copy.
    meta: Meta,
    /// The store's [`Meta`] after the start.
    started: Meta,
    archives: Prefix,
    /// The records with copies of archived records.
    copies: Vec<Entry>,
    carried: Vec<Entry>,
    repairs: Vec<Repair>,
    refusal: Option<JournalError>,
    remarks: Vec<String>,
    // Dropped last: the store writes to it until then.
    _copy: TempDir,
}

impl Snapshot {
    /// Copies the journal in `dir` and starts the copy.
    ///
    /// # Errors
    /// There is no journal, a running process holds it, a newer Stillpoint wrote it, none of it can be
    /// read, or the copy cannot be made.
    pub fn open(dir: &Path) -> Result<Snapshot, JournalError> {
        Snapshot::open_with(dir, None)
    }

    /// As [`open`](Snapshot::open), and reads archives from another directory as well.
    ///
    /// # Errors
    /// As [`open`](Snapshot::open).
    pub fn open_with(dir: &Path, archives: Option<&Path>) -> Result<Snapshot, JournalError> {
        let lock = copy::lock(dir)?;
        let copied = copy::files(dir)?;
        drop(lock);
        Snapshot::of_copy(dir, copied, archives)
    }

    /// Whether the damaged log of the journal in `dir` can be rebuilt from its index without a loss.
    ///
    /// # Errors
    /// A running process holds the journal, or the copy cannot be made.
    pub(super) fn is_rebuildable(dir: &Path) -> Result<bool, JournalError> {
        let lock = copy::lock(dir)?;
        let copied = copy::files(dir)?;
        drop(lock);
        let options = Options { ballast_bytes: 0, ..Options::default() };
        Ok(Journal::rebuild_from_index(copied.path(), &options, None, false).is_ok())
    }

    fn of_copy(dir: &Path, copied: TempDir, archives: Option<&Path>) -> Result<Snapshot, JournalError> {
        let path = copied.path();
        let options = Options { lock_attempts: 1, ballast_bytes: 0, ..Options::default() };
        let outcome = start(path, &options, &FaultHook::default(), vec![]);
        let (store, started, meta, repairs, refusal): (Box<dyn Store>, _, _, _, _) = match outcome {
            Ok(Ready { store, meta, opened, found, .. }) => {
                (Box::new(store), meta, found, opened.repairs, None)
            }
            Err(error) => {
                let error = error.of_original(path, dir);
                let Some((store, meta)) = copy::readable(path, &error) else { return Err(error) };
                (Box::new(store), meta, meta, vec![], Some(error))
            }
        };
        let archives = Prefix::find(path, archives, meta.truncated_at)?;
        let copies = copies(store.as_ref(), &meta)?;
        let carried = archive::carried(&copies, archives.start().position);
        let remarks = repairs.iter().map(Repair::ahead).chain(archives.remark());
        let remarks = remarks.map(|remark| copy::of_original(&remark, path, dir)).collect();
        Ok(Snapshot {
            store,
            meta,
            started,
            archives,
            copies,
            carried,
            repairs,
            refusal,
            remarks,
            _copy: copied,
        })
    }

    /// The reason why the next start of a daemon refuses the journal. `None` if the start succeeds with
    /// these records.
    pub fn refusal(&self) -> Option<&JournalError> {
        self.refusal.as_ref()
    }

    /// The repairs of the next start. Usually there are none.
    pub fn repairs(&self) -> &[Repair] {
        &self.repairs
    }

    /// Remarks for the reader about the source of the records: sentences, usually none.
    ///
    /// They name the repairs of the next start and missing archives.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The last visible position.
    fn last(&self) -> u64 {
        if self.refusal.is_some() { u64::MAX } else { self.meta.head.position }
    }

    /// Every envelope of the store with the position at which it is stored, in order. Archived records
    /// are not included.
    pub fn raw(&self) -> impl Iterator<Item = Result<(u64, Vec<u8>), StoreError>> {
        let (first, last) = (self.meta.truncated_at.position.saturating_add(1), self.last());
        self.store.records(first).take_while(move |raw| raw.as_ref().map_or(true, |(at, _)| *at <= last))
    }

    /// Every entry in order, archived ones first. Damage is yielded with its position, and the walk
    /// continues where possible.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, ChainProblem>> {
        let mut position = self.meta.truncated_at.position;
        let live = self.raw().map(move |raw| match raw {
            Ok((at, bytes)) => {
                position = at;
                open_at(at, &bytes)
            }
            Err(error) => {
                let what = Fault::Unreadable { reason: error.to_string() };
                Err(ChainProblem { position: position.saturating_add(1), what })
            }
        });
        self.archives.entries().chain(live)
    }

    /// Copies of records in missing archives. With them every unfinished run is complete, but they do not form a
    /// chain. Empty if no archive is missing.
    pub fn carried(&self) -> &[Entry] {
        &self.carried
    }
}

/// The records behind the truncation point that copy archived records.
fn copies(store: &dyn Store, meta: &Meta) -> Result<Vec<Entry>, JournalError> {
    let mut copies = Vec::new();
    for position in store.positions(repair::stream())? {
        let Some(bytes) = store.record(position)?.filter(|_| position > meta.truncated_at.position) else {
            continue;
        };
        copies.extend(open_at(position, &bytes).ok().filter(|entry| entry.record.kind == record::CARRY));
    }
    Ok(copies)
}
