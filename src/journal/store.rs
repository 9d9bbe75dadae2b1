//! Defines the interface between the writer and its storage.
//!
//! A store applies a batch completely or not at all, also in a crash. The batch is durable once
//! [`Store::sync`] has returned. The store of a directory has two parts: the log, which that sync makes
//! durable, and its index, which [`Store::sync_index`] makes durable later. A store interprets no envelopes,
//! hashes or streams beyond the keys that it gets. There is one writer at a time. A second writer is refused
//! when it opens the store.

use std::io;
use std::time::Duration;

use uuid::Uuid;

use super::archive::Policy;
use super::envelope::SCHEMA;
use super::record::Head;

/// The journal's state that is stored with each batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Schema of envelope and trees.
    pub schema: u16,
    /// The last epoch that was claimed.
    pub epoch: u64,
    pub head: Head,
    /// The truncation point, the head before the first available record: genesis, or the last archived record.
    pub truncated_at: Head,
}

impl Meta {
    /// The state of a journal that was never written to.
    pub fn new() -> Meta {
        Meta { schema: SCHEMA, epoch: 0, head: Head::genesis(), truncated_at: Head::genesis() }
    }
}

impl Default for Meta {
    fn default() -> Meta {
        Meta::new()
    }
}

/// Whether a stream still has work to do after an append, and which of its records stay in the live journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    /// Work is left. The next open returns its records. All of them stay.
    Open,
    /// No work is left, and something that the stream made still exists. The records that
    /// [`Options::keeps`](super::Options::keeps) selects stay.
    Holding,
    /// No work is left. Its records go to an archive. No further record follows them there.
    Finished,
}

impl StreamState {
    /// The byte that stands for the state in the log and in its index.
    pub(super) fn byte(self) -> u8 {
        match self {
            StreamState::Open => 0,
            StreamState::Finished => 1,
            StreamState::Holding => 2,
        }
    }

    /// The state of a byte. `None` for a byte that no release wrote.
    pub(super) fn of_byte(byte: u8) -> Option<StreamState> {
        match byte {
            0 => Some(StreamState::Open),
            1 => Some(StreamState::Finished),
            2 => Some(StreamState::Holding),
            _ => None,
        }
    }
}

/// The parts of a journal that an append waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// The log. Its index is synced later: after at most [`MAX_UNSYNCED`](super::MAX_UNSYNCED) records or one
    /// second.
    Log,
    /// The log and its index. For a record before an effect that cannot be taken back.
    LogAndIndex,
}

/// The stored state of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHead {
    pub stream: Uuid,
    /// Set by the last append to the stream.
    pub state: StreamState,
    /// Sequence of its last record.
    pub last_seq: u64,
    pub first_position: u64,
    pub last_position: u64,
}

impl StreamHead {
    /// The later state of the same stream, from the earlier first position.
    pub(super) fn joined(self, other: StreamHead) -> StreamHead {
        let later = if self.last_position >= other.last_position { self } else { other };
        StreamHead { first_position: self.first_position.min(other.first_position), ..later }
    }
}

/// An envelope with its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    pub position: u64,
    pub stream: Uuid,
    /// Sequence in the stream.
    pub seq: u64,
    pub envelope: Vec<u8>,
}

/// Records and state that are written together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The journal's state after the batch.
    pub meta: Meta,
    /// New records, in order of position.
    pub records: Vec<StoredRecord>,
    /// The streams of these records, after the batch.
    pub streams: Vec<StreamHead>,
}

/// Archived records that are removed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncation {
    /// The journal's state afterwards.
    pub meta: Meta,
    /// Records: position, stream, sequence.
    pub records: Vec<(u64, Uuid, u64)>,
    /// Streams that have no records left.
    pub streams: Vec<Uuid>,
}

/// The reason why a store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the store is held by another writer")]
    Held,
    /// The store failed. Its contents are unknown until the next open.
    #[error("{what}: {reason}")]
    Failed {
        /// The attempted operation, in verb form.
        what: &'static str,
        /// The store's error.
        reason: String,
    },
    #[error("{what}: no space left: {reason}")]
    Full {
        /// The attempted operation, in verb form.
        what: &'static str,
        /// The store's error.
        reason: String,
    },
    /// The store cannot open its files.
    #[error("open the index: {reason}")]
    Broken {
        /// The store's error or panic message.
        reason: String,
    },
    /// The store holds a key or value that no version of the journal wrote.
    #[error("{what} is not what a journal holds")]
    Layout {
        /// The invalid part.
        what: &'static str,
    },
}

