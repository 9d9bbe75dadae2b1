//! Encodes and decodes records of the journal's identity and of its binding to a cluster
//! ([`crate::domain::binding`]).
//!
//! These are the records of [`KIND`] 34, version 1. Each holds the whole state, so that the newest one alone
//! is sufficient. They are in separate streams, one after the other ([`stream`]): the newest is open, and so
//! its records are always in the live journal. A start begins the next stream before it closes the previous
//! one. A crash between the two leaves two open streams, of which the newest record counts.
//!
//! An intended mark is the head of the record that states the intent. Two copies of one journal that intend
//! to bind write different heads, because each record carries the id of its start.

use bincode::{Decode, Encode};
use uuid::Uuid;

use crate::domain::binding::{BindingMark, BindingState};
use crate::domain::ids::{STREAM_NAMESPACE, StreamId, Uid};
use crate::domain::time::Timestamp;
use crate::journal::{Entry, Record};
use crate::records::{self, WireError};

/// Kind of these records.
pub const KIND: u16 = 34;

const VERSION: u16 = 1;

/// The event of a record of the binding. Numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingEvent {
    /// The journal has its id.
    Identified = 1,
    /// The binding is about to be written to the cluster, with the head of this record.
    Intended = 2,
    /// The binding was written to the cluster.
    Acknowledged = 3,
    /// The cluster may have gone back in time: nothing is freed.
    Doubted = 4,
    /// An operator confirmed the cluster.
    Confirmed = 5,
    /// The next stream has begun.
    Closed = 6,
}

impl BindingEvent {
    const ALL: [Self; 6] =
        [Self::Identified, Self::Intended, Self::Acknowledged, Self::Doubted, Self::Confirmed, Self::Closed];

    fn of(number: u16) -> Result<Self, WireError> {
        let known = Self::ALL.into_iter().find(|event| *event as u16 == number);
        known.ok_or(WireError::Number { what: "binding event", number })
    }
}

/// A decoded record of the binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingRecord {
    pub event: BindingEvent,
    /// Number of the stream.
    pub roll: u64,
    /// Id of the start of the daemon that wrote it.
    pub start: Uuid,
    /// The state after it.
    pub state: BindingState,
}

#[derive(Encode, Decode)]
struct MarkV1 {
    epoch: u64,
    position: u64,
    hash: [u8; 32],
}

/// Version 1 of the payload. Frozen.
#[derive(Encode, Decode)]
struct PayloadV1 {
    event: u16,
    roll: u64,
    start: [u8; 16],
    journal: [u8; 16],
    cluster: Option<String>,
    supersedes: Vec<[u8; 16]>,
    acknowledged: Option<MarkV1>,
    intended: Option<MarkV1>,
    doubt: Option<String>,
}

/// The stream of that number.
pub fn stream(journal: Uuid, roll: u64) -> StreamId {
    let mut bytes = b"binding".to_vec();
    bytes.extend_from_slice(journal.as_bytes());
    bytes.extend_from_slice(&roll.to_be_bytes());
    StreamId(Uuid::new_v5(&STREAM_NAMESPACE, &bytes))
}

/// Whether a record belongs to the binding.
pub fn is_binding(record: &Record) -> bool {
    record.kind == KIND
}

/// Encodes a record.
///
/// # Errors
/// It is above the limit of a record.
pub fn encode(binding: &BindingRecord, at: Timestamp) -> Result<Record, WireError> {
    let BindingRecord { event, roll, start, state } = binding;
    let mark = |mark: &BindingMark| MarkV1 { epoch: mark.epoch, position: mark.position, hash: mark.hash };
    let payload = PayloadV1 {
        event: *event as u16,
        roll: *roll,
        start: start.into_bytes(),
        journal: state.journal.into_bytes(),
        cluster: state.cluster.as_ref().map(|uid| uid.0.clone()),
        supersedes: state.supersedes.iter().map(|id| id.into_bytes()).collect(),
        acknowledged: state.acknowledged.as_ref().map(mark),
        // The mark of an intent is its own head, which is known only after it is written.
        intended: state.intended.as_ref().filter(|_| *event != BindingEvent::Intended).map(mark),
        doubt: state.doubt.clone(),
    };
    let (kind, payload) = records::encode(KIND, &payload)?;
    Ok(Record { kind, version: VERSION, time_ns: at.0, payload })
}

/// Decodes an entry.
///
/// # Errors
/// It is a record of another kind or version, or its bytes are malformed.
pub fn decode(entry: &Entry) -> Result<BindingRecord, WireError> {
    let mut read = decode_record(&entry.record)?;
    if read.event == BindingEvent::Intended {
        let (epoch, position, hash) = (entry.epoch, entry.position, entry.hash);
        read.state.intended = Some(BindingMark { epoch, position, hash });
    }
    Ok(read)
}

