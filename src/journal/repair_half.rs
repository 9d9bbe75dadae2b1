//! Carrying out what [`super::reconcile`] decided: making one half of a journal from the other.
//!
//! The half that is whole first gets the claim of the new epoch with the record of the repair, synced;
//! then the other half is made from it. What cannot be used is renamed, never removed.

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

/// Records of one frame of rebuilt evidence.
const FRAME_RECORDS: usize = 64;

/// Batches that share one barrier while a database is filled.
const FILL_BATCHES: u32 = 128;

/// Renames `dir/name` to `dir/name.broken-EPOCH`; answers the new name, none if there was nothing.
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

/// Tells a new database of the streams that did not end up to `cut`, behind which it is going to be filled.
pub(super) fn carry(store: &mut dyn Store, cut: Head, streams: Vec<StreamHead>) -> Result<(), JournalError> {
    if streams.is_empty() {
        return Ok(());
    }
    let meta = Meta { head: cut, cut, ..Meta::new() };
    Ok(store.write(&Batch { meta, slots: vec![], streams })?)
}

/// Copies every batch behind `from` from the evidence in `dir` to `store`, and syncs it.
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

/// Writes the evidence of everything in `store` to `dir`, which must not exist.
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
        // Only the last record of a stream says what it is now.
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
    // Also the claim of the epoch, if that was the last thing.
    writer.append(&Batch { meta, ..batch })?;
    Ok(writer.sync()?)
}

/// Renames evidence that is whole to where it belongs.
pub(super) fn put_in_place(draft: &Path, path: &Path) -> Result<(), JournalError> {
    let rename = || {
        fs::rename(draft, path)?;
        sync_parent(path)
    };
    rename().map_err(JournalError::io("put in place", path))
}

/// Removes what an interrupted rebuild left.
pub(super) fn clear(draft: &Path) -> Result<(), JournalError> {
    match fs::remove_dir_all(draft) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(JournalError::io("remove", draft)),
    }
}