impl StoreError {
    /// An operation that failed with `reason`.
    pub fn failed(what: &'static str, reason: impl ToString) -> StoreError {
        StoreError::Failed { what, reason: reason.to_string() }
    }

    /// An operation that failed on a file.
    pub fn io(what: &'static str, error: &io::Error) -> StoreError {
        let reason = error.to_string();
        if is_full(error) { StoreError::Full { what, reason } } else { StoreError::Failed { what, reason } }
    }
}

/// Whether the error means that there is no room, on the disk or under a quota or file size limit.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Envelopes in order of position.
pub type RawRecords<'a> = Box<dyn Iterator<Item = Result<(u64, Vec<u8>), StoreError>> + 'a>;

/// Stores the bytes of a journal. Reads see all writes, synced or not.
pub trait Store: Send {
    /// Time that a batch takes in addition to the work of the store: that of a simulated disk.
    fn latency(&self) -> Duration {
        Duration::ZERO
    }

    /// Writes a batch, completely or not at all.
    ///
    /// # Errors
    /// After an error the writer must not write to the store again.
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Returns once all writes are on disk, also after a loss of power.
    ///
    /// # Errors
    /// After an error the state of the writes since the last sync is unknown. The sync must not be
    /// repeated, because the kernel may have dropped the pages that it could not write.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Number of records that the index has and that are not on disk in it. A store without a separate index
    /// returns 0.
    fn unsynced(&self) -> u64 {
        0
    }

    /// Returns once the index is on disk as well. A store without a separate index does nothing.
    ///
    /// # Errors
    /// As [`sync`](Store::sync).
    fn sync_index(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Ends the use of the store. `head` is the last record, which is on disk.
    ///
    /// # Errors
    /// As [`sync`](Store::sync).
    fn close(&mut self, _head: Head) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes archived records, completely or not at all.
    ///
    /// # Errors
    /// As [`write`](Store::write).
    fn truncate(&mut self, truncation: &Truncation) -> Result<(), StoreError>;

    /// Ends the current log segment if the policy says so. A store without a log does nothing.
    ///
    /// # Errors
    /// As [`write`](Store::write).
    fn end_segment(&mut self, _policy: &Policy) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes archived log segments, up to record `through`.
    ///
    /// # Errors
    /// As [`write`](Store::write).
    fn release(&mut self, _through: u64) -> Result<(), StoreError> {
        Ok(())
    }

    /// The journal's [`Meta`]. `None` before the first write.
    ///
    /// # Errors
    /// The store cannot be read.
    fn meta(&self) -> Result<Option<Meta>, StoreError>;

    /// All records, starting at position `from`.
    fn records(&self, from: u64) -> RawRecords<'_>;

    fn record(&self, position: u64) -> Result<Option<Vec<u8>>, StoreError>;

    fn stream(&self, stream: Uuid) -> Result<Option<StreamHead>, StoreError>;

    fn streams(&self) -> Result<Vec<StreamHead>, StoreError>;

    /// Positions of the records of one stream, in order of sequence.
    ///
    /// # Errors
    /// The store cannot be read.
    fn positions(&self, stream: Uuid) -> Result<Vec<u64>, StoreError>;
}

impl Store for Box<dyn Store> {
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        (**self).write(batch)
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        (**self).sync()
    }
    fn unsynced(&self) -> u64 {
        (**self).unsynced()
    }
    fn sync_index(&mut self) -> Result<(), StoreError> {
        (**self).sync_index()
    }
    fn close(&mut self, head: Head) -> Result<(), StoreError> {
        (**self).close(head)
    }
    fn truncate(&mut self, truncation: &Truncation) -> Result<(), StoreError> {
        (**self).truncate(truncation)
    }
    fn end_segment(&mut self, policy: &Policy) -> Result<(), StoreError> {
        (**self).end_segment(policy)
    }
    fn release(&mut self, through: u64) -> Result<(), StoreError> {
        (**self).release(through)
    }
    fn meta(&self) -> Result<Option<Meta>, StoreError> {
        (**self).meta()
    }
    fn records(&self, from: u64) -> RawRecords<'_> {
        (**self).records(from)
    }
    fn record(&self, position: u64) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).record(position)
    }
    fn stream(&self, stream: Uuid) -> Result<Option<StreamHead>, StoreError> {
        (**self).stream(stream)
    }
    fn streams(&self) -> Result<Vec<StreamHead>, StoreError> {
        (**self).streams()
    }
    fn positions(&self, stream: Uuid) -> Result<Vec<u64>, StoreError> {
        (**self).positions(stream)
    }
}
