//! Reads a journal for people and proofs: what happened, when, and whether it would be decided the same again.
//!
//! Everything here works on entries that somebody else read, and never on a cluster: an auditor needs the journal and
//! nothing else.
//!
//! | module | holds |
//! |---|---|
//! | [`streams`] | entries folded into runs: what `journal list` shows |
//! | [`replay`](mod@replay) | every decision made again and compared |
//! | [`describe`](mod@describe) | one record as one line |
//! | [`timeline`](mod@timeline) | records as lines, with the gaps that crashes left |
//! | [`explain`](mod@explain) | why a record is there |
//! | [`diff`](mod@diff) | what changed between two records |
//! | [`shown`] | one record as data |
//!
//! Not here: whether the chain of hashes holds ([`crate::journal::chain`]). Who replays a journal verifies it first.

pub mod describe;
pub mod diff;
pub mod explain;
mod finished;
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
