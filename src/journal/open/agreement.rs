//! Compares an index with the log, stream by stream.
//!
//! The hash chain covers the records. It does not cover the state of a stream, which decides whether its run
//! is resumed. So the heads of the streams are compared as well.

use std::collections::BTreeMap;
use uuid::Uuid;

use crate::chain::{ChainProblem, Fault};
use crate::error::JournalError;
use crate::record::Head;
use crate::store::{Store, StoreError, StreamHead, StreamState};

/// The first stream of which the index says something else than the log.
///
/// `logged` are the streams with records or copies in the log as of the index's head, and `start` is the head
/// before the first record of the index.
pub(super) fn difference(
    store: &dyn Store,
    start: Head,
    logged: &BTreeMap<Uuid, StreamHead>,
) -> Result<Option<JournalError>, StoreError> {
    let indexed: BTreeMap<_, _> = store.streams()?.into_iter().map(|head| (head.stream, head)).collect();
    let same = |expected: &StreamHead| {
        let of = |head: &StreamHead| (head.state, head.last_seq, head.last_position);
        indexed.get(&expected.stream).is_some_and(|found| of(found) == of(expected))
    };
    // The index may have dropped a stream that ended in an archive.
    let over =
        |head: &StreamHead| head.state == StreamState::Finished && head.last_position <= start.position;
    let differs = logged.values().find(|expected| !same(expected) && !over(expected));
    // The index may still have streams that ended in an archive.
    let unknown = || {
        let known =
            |head: &&StreamHead| head.last_position <= start.position || logged.contains_key(&head.stream);
        indexed.values().find(|head| !known(head))
    };
    Ok(differs.or_else(unknown).map(|head| {
        let source =
            ChainProblem { position: head.last_position, what: Fault::StreamIndex { stream: head.stream } };
        JournalError::Damaged { torn: false, source }
    }))
}
