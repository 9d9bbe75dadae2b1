//! Stores a journal in memory and tracks which writes were synced.
//!
//! A [`Disk`] outlives the stores on it, as a disk outlives the process. [`Disk::crash`] discards unsynced
//! writes and takes the disk away from the store that holds it. A new [`MemoryStore`] sees the rest. The
//! test sets faults on the disk. Damage to single bytes is not modelled here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::store::{Batch, Meta, RawRecords, Store, StoreError, StreamHead, Truncation};

#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    meta: Option<Meta>,
    records: BTreeMap<u64, Vec<u8>>,
    streams: BTreeMap<Uuid, StreamHead>,
    positions: BTreeMap<(Uuid, u64), u64>,
    unsynced: Vec<Undo>,
    syncs: u64,
    holder: Option<u64>,
    holders: u64,
    sync_fault: Option<String>,
    ignores_syncs: bool,
    latency: Duration,
}

/// Undoes one written batch or one truncation.
#[derive(Debug, Default)]
struct Undo {
    meta: Option<Meta>,
    streams: Vec<(Uuid, Option<StreamHead>)>,
    records: Vec<(u64, Uuid, u64)>,
    truncated: Vec<(u64, Uuid, u64, Vec<u8>)>,
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Disk {
        Disk::default()
    }

    /// Loses power. Unsynced writes are lost, and the store that held the disk is dead.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// Loses power after the oldest `batches` of the unsynced batches reached the disk. So a record that
    /// was not acknowledged may survive. Recovery must accept it.
    pub fn crash_keeping(&self, batches: usize) {
        let mut state = self.state();
        while state.unsynced.len() > batches {
            state.take_back();
        }
        state.unsynced.clear();
        state.holder = None;
        state.sync_fault = None;
    }

    /// Fails the next sync with `reason`.
    pub fn fail_next_sync(&self, reason: &str) {
        self.state().sync_fault = Some(reason.to_owned());
    }

    /// From now on every sync succeeds without making anything durable, as on a disk that ignores syncs.
    pub fn ignore_syncs(&self) {
        self.state().ignores_syncs = true;
    }

    /// Time that each batch takes from now on. Without it, an append takes no time at all on simulated time, and
    /// nothing else happens during it.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Number of successful syncs so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Position of the last record that survives a loss of power; 0 on an empty disk.
    pub fn durable(&self) -> u64 {
        let state = self.state();
        let meta = state.unsynced.first().map_or(state.meta, |first| first.meta);
        meta.map_or(0, |meta| meta.head.position)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, batch: &Batch) {
        let streams = batch.streams.iter().map(|head| (head.stream, self.streams.insert(head.stream, *head)));
        let streams = streams.collect();
        for record in &batch.records {
            self.records.insert(record.position, record.envelope.clone());
            self.positions.insert((record.stream, record.seq), record.position);
        }
        let records =
            batch.records.iter().map(|record| (record.position, record.stream, record.seq)).collect();
        let meta = self.meta.replace(batch.meta);
        self.unsynced.push(Undo { meta, streams, records, truncated: vec![] });
    }

    fn truncate(&mut self, truncation: &Truncation) {
        let meta = self.meta.replace(truncation.meta);
        let gone = truncation.streams.iter().map(|stream| (*stream, self.streams.remove(stream)));
        let streams = gone.collect();
        let mut truncated = Vec::new();
        for (position, stream, seq) in &truncation.records {
            let envelope = self.records.remove(position);
            self.positions.remove(&(*stream, *seq));
            truncated.extend(envelope.map(|envelope| (*position, *stream, *seq, envelope)));
        }
        self.unsynced.push(Undo { meta, streams, truncated, records: vec![] });
    }

    fn take_back(&mut self) {
        let Some(undo) = self.unsynced.pop() else { return };
        self.meta = undo.meta;
        for (stream, before) in undo.streams.into_iter().rev() {
            match before {
                Some(head) => self.streams.insert(stream, head),
                None => self.streams.remove(&stream),
            };
        }
        for (position, stream, seq) in undo.records {
            self.records.remove(&position);
            self.positions.remove(&(stream, seq));
        }
        for (position, stream, seq, envelope) in undo.truncated {
            self.records.insert(position, envelope);
            self.positions.insert((stream, seq), position);
        }
    }
}

/// A store on a [`Disk`].
#[derive(Debug)]
pub struct MemoryStore {
    disk: Disk,
    holder: u64,
}

