//! Defines kind 7: a run was reconstructed from the state of its cluster.

use bincode::{Decode, Encode};

use super::group::ReceiptHead;
use super::ordinals::Ordinal;
use crate::domain::ids::Uid;
use crate::machine::group::Event;
use crate::machine::group::reconstruct;
use crate::machine::group::reconstruct::Standing;
use crate::records::WireError;

/// The conclusions about the run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Reconstructed {
    /// Where the run resumes, by its number.
    pub standing: u16,
    /// Attempt, from 1.
    pub attempt: u32,
    /// Uid of the VolumeGroupSnapshot; empty if no object names it.
    pub group_uid: String,
    /// The closing record of the receipt.
    pub receipt: Option<ReceiptHead>,
    /// The observed facts, for users.
    pub seen: Vec<String>,
}

impl From<&reconstruct::Reconstructed> for Reconstructed {
    fn from(found: &reconstruct::Reconstructed) -> Self {
        Self {
            standing: found.standing.number(),
            attempt: found.attempt,
            group_uid: found.group_uid.as_ref().map(|uid| uid.0.clone()).unwrap_or_default(),
            receipt: found.receipt.as_ref().map(ReceiptHead::from),
            seen: found.seen.clone(),
        }
    }
}

impl TryFrom<Reconstructed> for Event {
    type Error = WireError;

    fn try_from(wire: Reconstructed) -> Result<Self, WireError> {
        Ok(Self::Reconstructed(Box::new(reconstruct::Reconstructed {
            standing: Standing::of(wire.standing)?,
            attempt: wire.attempt,
            group_uid: Some(Uid(wire.group_uid)).filter(|uid| !uid.0.is_empty()),
            receipt: wire.receipt.map(Into::into),
            seen: wire.seen,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ObjectId;
    use crate::domain::time::Timestamp;
    use crate::machine::group::Timed;
    use crate::machine::group::event;
    use crate::records::{Decoded, decode, encode_group};

    fn timed(receipt: Option<event::ReceiptHead>, standing: Standing) -> Timed {
        let found = reconstruct::Reconstructed {
            standing,
            attempt: 1,
            group_uid: Some(Uid("u".to_owned())),
            receipt,
            seen: vec!["x".to_owned()],
        };
        Timed { at: Timestamp(9), event: Event::Reconstructed(Box::new(found)) }
    }

    #[test]
    fn the_bytes_that_are_written_never_change() {
        let record = encode_group(&timed(None, Standing::Bound)).expect("it fits");
        assert_eq!((record.kind, record.version), (7, 1));
        assert_eq!(record.payload, [2, 1, 1, b'u', 0, 1, 1, b'x']);
    }

    #[test]
    fn round_trips_and_rejects_invalid_resume_point() {
        let object =
            ObjectId { namespace: "shop".to_owned(), name: "sp".to_owned(), uid: Uid("u".to_owned()) };
        let head = event::ReceiptHead {
            group_handle: "g".to_owned(),
            group_snapshot: object.clone(),
            group_content: object,
            secret: None,
            members: 2,
            hash: [7; 32],
            provenance: None,
        };
        for standing in Standing::KNOWN {
            let timed = timed(Some(head.clone()), *standing);
            let record = encode_group(&timed).expect("it fits");
            assert_eq!(decode(&record), Ok(Decoded::Group(timed)));
        }
        let mut record = encode_group(&timed(None, Standing::Undo)).expect("it fits");
        record.payload[0] = 6;
        assert!(decode(&record).is_err());
    }
}
