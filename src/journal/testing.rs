//! Builds samples for the tests of the journal.

use uuid::Uuid;

use super::envelope::{EnvelopeFields, SCHEMA, encode, genesis, open};
use super::record::{Entry, Head, Record};
use super::store::{Batch, Meta, Store, StoredRecord, StreamHead, StreamState};

pub(super) fn stream(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(super) fn record(text: &str) -> Record {
    Record { kind: 1, version: 1, time_ns: 1_700_000_000_000_000_000, payload: text.as_bytes().to_vec() }
}

/// Batches of one record each, all of epoch 1. Streams 1 and 2 alternate.
pub(super) fn batches(count: u64) -> Vec<Batch> {
    batches_of(SCHEMA, count)
}

/// As [`batches`], written by a Stillpoint of that schema.
pub(super) fn batches_of(schema: u16, count: u64) -> Vec<Batch> {
    let start = Head { position: 0, hash: genesis(schema) };
    let mut meta = Meta { schema, epoch: 1, head: start, truncated_at: start };
    (1..=count)
        .map(|position| {
            let (stream, seq) = (stream(u128::from(position % 2) + 1), position.div_ceil(2));
            let record = record(&format!("event {position}"));
            let prev = meta.head.hash;
            let (envelope, hash) =
                encode(&EnvelopeFields { schema, position, epoch: 1, stream, seq, prev, record: &record });
            meta.head = Head { position, hash };
            let first_position = if position % 2 == 1 { 1 } else { 2 };
            let head = StreamHead {
                stream,
                state: StreamState::Open,
                last_seq: seq,
                first_position,
                last_position: position,
            };
            Batch {
                meta,
                records: vec![StoredRecord { position, stream, seq, envelope }],
                streams: vec![head],
            }
        })
        .collect()
}

pub(super) fn batch(position: u64) -> Batch {
    batches(position).remove(position as usize - 1)
}

pub(super) fn chain_of(count: u64) -> Vec<Entry> {
    batches(count).iter().map(|batch| open(&batch.records[0].envelope).expect("just sealed")).collect()
}

/// Checks the rules of every store.
pub(super) fn exercise(store: &mut dyn Store) {
    assert_eq!(store.meta(), Ok(None));
    assert_eq!(store.streams(), Ok(vec![]));
    assert_eq!(store.stream(stream(1)), Ok(None));
    assert_eq!(store.records(0).count(), 0);
    let written = batches(5);
    for batch in &written {
        store.write(batch).expect("written");
    }
    store.sync().expect("synced");
    assert_eq!(store.meta(), Ok(Some(written[4].meta)));
    let records: Vec<_> = store.records(3).map(|record| record.expect("readable")).collect();
    let expected: Vec<_> = written[2..]
        .iter()
        .map(|batch| (batch.records[0].position, batch.records[0].envelope.clone()))
        .collect();
    assert_eq!(records, expected);
    assert_eq!(store.record(2), Ok(Some(written[1].records[0].envelope.clone())));
    assert_eq!(store.record(6), Ok(None));
    assert_eq!(store.stream(stream(2)), Ok(Some(written[4].streams[0])));
    let mut streams = store.streams().expect("readable");
    streams.sort_by_key(|head| head.stream);
    assert_eq!(streams, [written[3].streams[0], written[4].streams[0]]);
    assert_eq!(store.positions(stream(2)), Ok(vec![1, 3, 5]));
    assert_eq!(store.positions(stream(7)), Ok(vec![]));
}
