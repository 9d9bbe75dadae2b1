//! Stores a journal on disk with sled 0.34.7, and adds the guarantees that sled lacks.
//!
//! - sled's `flush` writes but does not sync on Linux, contrary to its documentation. Each [`Store::sync`]
//!   is therefore a flush followed by `sync_data` on sled's own `db` file, through a separate file handle:
//!   a sync acts on the file, not on the handle.
//! - sled never syncs its `conf` file or the directory entries. This module syncs them at each open,
//!   because the process that created them may have died before it did so.
//! - Large segments avoid values in blob files, which sled never syncs. The segment size is fixed when the
//!   database is created. sled's own flushing thread is off: only the writer decides when data reaches the
//!   disk.
//! - sled can panic on damaged files, at open and later. Every call is therefore guarded, and a panic
//!   becomes an error.
//! - sled's threads may hold the lock for a moment after the last handle was dropped. The drop of a
//!   [`SledStore`] waits for them, so that the lock is free afterwards.
//! - sled has no read-only open; see [`super::Snapshot`].

use std::fs::{File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use uuid::Uuid;

use sled::transaction::{ConflictableTransactionError, TransactionError, TransactionalTree};
use sled::{Db, Transactional, Tree};

use super::fault_injection::{Call, FaultHook};
use super::layout;
use super::store::{
    Batch, Meta, RawRecords, Store, StoreError, StoredRecord, StreamHead, Truncation, is_full,
};

const SEGMENT_BYTES: usize = 8 << 20;
const CACHE_BYTES: u64 = 64 << 20;

/// A sled database of three trees.
pub struct SledStore {
    db: Db,
    records: Tree,
    streams: Tree,
    meta: Tree,
    faults: FaultHook,
    // Dropped last: its drop waits until the fields above are gone.
    file: DbFile,
}

/// A separate handle on sled's file.
struct DbFile(File);

impl Drop for DbFile {
    /// Waits until sled's threads have released the lock, at most one second. After that another process
    /// may have taken it.
    fn drop(&mut self) {
        for _ in 0..1000 {
            match self.0.try_lock() {
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
                Ok(()) | Err(TryLockError::Error(_)) => return,
            }
        }
    }
}

impl SledStore {
    /// Opens the database in `dir`. Creates the directory if it is missing.
    ///
    /// # Errors
    /// [`StoreError::Held`] while another process, or another store of this one, has it open.
    /// [`StoreError::Broken`] if sled refuses its files or panics because of them. Other variants for all
    /// other errors of sled.
    pub fn open(dir: &Path) -> Result<SledStore, StoreError> {
        SledStore::open_probed(dir, FaultHook::default())
    }

    pub(super) fn open_probed(dir: &Path, faults: FaultHook) -> Result<SledStore, StoreError> {
        let mut opened = None;
        let failed = |error: io::Error| StoreError::io("open the index", &error);
        faults.clone().run(Call::SledOpen, failed, || {
            let store = SledStore::open_files(dir, faults).map_err(panicked)?;
            sync_entries(dir).map_err(|error| StoreError::io("sync the directory", &error))?;
            opened = Some(store);
            Ok(())
        })?;
        opened.ok_or_else(|| StoreError::failed("open the index", "it was left out"))
    }

    fn open_files(dir: &Path, faults: FaultHook) -> Result<SledStore, StoreError> {
        guarded("open the index", || {
            let config = sled::Config::new()
                .path(dir)
                .segment_size(SEGMENT_BYTES)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None);
            let db = config.open().map_err(refusal)?;
            let tree = |name| db.open_tree(name).map_err(refusal);
            let (records, streams, meta) = (tree("records")?, tree("streams")?, tree("meta")?);
            let file =
                File::open(dir.join("db")).map_err(|error| StoreError::io("open sled's file", &error))?;
            Ok(SledStore { db, records, streams, meta, faults, file: DbFile(file) })
        })
    }

    /// Flushes all writes to the kernel, without a sync to the disk.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        sled_call("flush", || self.db.flush().map(drop))
    }

    /// One transaction over the three trees.
    fn transact(
        &self,
        what: &'static str,
        change: impl Fn(&TransactionalTree, &TransactionalTree, &TransactionalTree) -> Changed,
    ) -> Result<(), StoreError> {
        let trees = (&self.records, &self.streams, &self.meta);
        guarded(what, || match trees.transaction(|(records, streams, meta)| change(records, streams, meta)) {
            Ok(()) => Ok(()),
            Err(TransactionError::Storage(error)) => Err(failure(what, &error)),
            Err(TransactionError::Abort(())) => Err(StoreError::failed(what, "aborted")),
        })
    }

    /// The file whose lock shows that a database is open.
    pub(super) fn lock_file(dir: &Path) -> PathBuf {
        dir.join("db")
    }
}

