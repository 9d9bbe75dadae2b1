//! Carries out the decision of [`super::reconcile`]: makes one half of a journal from the other.
//!
//! The whole half first gets the claim of the new epoch with the record of the repair, synced. Then the
//! other half is made from it. Unusable files are renamed, never removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use uuid::Uuid;

use super::envelope;
use super::error::JournalError;
use super::fault_injection::FaultHook;
use super::log::{self, Admitted, LogWriter, sync_parent};
use super::record::Head;
use super::store::{Batch, Meta, Store, StoreError, StoredRecord, StreamHead, StreamState};

/// Number of records in one frame of a rebuilt log.
const FRAME_RECORDS: usize = 64;

/// Number of batches that share one barrier while a database is filled.
const FILL_BATCHES: u32 = 128;

/// Renames `dir/name` to `dir/name.broken-EPOCH`. Returns the new name. `None` if there is no such file.
pub(super) fn set_aside(dir: &Path, name: &str, epoch: u64) -> Result<Option<String>, JournalError> {
    let from = dir.join(name);
    if !from.exists() {
        return Ok(None);
    }
    let mut aside = format!("{name}.broken-{epoch}");
    for again in 2.. {
        if !dir.join(&aside).exists() {
            break;
        }
        aside = format!("{name}.broken-{epoch}-{again}");
    }
    let rename = || {
        fs::rename(&from, dir.join(&aside))?;
        File::open(dir)?.sync_all()
    };
    rename().map_err(JournalError::io("set aside", &from))?;
    Ok(Some(aside))
}

/// Creates an empty directory for a database.
pub(super) fn create_database(path: &Path) -> Result<(), JournalError> {
    let create = || {
        fs::create_dir_all(path)?;
        sync_parent(path)
    };
    create().map_err(JournalError::io("create", path))
}

/// Writes the heads of the unfinished streams up to `cut` to a new database, which is filled from there.
pub(super) fn carry(store: &mut dyn Store, cut: Head, streams: Vec<StreamHead>) -> Result<(), JournalError> {
    if streams.is_empty() {
        return Ok(());
    }
    let meta = Meta { head: cut, cut, ..Meta::new() };
    Ok(store.write(&Batch { meta, slots: vec![], streams })?)
}

/// Copies every batch behind `from` from the log in `dir` to `store`, and syncs it.
pub(super) fn fill(store: &mut dyn Store, dir: &Path, from: Head, cut: Head) -> Result<(), JournalError> {
    let mut unsynced = 0;
    log::read(dir, &mut |admitted| {
        let batch = batch_of(store, admitted, from, cut)?;
        store.write(&batch)?;
        unsynced += 1;
        if unsynced == FILL_BATCHES {
            unsynced = 0;
            store.sync()?;
        }
        Ok(())
    })?;
    Ok(store.sync()?)
}

fn batch_of(store: &dyn Store, admitted: Admitted, from: Head, cut: Head) -> Result<Batch, StoreError> {
    let Admitted { epoch, head, records } = admitted;
    let head = if head.position < from.position { from } else { head };
    let meta = Meta { epoch, head, cut, ..Meta::new() };
    let (mut slots, mut streams) = (Vec::new(), BTreeMap::<Uuid, StreamHead>::new());
    for (state, entry, envelope) in records {
        let (position, stream, seq) = (entry.position, entry.stream, entry.seq);
        if position <= from.position {
            continue;
        }
        let known = match streams.get(&stream) {
            Some(head) => Some(*head),
            None => store.stream(stream)?,
        };
        let first_position = known.map_or(position, |head| head.first_position);
        let head = StreamHead { stream, state, last_seq: seq, first_position, last_position: position };
        streams.insert(stream, head);
        slots.push(StoredRecord { position, stream, seq, envelope });
    }
    Ok(Batch { meta, slots, streams: streams.into_values().collect() })
}

/// Writes a log of all records of `store` to `dir`, which must not exist.
pub(super) fn write_evidence(
    store: &dyn Store,
    meta: Meta,
    dir: &Path,
    segment_bytes: u64,
    faults: &FaultHook,
) -> Result<(), JournalError> {
    let heads = store.streams()?.into_iter().map(|head| (head.stream, head));
    let heads: BTreeMap<_, _> = heads.collect();
    let begun = LogWriter::begin(dir, meta.cut, segment_bytes, faults.clone());
    let mut writer = begun.map_err(JournalError::io("begin evidence in", dir))?;
    let mut batch = Batch { meta: Meta { head: meta.cut, ..meta }, slots: vec![], streams: vec![] };
    for raw in store.records(meta.cut.position.saturating_add(1)) {
        let (position, envelope) = raw?;
        let unreadable = |_| StoreError::Layout { what: "a record" };
        let entry = envelope::open(&envelope).map_err(unreadable)?;
        (batch.meta.epoch, batch.meta.head) = (entry.epoch, entry.head());
        let (stream, seq) = (entry.stream, entry.seq);
        let last = heads.get(&stream).filter(|head| head.last_position == position);
        // Only the last record of a stream carries its current state.
        let open = StreamHead {
            stream,
            state: StreamState::Open,
            last_seq: seq,
            first_position: 0,
            last_position: position,
        };
        let head = last.copied().unwrap_or(open);
        batch.streams.retain(|known| known.stream != stream);
        batch.streams.push(head);
        batch.slots.push(StoredRecord { position, stream, seq, envelope });
        if batch.slots.len() == FRAME_RECORDS {
            writer.append(&batch)?;
            (batch.slots, batch.streams) = (vec![], vec![]);
        }
    }
    // This frame also carries the claim of the epoch, if that was the last write.
    writer.append(&Batch { meta, ..batch })?;
    Ok(writer.sync()?)
}

/// Renames a whole log to its final name.
pub(super) fn put_in_place(draft: &Path, path: &Path) -> Result<(), JournalError> {
    let rename = || {
        fs::rename(draft, path)?;
        sync_parent(path)
    };
    rename().map_err(JournalError::io("put in place", path))
}

/// Removes the rest of an interrupted rebuild.
pub(super) fn clear(draft: &Path) -> Result<(), JournalError> {
    match fs::remove_dir_all(draft) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(JournalError::io("remove", draft)),
    }
}