fn decode_record(record: &Record) -> Result<BindingRecord, WireError> {
    let Record { kind, version, ref payload, .. } = *record;
    if kind != KIND {
        return Err(WireError::Kind { kind });
    }
    if version != VERSION {
        return Err(WireError::Version { kind, found: version, known: VERSION });
    }
    let read: PayloadV1 = records::read(kind, payload)?;
    let mark = |mark: MarkV1| BindingMark { epoch: mark.epoch, position: mark.position, hash: mark.hash };
    let state = BindingState {
        journal: Uuid::from_bytes(read.journal),
        cluster: read.cluster.map(Uid),
        supersedes: read.supersedes.into_iter().map(Uuid::from_bytes).collect(),
        acknowledged: read.acknowledged.map(mark),
        intended: read.intended.map(mark),
        doubt: read.doubt,
    };
    let (event, start) = (BindingEvent::of(read.event)?, Uuid::from_bytes(read.start));
    Ok(BindingRecord { event, roll: read.roll, start, state })
}

/// The text of a record; none if it is of another kind.
pub fn text(record: &Record) -> Option<String> {
    if record.kind != KIND {
        return None;
    }
    let Ok(read) = decode_record(record) else {
        return Some("a record of the binding that this stillpoint does not know".to_owned());
    };
    let (journal, cluster) = (read.state.journal, read.state.cluster.map(|uid| uid.0).unwrap_or_default());
    Some(match read.event {
        BindingEvent::Identified => format!("the journal has the id {journal}"),
        BindingEvent::Intended => format!("journal {journal} is about to be bound to cluster {cluster}"),
        BindingEvent::Acknowledged => format!("journal {journal} is bound to cluster {cluster}"),
        BindingEvent::Doubted => {
            format!(
                "nothing is freed until the cluster is confirmed: {}",
                read.state.doubt.unwrap_or_default()
            )
        }
        BindingEvent::Confirmed => "an operator confirmed the cluster: storage may be freed".to_owned(),
        BindingEvent::Closed => "the next stream of the binding has begun".to_owned(),
    })
}

/// The newest record of the binding among the entries of the open streams; none in a journal that has no id
/// yet.
///
/// # Errors
/// The record cannot be decoded.
pub fn newest<'a>(
    streams: impl IntoIterator<Item = &'a (Uuid, Vec<Entry>)>,
) -> Result<Option<BindingRecord>, WireError> {
    let entries = streams.into_iter().flat_map(|(_, entries)| entries);
    let newest = entries.filter(|entry| is_binding(&entry.record)).max_by_key(|entry| entry.position);
    newest.map(decode).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> BindingState {
        BindingState {
            cluster: Some(Uid::from("cluster-1")),
            supersedes: vec![Uuid::from_u128(7)],
            acknowledged: Some(BindingMark { epoch: 3, position: 9, hash: [4; 32] }),
            intended: Some(BindingMark { epoch: 4, position: 11, hash: [5; 32] }),
            doubt: Some("it went back".to_owned()),
            ..BindingState::new(Uuid::from_u128(1))
        }
    }

    #[test]
    fn binding_records_round_trip() {
        for event in BindingEvent::ALL {
            let record = BindingRecord { event, roll: 5, start: Uuid::from_u128(2), state: state() };
            let encoded = encode(&record, Timestamp(8)).expect("encoded");
            let mut read = decode_record(&encoded).expect("decoded");
            if event == BindingEvent::Intended {
                assert_eq!(read.state.intended, None, "an intent has the mark of its own head");
                read.state.intended = state().intended;
            }
            assert_eq!(read, record);
            assert!(text(&encoded).is_some_and(|text| !text.contains("does not know")));
        }
    }

    #[test]
    fn unknown_versions_and_numbers_are_errors() {
        let record = BindingRecord {
            event: BindingEvent::Closed,
            roll: 1,
            start: Uuid::nil(),
            state: BindingState::new(Uuid::from_u128(1)),
        };
        let encoded = encode(&record, Timestamp(0)).expect("encoded");
        let newer = Record { version: 2, ..encoded.clone() };
        assert!(matches!(decode_record(&newer), Err(WireError::Version { found: 2, .. })));
        assert!(text(&newer).is_some_and(|text| text.contains("does not know")));
        let mut odd = encoded;
        odd.payload[0] = 99;
        assert!(matches!(decode_record(&odd), Err(WireError::Number { number: 99, .. })));
    }
}
