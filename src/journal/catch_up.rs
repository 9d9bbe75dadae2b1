//! Copies records from the log to the index.

use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

use super::error::JournalError;
use super::log::{self, Admitted};
use super::record::Head;
use super::store::{Batch, Meta, Store, StoreError, StoredRecord, StreamHead};

/// Number of batches that share one sync.
const BATCHES_PER_SYNC: u32 = 128;

/// Writes the heads of the streams that are carried over to a new index, whose records begin behind `start`.
pub(super) fn begin(store: &mut dyn Store, start: Head, streams: Vec<StreamHead>) -> Result<(), StoreError> {
    if streams.is_empty() {
        return Ok(());
    }
    let meta = Meta { head: start, truncated_at: start, ..Meta::new() };
    store.write(&Batch { meta, records: vec![], streams })
}

/// Copies every batch behind `from` from the log in `dir` to `store`, and syncs it. The records of the store
/// begin behind `truncated_at`.
pub(super) fn catch_up(
    store: &mut dyn Store,
    dir: &Path,
    from: Head,
    truncated_at: Head,
) -> Result<(), JournalError> {
    let mut unsynced = 0;
    log::read(dir, &mut |admitted| {
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
    let head = if head.position < from.position { from } else { head };
    let meta = Meta { epoch, head, truncated_at, ..Meta::new() };
    let (mut stored, mut streams) = (Vec::new(), BTreeMap::<Uuid, StreamHead>::new());
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
        stored.push(StoredRecord { position, stream, seq, envelope });
    }
    Ok(Batch { meta, records: stored, streams: streams.into_values().collect() })
}
