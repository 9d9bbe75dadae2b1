//! Combines the log and its index into the store of a journal directory.
//!
//! A batch is on disk in the log before the index gets it, so the index is never ahead of the log. Only the
//! index serves reads. It is synced behind the log ([`Store::sync_index`]): after a loss of power the next
//! open reads the missing records from the log. The store holds the lock of the directory. Archived records
//! leave the log first: the index has them until then.

use std::path::PathBuf;

use super::archive::Policy;
use super::fault_injection::FaultHook;
use super::lock::Lock;
use super::log::LogWriter;
use super::owner::Owner;
use super::record::Head;
use super::sled_store::SledStore;
use super::store::{Batch, Meta, RawRecords, Store, StoreError, StreamHead, Truncation};
use uuid::Uuid;

pub(super) struct LoggedStore {
    // Dropped in this order: the directory lock is released only after sled has released its own lock.
    index: SledStore,
    log: LogWriter,
    unsynced: u64,
    /// Number of the segment whose first batch `owner.json` names.
    witnessed: u64,
    /// `None` for a private copy.
    owner: Option<OwnerFile>,
    _lock: Lock,
}

/// The file `owner.json` of the running journal.
pub(super) struct OwnerFile {
    /// The journal directory.
    pub dir: PathBuf,
    pub owner: Owner,
    pub faults: FaultHook,
}

impl OwnerFile {
    /// Names a record that is on disk in the log.
    fn witness(&mut self, position: u64) -> Result<(), StoreError> {
        self.owner.position = position;
        let written = self.owner.write(&self.dir, &self.faults);
        written.map_err(|error| StoreError::failed("write owner.json", error.text()))
    }
}

impl LoggedStore {
    /// The index must hold all records of the log, synced.
    pub fn new(index: SledStore, log: LogWriter, lock: Lock) -> LoggedStore {
        let witnessed = log.segment();
        LoggedStore { index, log, unsynced: 0, witnessed, owner: None, _lock: lock }
    }

    /// From now on `owner` witnesses the records of this store.
    pub fn set_owner(&mut self, owner: OwnerFile) {
        self.owner = Some(owner);
    }
}

impl Store for LoggedStore {
    /// One append and one sync of the log, then the index.
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.log.append(batch)?;
        self.log.sync()?;
        // A claim of an epoch has no records, and the index must learn of it as well.
        self.unsynced += batch.records.len().max(1) as u64;
        self.index.write(batch)?;
        if let Some(owner) = self.owner.as_mut().filter(|_| self.log.segment() != self.witnessed) {
            // Without the index this alone shows that the segment existed.
            owner.witness(batch.meta.head.position)?;
            self.witnessed = self.log.segment();
        }
        Ok(())
    }

    /// Nothing to do: [`write`](Store::write) has synced the log.
    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn unsynced(&self) -> u64 {
        self.unsynced
    }

    fn sync_index(&mut self) -> Result<(), StoreError> {
        self.index.sync()?;
        self.unsynced = 0;
        Ok(())
    }

    fn close(&mut self, head: Head) -> Result<(), StoreError> {
        self.owner.as_mut().map_or(Ok(()), |owner| owner.witness(head.position))
    }

    fn truncate(&mut self, truncation: &Truncation) -> Result<(), StoreError> {
        self.unsynced += 1;
        self.index.truncate(truncation)
    }

    fn end_segment(&mut self, policy: &Policy) -> Result<(), StoreError> {
        let tail = self.log.tail();
        if policy.ends(tail.records, tail.first_ns) { self.log.succeed() } else { Ok(()) }
    }

    fn release(&mut self, through: u64) -> Result<(), StoreError> {
        self.log.release(through)
    }

    fn meta(&self) -> Result<Option<Meta>, StoreError> {
        self.index.meta()
    }

    fn records(&self, from: u64) -> RawRecords<'_> {
        self.index.records(from)
    }

    fn record(&self, position: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.index.record(position)
    }

    fn stream(&self, stream: Uuid) -> Result<Option<StreamHead>, StoreError> {
        self.index.stream(stream)
    }

    fn streams(&self) -> Result<Vec<StreamHead>, StoreError> {
        self.index.streams()
    }

    fn positions(&self, stream: Uuid) -> Result<Vec<u64>, StoreError> {
        self.index.positions(stream)
    }
}
