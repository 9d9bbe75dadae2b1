//! Encodes events of the machines as bytes, and decodes bytes as events.
//!
//! # What it promises
//! - The bytes of a released version never change. The structs of [`v1`] and [`v2`] are frozen and separate
//!   from the machine's types, which may change freely. Every value of an enum has its own number, which is
//!   never reused.
//! - An encoded event decodes to the same event. An event that is too large, or whose view has another shape
//!   than the machine's, is refused when it is encoded.
//! - Malformed bytes never cause a panic or an unbounded allocation. A number, kind or version that this
//!   release does not know is an error with a message.
//!
//! # Kinds
//! | kind | event | struct |
//! |---:|---|---|
//! | 1 | a group run is planned | [`v1::group::Planned`], [`v2::group::Planned`] |
//! | 2 | a step is intended | [`v1::group::Intended`] |
//! | 3 | a step has ended | [`v1::group::Ended`] |
//! | 4 | a part of a receipt | [`v1::group::ReceiptPart`] |
//! | 5 | a milestone is reached | [`v2::group::Reached`] |
//! | 6 | an operator sent a request to a group run | [`v1::asked::Asked`] |
//! | 7 | a run was reconstructed from its cluster | [`v1::reconstructed::Reconstructed`] |
//! | 16 | a Backup is accepted | [`v1::backup::Accepted`] |
//! | 17 | a Backup has finished | [`v1::backup::Finished`], [`v2::backup::Finished`] |
//! | 48 to 54 | a Backup: planned, intended, ended, part, milestone, request, reconstructed | [`backup`] |
//!
//! Kinds 16 and 17 are read and not written any more.
//!
//! Where two are named, the second is written only for content that the first cannot express.
//!
//! A payload is bincode 2 in its standard configuration (variable-length integers, little-endian).
//! [`migrations`] upcasts older versions to the current one before they are decoded.
//!
//! # What is not here
//! The envelope and its hash ([`journal::envelope`](crate::journal::envelope)), and whether an event may
//! follow the ones before it (`fold`).

pub mod backup;
pub mod binding;
mod codec;
mod fit;
pub mod kit;
mod links;
pub mod migrations;
mod problem;
pub mod v1;
pub mod v2;
mod v3;

#[cfg(test)]
pub(crate) mod tests;

pub use backup::{encode_backup, fit_backup};
pub use codec::{Decoded, decode, encode_earlier_backup, encode_group};
pub(crate) use codec::{encode, read};
pub use fit::fit_group;
pub use links::journal_options;
pub use problem::{code, problem};

use self::migrations::UpcastError;
use crate::journal::{MAX_PAYLOAD_BYTES, Record, repair};

/// The text of a record of the journal about itself: a repair, a checkpoint, or its binding; none if it is of
/// another kind.
pub fn text(record: &Record) -> Option<String> {
    repair::text(record).or_else(|| binding::text(record))
}

/// Kinds of records. A number is never reused.
pub mod kind {
    pub const GROUP_PLANNED: u16 = 1;
    pub const GROUP_INTENDED: u16 = 2;
    /// A step of a group run has ended.
    pub const GROUP_ENDED: u16 = 3;
    /// A part of the receipt of a group run.
    pub const GROUP_RECEIPT_PART: u16 = 4;
    /// A milestone of a group run is reached.
    pub const GROUP_REACHED: u16 = 5;
    /// An operator sent a request to a group run.
    pub const GROUP_ASKED: u16 = 6;
    /// A group run was reconstructed from its cluster.
    pub const GROUP_RECONSTRUCTED: u16 = 7;
    pub const BACKUP_ACCEPTED: u16 = 16;
    pub const BACKUP_FINISHED: u16 = 17;
    /// A Backup is planned: the first of seven kinds (`super::kit::Recorded`).
    pub const BACKUP_PLANNED: u16 = 48;
    pub const BACKUP_INTENDED: u16 = 49;
    /// A step of a Backup has ended.
    pub const BACKUP_ENDED: u16 = 50;
    /// The plan of a group of a Backup.
    pub const BACKUP_PART: u16 = 51;
    /// A milestone of a Backup is reached.
    pub const BACKUP_REACHED: u16 = 52;
    /// An operator sent a request to a Backup.
    pub const BACKUP_ASKED: u16 = 53;
    /// Not written yet: a Backup was reconstructed.
    pub const BACKUP_RECONSTRUCTED: u16 = 54;

