//! Builds a batch: gives records their positions, sequences and hashes.

use std::collections::BTreeMap;
use uuid::Uuid;

use tokio::sync::oneshot;

use super::envelope::{EnvelopeFields, SCHEMA, encode};
use super::error::AppendError;
use super::record::{Head, Record};
use super::store::{Batch, Meta, StoredRecord, StreamHead, StreamState};

/// The result of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Position of its first record.
    pub first: u64,
    /// Its last record. The journal's head may be further, because of later appends.
    pub last: Head,
}

/// A batch under construction.
pub(super) struct Staged {
    pub meta: Meta,
    pub records: Vec<StoredRecord>,
    pub streams: BTreeMap<Uuid, StreamHead>,
    /// Whether the index is synced before the replies.
    pub sync_index: bool,
    pub answers: Vec<(oneshot::Sender<Result<Appended, AppendError>>, Appended)>,
}

impl Staged {
    pub fn new(meta: Meta) -> Staged {
        Staged { meta, records: vec![], streams: BTreeMap::new(), sync_index: false, answers: vec![] }
    }

    /// The batch, without its replies.
    pub fn into_batch(self) -> Batch {
        Batch { meta: self.meta, records: self.records, streams: self.streams.into_values().collect() }
    }

    pub fn add(
        &mut self,
        stream: Uuid,
        known: Option<StreamHead>,
        records: &[Record],
        state: StreamState,
    ) -> Appended {
        let first = self.meta.head.position + 1;
        let mut seq = known.map_or(0, |head| head.last_seq);
        for record in records {
            seq += 1;
            let Head { position, hash: prev } = self.meta.head;
            let (position, epoch) = (position + 1, self.meta.epoch);
            let (envelope, hash) =
                encode(&EnvelopeFields { schema: SCHEMA, position, epoch, stream, seq, prev, record });
            self.records.push(StoredRecord { position, stream, seq, envelope });
            self.meta.head = Head { position, hash };
        }
        let first_position = known.map_or(first, |head| head.first_position);
        let last = self.meta.head;
        let head = StreamHead { stream, state, last_seq: seq, first_position, last_position: last.position };
        self.streams.insert(stream, head);
        Appended { first, last }
    }
}
