//! Copies records from the log to the index: its records, and the copies in them of records that are archived.

use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

use super::archive::Carry;
use super::envelope;
use super::error::JournalError;
use super::log::{self, Admitted};
use super::record::{Entry, Head};
use super::store::{Batch, Meta, Store, StoreError, StoredRecord, StreamHead};

/// Number of batches that share one sync.
const BATCHES_PER_SYNC: u32 = 128;

/// Copies every batch behind `from` from the log in `dir` to `store`, and syncs it. The records of the store
/// begin behind `truncated_at`.
pub(super) fn catch_up(
    store: &mut dyn Store,
    dir: &Path,
    from: Head,
    truncated_at: Head,
) -> Result<(), JournalError> {
    let (mut unsynced, mut epoch) = (0, store.meta()?.map_or(0, |meta| meta.epoch));
    log::read(dir, &mut |admitted| {
        // A claim of an epoch has no records. To write an older batch again would take the epoch back.
        if admitted.head.position <= from.position && admitted.epoch <= epoch {
            return Ok(());
        }
        epoch = admitted.epoch;
        store.write(&batch_of(store, admitted, from, truncated_at)?)?;
        unsynced += 1;
        if unsynced == BATCHES_PER_SYNC {
            unsynced = 0;
            store.sync()?;
        }
        Ok(())
    })?;
    Ok(store.sync()?)
}

fn batch_of(
    store: &dyn Store,
    admitted: Admitted,
    from: Head,
    truncated_at: Head,
) -> Result<Batch, StoreError> {
    let Admitted { epoch, head, records } = admitted;
    let meta = Meta { epoch, head, truncated_at, ..Meta::new() };
    let (mut stored, mut streams) = (Vec::new(), BTreeMap::<Uuid, StreamHead>::new());
    for (state, entry, envelope) in records {
        let (position, stream, seq) = (entry.position, entry.stream, entry.seq);
        if position <= from.position {
            continue;
        }
        if let Some(carry) = Carry::of(&entry.record) {
            join(store, &mut streams, carry.head)?;
            let own = carry.entries.iter().filter(|copy| copy.position <= truncated_at.position);
            stored.extend(own.map(|copy| {
                let Entry { position, stream, seq, .. } = *copy;
                StoredRecord { position, stream, seq, envelope: envelope::of(copy) }
            }));
        }
        let (first_position, last_position) = (position, position);
        join(
            store,
            &mut streams,
            StreamHead { stream, state, last_seq: seq, first_position, last_position },
        )?;
        stored.push(StoredRecord { position, stream, seq, envelope });
    }
    Ok(Batch { meta, records: stored, streams: streams.into_values().collect() })
}

/// Adds a state of a stream to what the store and the batch know of it.
fn join(
    store: &dyn Store,
    streams: &mut BTreeMap<Uuid, StreamHead>,
    head: StreamHead,
) -> Result<(), StoreError> {
    let known = match streams.get(&head.stream) {
        Some(known) => Some(*known),
        None => store.stream(head.stream)?,
    };
    streams.insert(head.stream, known.map_or(head, |known| known.joined(head)));
    Ok(())
}
