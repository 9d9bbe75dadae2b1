//! What a payload means: events of the machines as bytes, and bytes as events.
//!
//! # What it promises
//! - The bytes of a released version never change. The structs of [`v1`] and [`v2`] are frozen and apart from the machine's
//!   types, which may move as they like; every value of an enum has a number of its own, given out once.
//! - What is encoded decodes to the same event, or is refused when it is encoded: too large, or a view of another
//!   shape than the machine's.
//! - Bytes from outside never panic and never ask for more than a bounded allocation. A number, kind or version that
//!   this release does not know is an error with a sentence.
//!
//! # Kinds
//! | kind | event | struct |
//! |---:|---|---|
//! | 1 | a group run is planned | [`v1::group::Planned`], [`v2::group::Planned`] |
//! | 2 | a step is intended | [`v1::group::Intended`] |
//! | 3 | a step has ended | [`v1::group::Ended`] |
//! | 4 | a part of a receipt | [`v1::group::ReceiptPart`] |
//! | 5 | a milestone is reached | [`v2::group::Reached`] |
//! | 6 | a person asked something of a group run | [`v1::asked::Asked`] |
//! | 7 | a run was reconstructed from its cluster | [`v1::reconstructed::Reconstructed`] |
//! | 16 | a Backup is accepted | [`v1::backup::Accepted`] |
//! | 17 | a Backup has finished | [`v1::backup::Finished`], [`v2::backup::Finished`] |
//!
//! Where two are named, the second is written only for what the first cannot say.
//!
//! A payload is bincode 2 in its standard configuration (variable-length integers, little-endian). Older versions are
//! brought to the present one by [`migrations`] before they are decoded.
//!
//! # What is not here
//! The envelope and its hash ([`journal::envelope`](crate::journal::envelope)), and whether an event may follow the ones
//! before it (`fold`).

pub mod binding;
mod codec;
mod fit;
mod links;
pub mod migrations;
mod problem;
pub mod v1;
pub mod v2;

#[cfg(test)]
mod tests;

pub use codec::{Decoded, decode, encode_backup, encode_group};
pub(crate) use codec::{encode, read};
pub use fit::{fit_backup, fit_group};
pub use links::journal_options;
pub use problem::{code, problem};

use self::migrations::UpcastError;
use crate::journal::{MAX_PAYLOAD_BYTES, Record, repair};

/// The sentence of a record that is the journal's word about itself: a repair, a checkpoint, or its binding; none if it is
/// of another kind.
pub fn text(record: &Record) -> Option<String> {
    repair::text(record).or_else(|| binding::text(record))
}

/// Kinds of records. A number that was given out is never reused.
pub mod kind {
    /// A group run is planned.
    pub const GROUP_PLANNED: u16 = 1;
    /// A step of a group run is intended.
    pub const GROUP_INTENDED: u16 = 2;
    /// A step of a group run has ended.
    pub const GROUP_ENDED: u16 = 3;
    /// A part of the receipt of a group run.
    pub const GROUP_RECEIPT_PART: u16 = 4;
    /// A milestone of a group run is reached.
    pub const GROUP_REACHED: u16 = 5;
    /// A person asked something of a group run.
    pub const GROUP_ASKED: u16 = 6;
    /// A group run was reconstructed from its cluster.
    pub const GROUP_RECONSTRUCTED: u16 = 7;
    /// A Backup is accepted.
    pub const BACKUP_ACCEPTED: u16 = 16;
    /// A Backup has finished.
    pub const BACKUP_FINISHED: u16 = 17;

    /// The word for a kind, in tables and messages; none for one that this release does not know.
    pub fn word(kind: u16) -> Option<&'static str> {
        Some(match kind {
            GROUP_PLANNED => "planned",
            GROUP_INTENDED => "intend",
            GROUP_ENDED => "ended",
            GROUP_RECEIPT_PART => "receipt",
            GROUP_REACHED => "reached",
            GROUP_ASKED => "asked",
            GROUP_RECONSTRUCTED => "rebuilt",
            BACKUP_ACCEPTED => "accepted",
            BACKUP_FINISHED => "finished",
            _ => return None,
        })
    }
}

/// Why an event has no bytes, or bytes no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A kind that this release does not know.
    #[error("records of kind {kind} are not known to this stillpoint")]
    Kind {
        /// The kind.
        kind: u16,
    },
    /// A version that this release neither reads nor upcasts.
    #[error("version {found} of kind {kind} is not known to this stillpoint, which reads version {known}")]
    Version {
        /// The kind.
        kind: u16,
        /// The version of the payload.
        found: u16,
        /// The version that is read.
        known: u16,
    },
    /// The bytes are not a payload of their kind.
    #[error("the payload does not decode as kind {kind}: {reason}")]
    Bytes {
        /// The kind.
        kind: u16,
        /// What the codec said.
        reason: String,
    },
    /// Bytes are left after the payload.
    #[error("{bytes} bytes are left after a payload of kind {kind}")]
    Trailing {
        /// The kind.
        kind: u16,
        /// How many.
        bytes: usize,
    },
    /// A number that no value has.
    #[error("{number} is no {what} that this stillpoint knows")]
    Number {
        /// Of what it should be one.
        what: &'static str,
        /// The number.
        number: u16,
    },
    /// The view has another shape than the machine's.
    #[error("the view does not fit the columns: {reason}")]
    View {
        /// In which way.
        reason: String,
    },
    /// The payload is above the limit of a record.
    #[error("a payload of kind {kind} has {bytes} bytes, above the limit of {MAX_PAYLOAD_BYTES}")]
    TooLarge {
        /// The kind.
        kind: u16,
        /// How many bytes.
        bytes: usize,
    },
    /// The codec refused to encode.
    #[error("an event of kind {kind} does not encode: {reason}")]
    Encode {
        /// The kind.
        kind: u16,
        /// What the codec said.
        reason: String,
    },
    /// An older payload could not be brought to the present version.
    #[error(transparent)]
    Upcast(#[from] UpcastError),
}
