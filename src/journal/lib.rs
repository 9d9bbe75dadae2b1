//! Records every decision and its outcome on disk before any effect reaches the cluster.
//!
//! # Guarantees
//! - An acknowledged record is on disk, also after a loss of power. Only then is there a [`Durable`].
//!   Without a [`Durable`] no effect reaches the cluster.
//! - A record is never rewritten. Each carries the hash of the one before it, so a change, a gap or a
//!   truncation is detected, with its position. Every repair is recorded.
//! - There is one writer. Each open claims a higher epoch, on disk, before it returns a handle.
//! - Stillpoint defines the format ([`envelope`]). A journal can be checked and moved without its store.
//!
//! # A journal directory
//! | name | contents |
//! |---|---|
//! | `sled/` | the database: trees `records`, `streams` and `meta` |
//! | `evidence/` | the log: the same records in plain segment files |
//! | `lock` | locked by the writer |
//! | `owner.json` | the last process that opened the journal: process id, host, epoch |
//! | `daemon.sock` | the socket on which a running daemon serves readers |
//! | `archive/` | the oldest records, in files that are never written again ([`archive`]) |
//! | `ballast` | space that is freed when the disk is full |
//! | `sled.broken-N`, `evidence.broken-N` | unusable files that were replaced in epoch N |
//!
//! The database and the log are the two halves of a journal. A lost or damaged half is rebuilt from the
//! other half. A [`Repair`] and a record report each rebuild (see [`repair`]).
//!
//! # In reading order
//! A [`Record`] becomes an [`Entry`] in an [`envelope`]. Entries form a [`chain`]. A [`Store`] stores them:
//! [`SledStore`] and the log on disk, or [`MemoryStore`] on a [`Disk`] that can lose power. One writer
//! collects the queued requests into one batch with one barrier. [`Journal`] is its handle. A [`Snapshot`]
//! reads without holding the journal.
//!
//! # What is not here
//! - The meaning of a payload. To the journal it is bytes. The caller says which streams a record refers to
//!   ([`Options::links`]).
//! - Clocks. The caller passes times.
//! - Whether the state of a stream's machine allows an append. The journal checks only the caller's
//!   sequence.

pub mod archive;
mod archived;
mod ballast;
mod beside;
pub mod chain;
mod durable;
pub mod envelope;
mod error;
pub mod export;
mod fault_injection;
mod handle;
mod layout;
mod lock;
mod log;
mod memory;
mod open;
mod options;
mod owner;
mod reconcile;
mod record;
pub mod repair;
mod repair_half;
mod replace;
mod scan;
mod sled_store;
mod snapshot;
mod store;
mod twin;
mod verification;
mod worker;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use beside::evidence_problem;
pub use chain::{ChainProblem, Fault, Verified};
pub use durable::Durable;
pub use envelope::{MAX_PAYLOAD_BYTES, SCHEMA};
pub use error::{AppendError, JournalError};
pub use fault_injection::{Answer, Call, FaultInjection};
pub use handle::Journal;
pub use memory::{Disk, MemoryStore};
pub use open::Opened;
pub use options::Options;
pub use owner::Owner;
pub use record::{Entry, Head, HeadSyntax, Links, Record, no_links};
pub use repair::Repair;
pub use replace::Replacement;
pub use sled_store::SledStore;
pub use snapshot::Snapshot;
pub use store::{Batch, Meta, Store, StoreError, StoredRecord, StreamHead, StreamState, Truncation};
pub use verification::{Verdict, Verification, Verifier};
pub use worker::MAX_BATCH_REQUESTS;
pub use writer::{Appended, MAX_APPEND_BYTES, MAX_APPEND_RECORDS};
