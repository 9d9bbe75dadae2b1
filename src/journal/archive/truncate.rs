//! Removes archived records from the index in steps.

use std::collections::BTreeSet;

use super::super::chain::open_at;
use super::super::error::JournalError;
use super::super::repair;
use super::super::store::{Meta, Store, StoreError, StreamState, Truncation};

/// Removes at most `limit` records, none behind position `through`, and the streams that ended there.
/// Returns the store's [`Meta`] afterwards. The step is applied completely or not at all. It is not synced.
pub(crate) fn truncate(
    store: &mut dyn Store,
    meta: Meta,
    through: u64,
    limit: usize,
) -> Result<Meta, JournalError> {
    let (mut truncated_at, mut records, mut touched) = (meta.truncated_at, Vec::new(), BTreeSet::new());
    for raw in store.records(meta.truncated_at.position.saturating_add(1)).take(limit) {
        let (position, bytes) = raw?;
        if position > through {
            break;
        }
        let entry =
            open_at(position, &bytes).map_err(|source| JournalError::Damaged { torn: false, source })?;
        truncated_at = entry.head();
        records.push((position, entry.stream, entry.seq));
        touched.insert(entry.stream);
    }
    touched.remove(&repair::stream());
    let mut streams = Vec::new();
    for stream in touched {
        let head = store.stream(stream)?.ok_or(StoreError::Layout { what: "the index of a stream" })?;
        if head.last_position <= truncated_at.position && head.state == StreamState::Finished {
            streams.push(stream);
        }
    }
    let meta = Meta { truncated_at, ..meta };
    store.truncate(&Truncation { meta, records, streams })?;
    Ok(meta)
}
