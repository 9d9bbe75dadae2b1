//! Defines the problems of records, chains and archives.

use uuid::Uuid;

use super::record::MAX_PAYLOAD_BYTES;

/// A problem, and the record that has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {position}: {what}")]
pub struct ChainProblem {
    /// Position of the wrong record, or of the missing one.
    pub position: u64,
    pub what: Fault,
}

/// The kinds of problem of a record or a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There are fewer bytes than the shortest envelope has.
    #[error("only {bytes} bytes, too few for an envelope")]
    Short { bytes: usize },
    /// The bytes do not match their hash.
    #[error("its hash does not hold")]
    Hash,
    /// This binary does not know the schema.
    #[error("written with schema {found}; this stillpoint reads schemas up to {known}")]
    Schema {
        /// Schema of the envelope.
        found: u16,
        /// The newest schema that this binary reads.
        known: u16,
    },
    /// This binary does not know the payload codec.
    #[error("payload codec {found} is not known")]
    Codec {
        /// Codec byte of the envelope.
        found: u8,
    },
    /// The length field disagrees with the bytes.
    #[error("declares a payload of {declared} bytes but holds {found}")]
    Length {
        /// Length in the envelope, in bytes.
        declared: u32,
        /// Actual length in bytes.
        found: usize,
    },
    /// The payload is above the limit of every writer.
    #[error("payload of {bytes} bytes is above the limit of {MAX_PAYLOAD_BYTES}")]
    Oversized {
        /// Size of the payload in bytes.
        bytes: usize,
    },
    /// The record is stored under another position than its own.
    #[error("its envelope says that it is record {found}")]
    Misplaced { found: u64 },
    /// The record at this position is missing.
    #[error("is missing; record {next} comes next")]
    Missing {
        /// The next position that was found.
        next: u64,
    },
    /// The record does not carry the hash of the record before it.
    #[error("does not carry the hash of the record before it")]
    Prev,
    /// The record has an earlier epoch than the record before it.
    #[error("epoch fell from {before} to {found}")]
    Epoch {
        /// Epoch of the record before it.
        before: u64,
        found: u64,
    },
    /// A stream has a gap or a repetition.
    #[error("is number {found} of stream {stream}, expected {expected}")]
    Seq {
        stream: Uuid,
        /// The sequence that continues the stream.
        expected: u64,
        found: u64,
    },
    /// The store's own record of its head names another hash.
    #[error("is not the record that the journal's head names")]
    HeadHash,
    /// The store's head of a stream disagrees with the records.
    #[error("the index of stream {stream} disagrees with its records")]
    StreamIndex { stream: Uuid },
    /// The records end before the head.
    #[error("is missing; the journal's head is record {head}")]
    EndsEarly { head: u64 },
    /// There are records behind the head.
    #[error("is behind the journal's head, record {head}")]
    PastHead { head: u64 },
    /// There are no records.
    #[error("is missing: there are no records at all")]
    Empty,
    /// The journal ends before a published head.
    #[error("is missing; a head at record {expected} was published")]
    Truncated {
        /// Position of the published head.
        expected: u64,
    },
    /// The journal has another record at the position of a published head.
    #[error("is not the record whose head was published")]
    OtherHistory,
    /// The published head is older than the oldest record of the journal.
    #[error("was archived, and the archive is not here: give its directory with --archive")]
    Archived,
    /// The journal ends in an earlier epoch than the last one that was claimed.
    #[error("is missing; the journal ends in epoch {found}, but epoch {claimed} had been claimed")]
    LostEpoch {
        /// Epoch in the journal.
        found: u64,
        /// Epoch in `owner.json`.
        claimed: u64,
    },
    /// The journal does not begin with a known genesis hash.
    #[error("the chain does not begin with a known genesis hash")]
    Genesis,
    /// A log segment does not begin with a valid header.
    #[error("cannot be read: segment {segment} of the log has no valid header")]
    SegmentHeader { segment: u64 },
    /// A log segment is missing.
    #[error("is missing: there is no segment {segment} of the log")]
    SegmentMissing { segment: u64 },
    /// Bytes of a segment are not a frame, and they are not its torn end.
    #[error("cannot be read: segment {segment} of the log is damaged at byte {offset}")]
    Frame {
        segment: u64,
        /// Offset in the segment's file, in bytes.
        offset: u64,
    },
    /// The bytes of an archive end before this record.
    #[error("is not in the segment, which ends before it or has another history")]
    SegmentShort,
    /// An archive is not the one that its checkpoint names.
    #[error("is in archive {name}, which is not the file that its checkpoint names")]
    ArchiveFile { name: String },
    /// The copies before a checkpoint are not those that it names.
    #[error("does not match the copies before it, of records that are in archive {name}")]
    Carry { name: String },
    /// A copy of an archived record differs from the record.
    #[error("differs from its copy in record {copy}")]
    Copy {
        /// Position of the record with the copy.
        copy: u64,
    },
    /// The store cannot be read at this position.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// The store's error.
        reason: String,
    },
}
