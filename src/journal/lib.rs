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
//! | `log/` | the log, which is the journal: the records in plain segment files |
//! | `sled/` | its index: the same records in trees `records`, `streams` and `meta`, by stream |
//! | `lock` | locked by the writer |
//! | `owner.json` | the last process that opened the journal: process id, host, epoch |
//! | `daemon.sock` | the socket on which a running daemon serves readers |
//! | `archive/` | the oldest records, in files that are never written again ([`archive`]) |
//! | `reserved` | the blocks of the next segment of the log |
//! | `ballast` | space that is freed when the disk is full |
//! | `sled.broken-N`, `log.broken-N` | files that were replaced in epoch N |
//!
//! A record is acknowledged when the log is on disk and the index has taken the same batch. The index is
//! synced behind the log, and brought up to it by each open. An index that is not a prefix of the log is
//! rebuilt. A damaged log is never repaired silently: the open fails, and [`Journal::rebuild_from_index`]
//! takes the records that the log cannot read from the index.
//!
//! # In reading order
//! A [`Record`] becomes an [`Entry`] in an [`envelope`]. Entries form a [`chain`]. A [`Store`] stores them:
//! the log and [`SledStore`] on disk, or [`MemoryStore`] on a [`Disk`] that can lose power. One writer
//! collects the queued requests into one batch with one barrier. [`Journal`] is its handle. A [`Snapshot`]
//! reads without holding the journal.
//!
//! # What is not here
//! - The meaning of a payload. To the journal it is bytes. The caller says which streams a record refers to
//!   ([`Options::links`]), and which records of a stream stay that has ended and still holds something
//!   ([`Options::keeps`]).
//! - Clocks. The caller passes times.
//! - Whether the state of a stream's machine allows an append. The journal checks only the caller's
//!   sequence.

pub mod archive;
mod archived;
mod ballast;
mod beside;
mod catch_up;
pub mod chain;
mod durable;
mod earlier;
pub mod envelope;
mod error;
pub mod export;
mod fault;
mod fault_injection;
mod handle;
mod judge;
mod layout;
mod lock;
mod log;
mod logged_store;
mod memory;
mod open;
mod options;
mod owner;
mod owner_file;
mod paths;
mod rebuild;
mod record;
pub mod repair;
mod replace;
mod room;
mod scan;
mod sled_store;
mod snapshot;
mod staged;
mod store;
mod verification;
mod worker;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use beside::check_beside;
pub use chain::Verified;
pub use durable::Durable;
pub use envelope::{MAX_PAYLOAD_BYTES, SCHEMA};
pub use error::{AppendError, JournalError};
pub use fault::{ChainProblem, Fault};
pub use fault_injection::{Answer, Call, FaultInjection};
pub use handle::Journal;
pub use memory::{Disk, MemoryStore};
pub use open::Opened;
pub use options::Options;
pub use owner::Owner;
pub use record::{
    Entry, Head, HeadSyntax, Keeps, Links, MAX_APPEND_BYTES, MAX_APPEND_RECORDS, Record, keeps_all, no_links,
};
pub use repair::{Rebuilt, Repair};
pub use replace::Replacement;
pub use sled_store::SledStore;
pub use snapshot::Snapshot;
pub use staged::Appended;
pub use store::{Barrier, Batch, Meta, Store, StoreError, StoredRecord, StreamHead, StreamState, Truncation};
pub use verification::{Verdict, Verification, Verifier};
pub use worker::MAX_BATCH_REQUESTS;
pub use writer::MAX_UNSYNCED;
