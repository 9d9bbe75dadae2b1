//! Audits a journal: lists its events in order, and checks whether every decision would be the same again.
//!
//! This module works on entries that the caller has read, and never on a cluster: an auditor needs only the
//! journal.
//!
//! | module | holds |
//! |---|---|
//! | [`streams`] | entries folded into runs: the data of `journal list` |
//! | [`replay`](mod@replay) | every decision repeated and compared |
//! | [`describe`](mod@describe) | one record as one line |
//! | [`timeline`](mod@timeline) | records as lines, with the gaps that crashes left |
//! | [`explain`](mod@explain) | the reason of a record |
//! | [`diff`](mod@diff) | the changes between two records |
//! | [`shown`] | one record as data |
//! | [`orphans`] | objects and storage that belong to no run any more |
//!
//! Not here: the verification of the hash chain ([`crate::journal::chain`]). A caller verifies a journal
//! before it replays it.

pub mod describe;
pub mod diff;
pub mod explain;
mod finished;
pub mod orphans;
mod record_text;
pub mod replay;
pub mod shown;
pub mod streams;
pub mod timeline;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use describe::describe;
pub use diff::{Changed, Diff, Incomparable, diff};
pub use explain::{Explained, explain};
pub use replay::{Difference, Replay, ReplayReport, replay};
pub use shown::Shown;
pub use streams::{Folded, Stream, Streams};
pub use timeline::{Open, Row, only, timeline};
