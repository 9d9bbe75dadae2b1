//! The journal: what was decided and what came of it, on disk before anything else happens.
//!
//! # What it promises
//! - A record that was acknowledged is on disk, also after a loss of power. Only then is there a
//!   [`Durable`], and without one no effect reaches the cluster.
//! - A record is never rewritten. Each carries the hash of the one before it, so that a change, a
//!   hole or a cut is seen, with its position. Nothing is repaired silently.
//! - There is one writer. Each open claims a higher epoch, on disk, before it hands out a handle.
//! - The format is ours ([`envelope`]): a journal can be checked and moved without its store.
//!
//! # A journal directory
//! | name | what |
//! |---|---|
//! | `sled/` | the database: trees `records`, `streams` and `meta` |
//! | `evidence/` | the same records in plain segment files |
//! | `lock` | held by the one who writes |
//! | `owner.json` | who opened it last: process id, host, epoch |
//! | `daemon.sock` | where a living daemon answers those who want to read |
//! | `archive/` | the beginning, in files that nobody writes to any more ([`archive`]) |
//! | `ballast` | room that is given up when the disk is full |
//! | `sled.broken-N`, `evidence.broken-N` | what could not be used and was rebuilt in epoch N |
//!
//! Either of the first two is rebuilt from the other when it is lost or damaged, which
//! is told by a [`Repair`] and by a record (see [`repair`]).
//!
//! # In reading order
//! [`Record`] becomes an [`Entry`] in an [`envelope`]; entries make a [`chain`]; a [`Store`] keeps
//! them ([`SledStore`] and evidence on disk, [`MemoryStore`] on a [`Disk`] that can lose power); one writer
//! gathers what waits into one batch and one barrier; [`Journal`] is its handle. [`Snapshot`] reads
//! without holding.
//!
//! # What is not here
//! What a payload means: to the journal it is bytes, and the caller says which streams a record refers to
//! ([`Options::links`]). Clocks: times are given. Whether a stream may be appended to by this state of its machine: the
//! caller's sequence is checked, nothing more.

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
