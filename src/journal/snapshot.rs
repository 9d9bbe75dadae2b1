//! Reading a journal without holding it.
//!
//! sled has no read-only open: it takes an exclusive lock and writes. So what is read is a private
//! copy, which is gone when the [`Snapshot`] is dropped; the journal itself is not written to.
//!
//! The copy is **started**, by the function that starts a daemon ([`super::open`]). So what a reader says of a journal is
//! what the next start finds: the same records, the same repairs, the same refusal. What that start adds to the copy, its
//! epoch and its word about repairs, is not shown.
//!
//! Where the start refuses, what can still be read is shown, and [`refusal`](Snapshot::refusal) says why it is not all.

mod copy;
mod verify;

use std::path::Path;

use tempfile::TempDir;

use super::archive::{self, Prefix};
use super::chain::{ChainProblem, Fault, open_at};
use super::error::JournalError;
use super::fault_injection::FaultHook;
use super::open::start;
use super::options::Options;
use super::record::Entry;
use super::repair::Repair;
use super::store::{Meta, Store, StoreError};
use crate::open::opening::Ready;

/// A private copy of a journal.
pub struct Snapshot {
    store: Box<dyn Store>,
    /// What the journal was before the start of the copy added to it.
    meta: Meta,
    /// What the store says of itself.
    started: Meta,
    archives: Prefix,
    carried: Result<Vec<Entry>, ChainProblem>,
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
    /// There is no journal, a living process holds it, it comes from a newer Stillpoint, nothing of it can be read, or
    /// the copy cannot be made.
    pub fn open(dir: &Path) -> Result<Snapshot, JournalError> {
        Snapshot::open_with(dir, None)
    }

    /// As [`open`](Snapshot::open), with archives from another directory as well.
    ///
    /// # Errors
    /// As [`open`](Snapshot::open).
    pub fn open_with(dir: &Path, archives: Option<&Path>) -> Result<Snapshot, JournalError> {
        let lock = copy::lock(dir)?;
        let copied = copy::files(dir)?;
        drop(lock);
        Snapshot::of_copy(dir, copied, archives)
    }

    /// As [`open_with`](Snapshot::open_with), beside a daemon that has the journal open. The copy is worth something only
    /// if nothing was appended while it was made: compare the head of the daemon before and after.
    ///
    /// # Errors
    /// As [`open`](Snapshot::open); also where a file went away while it was copied.
    pub fn open_beside(dir: &Path, archives: Option<&Path>) -> Result<Snapshot, JournalError> {
        Snapshot::of_copy(dir, copy::files(dir)?, archives)
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
        let archives = Prefix::find(path, archives, meta.cut)?;
        let carried = archives.carried(path, archive::newest(store.as_ref())?.as_ref());
        let remarks = repairs.iter().map(Repair::ahead).chain(archives.remark());
        let remarks = remarks.map(|remark| copy::of_original(&remark, path, dir)).collect();
        Ok(Snapshot { store, meta, started, archives, carried, repairs, refusal, remarks, _copy: copied })
    }

    /// Why the next start of a daemon refuses the journal; none if it goes on from what is shown here.
    pub fn refusal(&self) -> Option<&JournalError> {
        self.refusal.as_ref()
    }

    /// What the next start does beside reading; usually nothing.
    pub fn repairs(&self) -> &[Repair] {
        &self.repairs
    }

    /// What a reader should know about where this comes from: sentences, usually none.
    ///
    /// What the next start is going to repair, and archives that are not here.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The journal's account of itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The last position that is shown.
    fn last(&self) -> u64 {
        if self.refusal.is_some() { u64::MAX } else { self.meta.head.position }
    }

    /// Every envelope of the database with the position it is stored at, in order; archived ones are not in it.
    pub fn raw(&self) -> impl Iterator<Item = Result<(u64, Vec<u8>), StoreError>> {
        let last = self.last();
        self.store.records(0).take_while(move |raw| raw.as_ref().map_or(true, |(at, _)| *at <= last))
    }

    /// Every entry in order, archived ones first. Damage is yielded with its position, and the walk goes on where it can.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, ChainProblem>> {
        let mut position = self.meta.cut.position;
        let live = self.raw().skip_while(move |raw| raw.as_ref().is_ok_and(|(at, _)| *at <= position));
        let live = live.map(move |raw| match raw {
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

    /// Entries of archives that are not here which are carried forward: with them every run that has not ended is whole,
    /// but they are no chain. None if every archive is here.
    pub fn carried(&self) -> &[Entry] {
        self.carried.as_deref().unwrap_or_default()
    }
}