type Changed = Result<(), ConflictableTransactionError<()>>;

fn write_meta(tree: &TransactionalTree, meta: &Meta) -> Changed {
    let Meta { schema, epoch, head, truncated_at } = meta;
    tree.insert(b"schema", &schema.to_be_bytes())?;
    tree.insert(b"epoch", &epoch.to_be_bytes())?;
    tree.insert(b"head", layout::head_value(head).as_slice())?;
    tree.insert(b"cut", layout::head_value(truncated_at).as_slice())?;
    Ok(())
}

fn write_batch(
    batch: &Batch,
    records: &TransactionalTree,
    streams: &TransactionalTree,
    meta: &TransactionalTree,
) -> Changed {
    for StoredRecord { position, stream, seq, envelope } in &batch.records {
        records.insert(&position.to_be_bytes(), envelope.as_slice())?;
        streams.insert(&layout::position_key(*stream, *seq), &position.to_be_bytes())?;
    }
    for head in &batch.streams {
        streams.insert(&layout::stream_key(head.stream), &layout::stream_value(head))?;
    }
    write_meta(meta, &batch.meta)
}

fn remove(
    truncation: &Truncation,
    records: &TransactionalTree,
    streams: &TransactionalTree,
    meta: &TransactionalTree,
) -> Changed {
    for (position, stream, seq) in &truncation.records {
        records.remove(&position.to_be_bytes())?;
        streams.remove(&layout::position_key(*stream, *seq))?;
    }
    for stream in &truncation.streams {
        streams.remove(&layout::stream_key(*stream))?;
    }
    write_meta(meta, &truncation.meta)
}

/// sled reports a held lock only in the text of its error.
fn refusal(error: sled::Error) -> StoreError {
    match &error {
        sled::Error::Io(cause) if cause.kind() == io::ErrorKind::WouldBlock => StoreError::Held,
        sled::Error::Io(cause) if cause.to_string().starts_with("could not acquire lock") => StoreError::Held,
        sled::Error::Io(cause) if is_environment(cause) => StoreError::io("open the index", cause),
        _ => StoreError::Broken { reason: error.to_string() },
    }
}

/// Errors that come from the machine and not from the files. An unlisted error is attributed to the files.
/// That costs at most a copy of them: they are set aside, never removed.
fn is_environment(cause: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, PermissionDenied, ReadOnlyFilesystem};
    is_full(cause)
        || matches!(cause.kind(), Interrupted | OutOfMemory | PermissionDenied | ReadOnlyFilesystem)
        || matches!(cause.raw_os_error(), Some(EMFILE | ENFILE))
}

const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// sled panics at open if it refuses its files or meets a full disk.
fn panicked(error: StoreError) -> StoreError {
    match error {
        StoreError::Failed { what, reason } if reason.contains("StorageFull") => {
            StoreError::Full { what, reason }
        }
        StoreError::Failed { reason, .. } if reason.starts_with(PANICKED) => StoreError::Broken { reason },
        other => other,
    }
}

