//! The seam between the writer and what keeps its bytes.
//!
//! A store applies a batch completely or not at all, also across a crash, and keeps it for good
//! once [`Store::sync`] has returned. It knows nothing of envelopes, hashes or streams beyond the
//! keys it is given. There is one writer at a time; a second one is refused when it opens the store.

use std::io;
use uuid::Uuid;

use super::archive::Policy;
use super::envelope::SCHEMA;
use super::record::Head;

/// What a journal knows about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Schema of envelope and trees.
    pub schema: u16,
    /// The last epoch that was claimed.
    pub epoch: u64,
    /// The last record.
    pub head: Head,
    /// What the first record that is still here follows: genesis, or the last archived record.
    pub cut: Head,
}

impl Meta {
    /// The account of a journal that was never written to.
    pub fn new() -> Meta {
        Meta { schema: SCHEMA, epoch: 0, head: Head::genesis(), cut: Head::genesis() }
    }
}

impl Default for Meta {
    fn default() -> Meta {
        Meta::new()
    }
}

/// Whether the run of a stream still has work to do after an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    /// Its records are handed out again at the next open.
    Open,
    /// Nothing is left to do; it is read only when asked for.
    Finished,
}

/// What a journal knows about one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHead {
    /// The stream.
    pub stream: Uuid,
    /// Set by the last append to it.
    pub state: StreamState,
    /// Sequence of its last record.
    pub last_seq: u64,
    /// Position of its first record.
    pub first_position: u64,
    /// Position of its last record.
    pub last_position: u64,
}

/// Where one record goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Position of the record.
    pub position: u64,
    /// Its stream.
    pub stream: Uuid,
    /// Its sequence in the stream.
    pub seq: u64,
    /// Its envelope.
    pub envelope: Vec<u8>,
}

/// What is written as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The journal's account after the batch.
    pub meta: Meta,
    /// New records, in order of position.
    pub slots: Vec<StoredRecord>,
    /// The streams they belong to, after the batch.
    pub streams: Vec<StreamHead>,
}

/// What leaves as one, because it is archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncation {
    /// The journal's account afterwards.
    pub meta: Meta,
    /// Records: position, stream, sequence.
    pub records: Vec<(u64, Uuid, u64)>,
    /// Streams of which nothing is left.
    pub streams: Vec<Uuid>,
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another writer has it.
    #[error("the store is held by another writer")]
    Held,
    /// It failed; what it holds now is known only after it was opened again.
    #[error("{what}: {reason}")]
    Failed {
        /// What was attempted, in verb form.
        what: &'static str,
        /// What the store said.
        reason: String,
    },
    /// The disk is full.
    #[error("{what}: no space left: {reason}")]
    Full {
        /// What was attempted, in verb form.
        what: &'static str,
        /// What the store said.
        reason: String,
    },
    /// Its files are not what it can open.
    #[error("open the database: {reason}")]
    Broken {
        /// What the store said, or panicked with.
        reason: String,
    },
    /// It holds a key or value that no version of the journal wrote.
    #[error("{what} is not what a journal holds")]
    Layout {
        /// Which part.
        what: &'static str,
    },
}

impl StoreError {
    /// An attempt that failed with `reason`.
    pub fn failed(what: &'static str, reason: impl ToString) -> StoreError {
        StoreError::Failed { what, reason: reason.to_string() }
    }

    /// An attempt that failed on a file.
    pub fn io(what: &'static str, error: &io::Error) -> StoreError {
        let reason = error.to_string();
        if is_full(error) { StoreError::Full { what, reason } } else { StoreError::Failed { what, reason } }
    }
}

/// Whether an error says that there is no room: on the disk, or under a limit of ours.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Envelopes in order of position.
pub type RawRecords<'a> = Box<dyn Iterator<Item = Result<(u64, Vec<u8>), StoreError>> + 'a>;

/// Keeps the bytes of a journal. Reads see what was written, synced or not.
pub trait Store: Send {
    /// Writes a batch, completely or not at all.
    ///
    /// # Errors
    /// After an error the store is not written to again.
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Returns once everything written is on disk, also after a loss of power.
    ///
    /// # Errors
    /// After an error nothing is known about what was written since the last sync; it must not be
    /// tried again, because the kernel may have dropped the pages that it could not write.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Takes archived records out, completely or not at all.
    ///
    /// # Errors
    /// As [`write`](Store::write).
    fn trim(&mut self, trim: &Truncation) -> Result<(), StoreError>;

    /// Ends the segment of evidence that is being written, if the policy says so. A store without evidence has none.
    ///
    /// # Errors
    /// As [`write`](Store::write).
    fn end_segment(&mut self, _policy: &Policy) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes segments of evidence that were archived, up to record `through`.
    ///
    /// # Errors
    /// As [`write`](Store::write).
    fn release(&mut self, _through: u64) -> Result<(), StoreError> {
        Ok(())
    }

    /// The journal's account of itself; none before the first write.
    ///
    /// # Errors
    /// The store cannot be read.
    fn meta(&self) -> Result<Option<Meta>, StoreError>;

    /// All records from a position on.
    fn records(&self, from: u64) -> RawRecords<'_>;

    /// One record.
    ///
    /// # Errors
    /// The store cannot be read.
    fn record(&self, position: u64) -> Result<Option<Vec<u8>>, StoreError>;

    /// One stream.
    ///
    /// # Errors
    /// The store cannot be read.
    fn stream(&self, stream: Uuid) -> Result<Option<StreamHead>, StoreError>;

    /// All streams, in no particular order.
    ///
    /// # Errors
    /// The store cannot be read.
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
    fn trim(&mut self, trim: &Truncation) -> Result<(), StoreError> {
        (**self).trim(trim)
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
