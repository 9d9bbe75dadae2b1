//! Removes archived records from a database in steps.

use std::collections::BTreeSet;

use super::super::chain::open_at;
use super::super::error::JournalError;
use super::super::repair;
use super::super::store::{Meta, Store, StoreError, StreamState, Truncation};

/// Removes at most `limit` records, none behind position `through`, and the streams that ended there.
/// Returns the store's [`Meta`] afterwards. The step is applied completely or not at all. It is not synced.
pub(crate) fn trim(
    store: &mut dyn Store,
    meta: Meta,
    through: u64,
    limit: usize,
) -> Result<Meta, JournalError> {
    let (mut cut, mut records, mut touched) = (meta.cut, Vec::new(), BTreeSet::new());
    for raw in store.records(meta.cut.position.saturating_add(1)).take(limit) {
        let (position, bytes) = raw?;
        if position > through {
            break;
        }
        let entry =
            open_at(position, &bytes).map_err(|source| JournalError::Damaged { torn: false, source })?;
        cut = entry.head();
        records.push((position, entry.stream, entry.seq));
        touched.insert(entry.stream);
    }
    touched.remove(&repair::stream());
    let mut streams = Vec::new();
    for stream in touched {
        let head = store.stream(stream)?.ok_or(StoreError::Layout { what: "the index of a stream" })?;
        if head.last_position <= cut.position && head.state == StreamState::Finished {
            streams.push(stream);
        }
    }
    let meta = Meta { cut, ..meta };
    store.trim(&Truncation { meta, records, streams })?;
    Ok(meta)
}