impl MemoryStore {
    /// Holds the disk until the store is dropped or the disk crashes.
    ///
    /// # Errors
    /// [`StoreError::Held`] while another store holds the disk.
    pub fn open(disk: &Disk) -> Result<MemoryStore, StoreError> {
        let mut state = disk.state();
        if state.holder.is_some() {
            return Err(StoreError::Held);
        }
        state.holders += 1;
        let holder = state.holders;
        state.holder = Some(holder);
        drop(state);
        Ok(MemoryStore { disk: disk.clone(), holder })
    }

    fn held(&self, what: &'static str) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.disk.state();
        match state.holder {
            Some(holder) if holder == self.holder => Ok(state),
            _ => Err(StoreError::failed(what, "the disk lost power")),
        }
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.holder == Some(self.holder) {
            state.holder = None;
        }
    }
}

impl Store for MemoryStore {
    fn latency(&self) -> Duration {
        self.disk.state().latency
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.held("write a batch")?.apply(batch);
        Ok(())
    }

    fn truncate(&mut self, truncation: &Truncation) -> Result<(), StoreError> {
        self.held("remove archived records")?.truncate(truncation);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let mut state = self.held("sync")?;
        if let Some(reason) = state.sync_fault.take() {
            return Err(StoreError::failed("sync", reason));
        }
        if !state.ignores_syncs {
            state.unsynced.clear();
        }
        state.syncs += 1;
        Ok(())
    }

    fn meta(&self) -> Result<Option<Meta>, StoreError> {
        Ok(self.held("read the meta tree")?.meta)
    }

    fn records(&self, from: u64) -> RawRecords<'_> {
        let mut next = from;
        Box::new(std::iter::from_fn(move || {
            let state = match self.held("read the records") {
                Ok(state) => state,
                Err(error) => return Some(Err(error)),
            };
            let (position, envelope) = state.records.range(next..).next()?;
            next = position + 1;
            Some(Ok((*position, envelope.clone())))
        }))
    }

    fn record(&self, position: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.held("read a record")?.records.get(&position).cloned())
    }

    fn stream(&self, stream: Uuid) -> Result<Option<StreamHead>, StoreError> {
        Ok(self.held("read a stream")?.streams.get(&stream).copied())
    }

    fn streams(&self) -> Result<Vec<StreamHead>, StoreError> {
        Ok(self.held("read the streams")?.streams.values().copied().collect())
    }

    fn positions(&self, stream: Uuid) -> Result<Vec<u64>, StoreError> {
        let state = self.held("read a stream")?;
        Ok(state.positions.range((stream, 0)..=(stream, u64::MAX)).map(|(_, position)| *position).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{batch, exercise};
    use super::*;

    fn positions(store: &MemoryStore) -> Vec<u64> {
        store.records(0).map(|record| record.expect("readable").0).collect()
    }

    #[test]
    fn satisfies_store_contract() {
        exercise(&mut MemoryStore::open(&Disk::new()).expect("free"));
    }

    #[test]
    fn crash_loses_unsynced_writes() {
        let disk = Disk::new();
        let mut store = MemoryStore::open(&disk).expect("free");
        store.write(&batch(1)).expect("written");
        store.sync().expect("synced");
        let before = (store.meta(), store.streams(), positions(&store));
        store.write(&batch(2)).expect("written");
        assert_ne!(store.meta(), before.0, "a read sees what was written");
        assert_eq!(disk.durable(), 1);
        disk.crash();
        assert!(store.write(&batch(2)).is_err(), "a dead process writes nothing");
        let store = MemoryStore::open(&disk).expect("the dead do not hold it");
        assert_eq!((store.meta(), store.streams(), positions(&store)), before);
    }

    #[test]
    fn crash_may_keep_oldest_unsynced_writes() {
        let disk = Disk::new();
        let mut store = MemoryStore::open(&disk).expect("free");
        for position in 1..=3 {
            store.write(&batch(position)).expect("written");
        }
        disk.crash_keeping(2);
        let store = MemoryStore::open(&disk).expect("free");
        assert_eq!(positions(&store), [1, 2]);
        assert_eq!(store.meta().expect("readable").expect("written").head.position, 2);
    }

    #[test]
    fn one_writer_at_a_time() {
        let disk = Disk::new();
        let store = MemoryStore::open(&disk).expect("free");
        assert_eq!(MemoryStore::open(&disk).err(), Some(StoreError::Held));
        drop(store);
        assert!(MemoryStore::open(&disk).is_ok());
    }

    #[test]
    fn crashed_store_does_not_release_new_lock() {
        let disk = Disk::new();
        let dead = MemoryStore::open(&disk).expect("free");
        disk.crash();
        let _living = MemoryStore::open(&disk).expect("free");
        drop(dead);
        assert_eq!(MemoryStore::open(&disk).err(), Some(StoreError::Held));
    }
}