    /// Whether the Backup machine writes records of this kind.
    pub fn is_of_backup(kind: u16) -> bool {
        (BACKUP_PLANNED..=BACKUP_RECONSTRUCTED).contains(&kind)
    }

    /// Whether the record announces effects, whose outcomes are in a later record.
    pub fn is_intent(kind: u16) -> bool {
        matches!(kind, GROUP_INTENDED | BACKUP_INTENDED)
    }

    /// Whether the record has the outcomes of effects.
    pub fn is_outcome(kind: u16) -> bool {
        matches!(kind, GROUP_ENDED | BACKUP_ENDED)
    }

    /// The word for a kind, in tables and messages; none for one that this release does not know.
    pub fn word(kind: u16) -> Option<&'static str> {
        Some(match kind {
            GROUP_PLANNED | BACKUP_PLANNED => "planned",
            GROUP_INTENDED | BACKUP_INTENDED => "intend",
            GROUP_ENDED | BACKUP_ENDED => "ended",
            GROUP_RECEIPT_PART => "receipt",
            GROUP_REACHED | BACKUP_REACHED => "reached",
            GROUP_ASKED | BACKUP_ASKED => "asked",
            GROUP_RECONSTRUCTED | BACKUP_RECONSTRUCTED => "rebuilt",
            BACKUP_PART => "plan",
            BACKUP_ACCEPTED => "accepted",
            BACKUP_FINISHED => "finished",
            _ => return None,
        })
    }
}

/// Why an event cannot be encoded, or bytes cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A kind that this release does not know.
    #[error("records of kind {kind} are not known to this stillpoint")]
    Kind { kind: u16 },
    /// A version that this release neither reads nor upcasts.
    #[error("version {found} of kind {kind} is not known to this stillpoint, which reads version {known}")]
    Version {
        kind: u16,
        /// The version of the payload.
        found: u16,
        /// The version that is read.
        known: u16,
    },
    /// The bytes are not a payload of their kind.
    #[error("the payload does not decode as kind {kind}: {reason}")]
    Bytes {
        kind: u16,
        /// The error of the codec.
        reason: String,
    },
    /// Bytes are left after the payload.
    #[error("{bytes} bytes are left after a payload of kind {kind}")]
    Trailing {
        kind: u16,
        /// Number of bytes left.
        bytes: usize,
    },
    /// A number without a value.
    #[error("{number} is no {what} that this stillpoint knows")]
    Number {
        /// The enum or table that lacks the number.
        what: &'static str,
        number: u16,
    },
    /// A name without a value.
    #[error("{name:?} is not a {what} that this stillpoint knows")]
    Name {
        /// What the name should be: a step, a milestone, a column, a value, an effect.
        what: &'static str,
        name: String,
    },
    /// A milestone with the evidence of another one.
    #[error("milestone {milestone} has the evidence of another milestone")]
    Evidence { milestone: &'static str },
    /// The view has another shape than the machine's.
    #[error("the view does not fit the columns: {reason}")]
    View {
        /// The difference.
        reason: String,
    },
    /// The payload is above the limit of a record.
    #[error("a payload of kind {kind} has {bytes} bytes, above the limit of {MAX_PAYLOAD_BYTES}")]
    TooLarge {
        kind: u16,
        /// Size of the payload.
        bytes: usize,
    },
    /// The codec refused to encode.
    #[error("an event of kind {kind} does not encode: {reason}")]
    Encode {
        kind: u16,
        /// The error of the codec.
        reason: String,
    },
    /// An older payload could not be upcast to the current version.
    #[error(transparent)]
    Upcast(#[from] UpcastError),
}

// The journal has its own constant, because it does not depend on the core.
const _: () = assert!(crate::domain::limits::MAX_RECORD_BYTES == MAX_PAYLOAD_BYTES);
