//! Removes a segment's records from the index in steps.

use std::collections::BTreeSet;
use uuid::Uuid;

use super::super::error::JournalError;
use super::super::record::Head;
use super::super::repair;
use super::super::store::{Meta, Store, StreamState, Truncation};
use super::leaving::Leaving;

/// Number of records that leave the index in one step.
const RECORDS: usize = 512;

/// A part of the records of a segment that leave the index together.
#[derive(Debug)]
pub(crate) struct Step {
    /// Position, stream, sequence.
    records: Vec<(u64, Uuid, u64)>,
    /// The head before the first record afterwards. `None` if it stays.
    truncated_at: Option<Head>,
    /// Streams that may have ended in the segment.
    streams: Vec<Uuid>,
}

/// The steps that remove a segment's records from the index, all but those at the positions `kept`.
pub(crate) fn steps(leaving: &Leaving, kept: &BTreeSet<u64>) -> Vec<Step> {
    let leave = leaving.leave(kept);
    let streams: BTreeSet<Uuid> = leave.iter().map(|(_, stream, ..)| *stream).collect();
    let mut steps: Vec<Step> = leave
        .chunks(RECORDS)
        .map(|records| Step {
            records: records.iter().map(|(position, stream, seq, _)| (*position, *stream, *seq)).collect(),
            truncated_at: records.iter().rev().find_map(|(.., head)| *head),
            streams: vec![],
        })
        .collect();
    let streams = streams.into_iter().filter(|stream| *stream != repair::stream()).collect();
    steps.push(Step { records: vec![], truncated_at: Some(leaving.last), streams });
    steps
}

/// Applies a step, completely or not at all. Returns the store's [`Meta`] afterwards. It is not synced.
pub(crate) fn truncate(store: &mut dyn Store, meta: Meta, step: Step) -> Result<Meta, JournalError> {
    let Step { records, truncated_at, streams } = step;
    // A step that is repeated after a crash must not go back.
    let truncated_at = truncated_at.filter(|head| head.position > meta.truncated_at.position);
    let meta = Meta { truncated_at: truncated_at.unwrap_or(meta.truncated_at), ..meta };
    let mut ended = Vec::new();
    for stream in streams {
        let head = store.stream(stream)?;
        let has_ended = head.is_some_and(|head| {
            head.state == StreamState::Finished && head.last_position <= meta.truncated_at.position
        });
        if has_ended && store.positions(stream)?.is_empty() {
            ended.push(stream);
        }
    }
    store.truncate(&Truncation { meta, records, streams: ended })?;
    Ok(meta)
}
