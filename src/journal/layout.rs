//! Encodes the keys and values of the three trees.
//!
//! | tree | key | value |
//! |---|---|---|
//! | `records` | position | envelope |
//! | `streams` | `00` ‖ stream id | state (0 open, 1 finished, 2 holding) ‖ last sequence ‖ first position ‖ last position |
//! | `streams` | `01` ‖ stream id ‖ sequence | position |
//! | `meta` | `schema` | 2 bytes |
//! | `meta` | `epoch` | 8 bytes |
//! | `meta` | `head`, `cut` | position ‖ hash |
//!
//! Numbers are big-endian, so that sled's order is the numeric order. The heads of streams precede the
//! positions, so that an open reads only the heads.

use uuid::Uuid;

use super::record::Head;
use super::store::{StoreError, StreamHead, StreamState};

pub(super) const HEADS: u8 = 0;
const POSITIONS: u8 = 1;

pub(super) fn stream_key(stream: Uuid) -> [u8; 17] {
    tagged(HEADS, stream)
}

pub(super) fn position_prefix(stream: Uuid) -> [u8; 17] {
    tagged(POSITIONS, stream)
}

pub(super) fn position_key(stream: Uuid, seq: u64) -> [u8; 25] {
    let mut key = [0; 25];
    key[..17].copy_from_slice(&position_prefix(stream));
    key[17..].copy_from_slice(&seq.to_be_bytes());
    key
}

fn tagged(tag: u8, stream: Uuid) -> [u8; 17] {
    let mut key = [tag; 17];
    key[1..].copy_from_slice(stream.as_bytes());
    key
}

pub(super) fn stream_value(head: &StreamHead) -> [u8; 25] {
    let mut value = [0; 25];
    value[0] = head.state.byte();
    value[1..9].copy_from_slice(&head.last_seq.to_be_bytes());
    value[9..17].copy_from_slice(&head.first_position.to_be_bytes());
    value[17..].copy_from_slice(&head.last_position.to_be_bytes());
    value
}

pub(super) fn read_stream(key: &[u8], value: &[u8]) -> Result<StreamHead, StoreError> {
    let wrong = || StoreError::Layout { what: "the head of a stream" };
    let (&[HEADS], id) = key.split_first_chunk().ok_or_else(wrong)? else { return Err(wrong()) };
    let stream = Uuid::from_slice(id).map_err(|_| wrong())?;
    let value: &[u8; 25] = value.try_into().map_err(|_| wrong())?;
    let state = StreamState::of_byte(value[0]).ok_or_else(wrong)?;
    let number = |at: usize| number(&value[at..at + 8], "the head of a stream");
    let (last_seq, first_position, last_position) = (number(1)?, number(9)?, number(17)?);
    Ok(StreamHead { stream, state, last_seq, first_position, last_position })
}

pub(super) fn number(bytes: &[u8], what: &'static str) -> Result<u64, StoreError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| StoreError::Layout { what })
}

pub(super) fn schema(bytes: &[u8]) -> Result<u16, StoreError> {
    bytes.try_into().map(u16::from_be_bytes).map_err(|_| StoreError::Layout { what: "the schema" })
}

pub(super) fn head_value(head: &Head) -> [u8; 40] {
    let mut value = [0; 40];
    value[..8].copy_from_slice(&head.position.to_be_bytes());
    value[8..].copy_from_slice(&head.hash);
    value
}

pub(super) fn read_head(bytes: &[u8]) -> Result<Head, StoreError> {
    let wrong = || StoreError::Layout { what: "the head" };
    let (position, hash) = bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
    Ok(Head { position: u64::from_be_bytes(*position), hash: hash.try_into().map_err(|_| wrong())? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_streams_round_trip() {
        let head = Head { position: 258, hash: [7; 32] };
        assert_eq!(head_value(&head)[..8], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(read_head(&head_value(&head)), Ok(head));
        for state in [StreamState::Open, StreamState::Holding, StreamState::Finished] {
            let stream = Uuid::from_u128(5);
            let head = StreamHead { stream, state, last_seq: 3, first_position: 4, last_position: 9 };
            assert_eq!(read_stream(&stream_key(stream), &stream_value(&head)), Ok(head));
        }
    }

    #[test]
    fn invalid_bytes_cause_error_not_panic() {
        let key = stream_key(Uuid::nil());
        assert!(read_stream(&[], &[]).is_err());
        assert!(read_stream(&key, &[0; 24]).is_err());
        assert!(read_stream(&key, &[3; 25]).is_err());
        assert!(read_stream(&key[..9], &[0; 25]).is_err());
        assert!(read_stream(&position_prefix(Uuid::nil()), &[0; 25]).is_err());
        assert!(read_head(&[0; 39]).is_err() && read_head(&[0; 3]).is_err());
        assert!(number(&[0; 7], "x").is_err() && schema(&[0; 3]).is_err());
    }

    #[test]
    fn stream_heads_sort_before_positions() {
        let last = Uuid::from_u128(u128::MAX);
        assert!(stream_key(last).as_slice() < position_key(Uuid::nil(), 0).as_slice());
    }
}