/// An error of sled in use.
fn failure(what: &'static str, error: &sled::Error) -> StoreError {
    match error {
        sled::Error::Io(cause) => StoreError::io(what, cause),
        other => StoreError::failed(what, other),
    }
}

const PANICKED: &str = "sled panicked";

fn sync_entries(dir: &Path) -> io::Result<()> {
    for path in [dir.join("conf"), dir.join("db"), dir.to_owned()] {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

fn guarded<T>(what: &'static str, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(StoreError::failed(what, format!("{PANICKED}: {text}")))
    })
}

/// Calls sled and reports its error by the text alone.
fn sled_call<T>(what: &'static str, call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    guarded(what, || call().map_err(|error| failure(what, &error)))
}

impl Store for SledStore {
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let failed = |error: io::Error| StoreError::io("write a batch", &error);
        let write = || {
            self.transact("write a batch", |records, streams, meta| {
                write_batch(batch, records, streams, meta)
            })
        };
        self.faults.run(Call::SledWrite, failed, write)
    }

    fn truncate(&mut self, truncation: &Truncation) -> Result<(), StoreError> {
        let failed = |error: io::Error| StoreError::io("remove archived records", &error);
        let remove = || {
            self.transact("remove archived records", |records, streams, meta| {
                remove(truncation, records, streams, meta)
            })
        };
        self.faults.run(Call::SledWrite, failed, remove)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let failed = |error: io::Error| StoreError::io("flush", &error);
        self.faults.run(Call::SledFlush, failed, || self.flush())?;
        let failed = |error: io::Error| StoreError::io("sync", &error);
        self.faults.run(Call::SledSync, failed, || self.file.0.sync_data().map_err(failed))
    }

    fn meta(&self) -> Result<Option<Meta>, StoreError> {
        let get = |key: &str| sled_call("read the meta tree", || self.meta.get(key));
        let Some(schema) = get("schema")? else { return Ok(None) };
        let missing = StoreError::Layout { what: "the meta tree" };
        let (Some(epoch), Some(head), Some(truncated_at)) = (get("epoch")?, get("head")?, get("cut")?) else {
            return Err(missing);
        };
        Ok(Some(Meta {
            schema: layout::schema(&schema)?,
            epoch: layout::number(&epoch, "the epoch")?,
            head: layout::read_head(&head)?,
            truncated_at: layout::read_head(&truncated_at)?,
        }))
    }

    fn records(&self, from: u64) -> RawRecords<'_> {
        let mut rest = self.records.range(from.to_be_bytes()..);
        let mut failed = false;
        Box::new(std::iter::from_fn(move || {
            let what = "read the records";
            let next = (!failed).then(|| sled_call(what, || rest.next().transpose())).transpose();
            let next = next.map(Option::flatten).transpose()?;
            let record = next.and_then(|(key, envelope)| {
                Ok((layout::number(&key, "the key of a record")?, envelope.to_vec()))
            });
            failed = record.is_err();
            Some(record)
        }))
    }

    fn record(&self, position: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let envelope = sled_call("read a record", || self.records.get(position.to_be_bytes()))?;
        Ok(envelope.map(|bytes| bytes.to_vec()))
    }

    fn stream(&self, stream: Uuid) -> Result<Option<StreamHead>, StoreError> {
        let key = layout::stream_key(stream);
        let value = sled_call("read a stream", || self.streams.get(key))?;
        value.map(|value| layout::read_stream(&key, &value)).transpose()
    }

    fn streams(&self) -> Result<Vec<StreamHead>, StoreError> {
        let pairs = sled_call("read the streams", || {
            self.streams.scan_prefix([layout::HEADS]).collect::<sled::Result<Vec<_>>>()
        })?;
        pairs.iter().map(|(key, value)| layout::read_stream(key, value)).collect()
    }

    fn positions(&self, stream: Uuid) -> Result<Vec<u64>, StoreError> {
        let prefix = layout::position_prefix(stream);
        let values = sled_call("read a stream", || {
            self.streams.scan_prefix(prefix).values().collect::<sled::Result<Vec<_>>>()
        })?;
        values.iter().map(|value| layout::number(value, "the position of a record")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_PAYLOAD_BYTES;
    use super::super::testing::{batch, exercise};
    use super::*;

    #[test]
    fn satisfies_store_contract() {
        let dir = tempfile::tempdir().expect("a directory");
        exercise(&mut SledStore::open(dir.path()).expect("opened"));
    }

    #[test]
    fn keeps_written_records_after_reopen() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut store = SledStore::open(dir.path()).expect("opened");
        store.write(&batch(1)).expect("written");
        store.sync().expect("synced");
        drop(store);
        let store = SledStore::open(dir.path()).expect("opened again");
        assert_eq!(store.meta(), Ok(Some(batch(1).meta)));
        assert_eq!(store.record(1), Ok(Some(batch(1).records[0].envelope.clone())));
    }

    #[test]
    fn writes_largest_batch_atomically() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut large = batch(1);
        let record = large.records.remove(0);
        let envelope = vec![7; MAX_PAYLOAD_BYTES + 200];
        large.records = (1..=128)
            .map(|seq| StoredRecord { position: seq, seq, envelope: envelope.clone(), ..record })
            .collect();
        let mut store = SledStore::open(dir.path()).expect("opened");
        store.write(&large).expect("written");
        store.sync().expect("synced");
        drop(store);
        let store = SledStore::open(dir.path()).expect("opened again");
        let whole = |record: &Result<(u64, Vec<u8>), StoreError>| {
            record.as_ref().is_ok_and(|(_, bytes)| *bytes == envelope)
        };
        assert_eq!(store.records(0).filter(whole).count(), 128);
    }

    #[test]
    fn sync_also_syncs_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut store = SledStore::open(dir.path()).expect("opened");
        store.write(&batch(1)).expect("written");
        // This file cannot be synced. If the barrier reaches the separate handle, it fails.
        store.file.0 = File::open("/dev/null").expect("opened");
        assert!(matches!(store.sync(), Err(StoreError::Failed { what: "sync", .. })));
    }

    #[test]
    fn second_open_reports_held_store() {
        let dir = tempfile::tempdir().expect("a directory");
        let _first = SledStore::open(dir.path()).expect("opened");
        assert_eq!(SledStore::open(dir.path()).err(), Some(StoreError::Held));
    }

    #[test]
    fn the_largest_records_do_not_become_blobs() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut store = SledStore::open(dir.path()).expect("opened");
        for round in 0..3 {
            let mut large = batch(1);
            let record = large.records.remove(0);
            large.records = (1..=64)
                .map(|seq| {
                    let envelope = vec![seq as u8; MAX_PAYLOAD_BYTES + 200];
                    StoredRecord { position: round * 64 + seq, seq: round * 64 + seq, envelope, ..record }
                })
                .collect();
            store.write(&large).expect("written");
            store.sync().expect("synced");
        }
        assert_eq!(store.records(0).filter(Result::is_ok).count(), 192);
        let blobs = std::fs::read_dir(dir.path().join("blobs")).map_or(0, Iterator::count);
        assert_eq!(blobs, 0);
    }

    #[test]
    fn a_panic_of_sled_is_an_error() {
        let result: Result<(), StoreError> =
            guarded("read", || panic!("tried to serialize {}", "Uninitialized"));
        assert_eq!(
            result,
            Err(StoreError::failed("read", "sled panicked: tried to serialize Uninitialized"))
        );
    }

    #[test]
    fn opening_invalid_files_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("conf"), b"not a configuration").expect("written");
        assert!(matches!(SledStore::open(dir.path()), Err(StoreError::Broken { .. })));
    }
}
