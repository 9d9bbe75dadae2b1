//! Combines the two halves of a journal directory into one store: the log first, then the database.
//!
//! A batch is on disk in the log before sled gets it. It is acknowledged once it is on disk in both. Only
//! sled serves reads. The store holds the lock of the directory. Archived records leave the log first: sled
//! has them until then.

use super::archive::Policy;
use super::lock::Lock;
use super::log::LogWriter;
use super::sled_store::SledStore;
use super::store::{Batch, Meta, RawRecords, Store, StoreError, StreamHead, Truncation};
use uuid::Uuid;

pub(super) struct TwinStore {
    // Dropped in this order: the directory lock is released only after sled has released its own lock.
    sled: SledStore,
    evidence: LogWriter,
    _lock: Lock,
}

impl TwinStore {
    pub fn new(sled: SledStore, evidence: LogWriter, lock: Lock) -> TwinStore {
        TwinStore { sled, evidence, _lock: lock }
    }
}

impl Store for TwinStore {
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.evidence.append(batch)?;
        self.evidence.sync()?;
        self.sled.write(batch)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.sled.sync()
    }

    fn trim(&mut self, trim: &Truncation) -> Result<(), StoreError> {
        self.sled.trim(trim)
    }

    fn end_segment(&mut self, policy: &Policy) -> Result<(), StoreError> {
        let tail = self.evidence.tail();
        if policy.ends(tail.records, tail.first_ns) { self.evidence.succeed() } else { Ok(()) }
    }

    fn release(&mut self, through: u64) -> Result<(), StoreError> {
        self.evidence.release(through)
    }

    fn meta(&self) -> Result<Option<Meta>, StoreError> {
        self.sled.meta()
    }

    fn records(&self, from: u64) -> RawRecords<'_> {
        self.sled.records(from)
    }

    fn record(&self, position: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.sled.record(position)
    }

    fn stream(&self, stream: Uuid) -> Result<Option<StreamHead>, StoreError> {
        self.sled.stream(stream)
    }

    fn streams(&self) -> Result<Vec<StreamHead>, StoreError> {
        self.sled.streams()
    }

    fn positions(&self, stream: Uuid) -> Result<Vec<u64>, StoreError> {
        self.sled.positions(stream)
    }
}
