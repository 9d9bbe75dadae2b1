//! Defines version 1 of every payload. Frozen: nothing in these structs is ever edited, reordered or removed.
//!
//! | module | holds |
//! |---|---|
//! | [`common`] | types that several payloads share |
//! | [`group`] | payloads of a group stream |
//! | [`asked`] | an operator's request to a run |
//! | [`backup`] | payloads of a Backup stream |
//! | [`ordinals`] | the number of every value of every enum |
//! | [`columns`] | the numbers of the columns of a view and of their values |
//!
//! Times are nanoseconds since 1970-01-01T00:00:00Z, durations are milliseconds, stream ids are the 16 bytes
//! of their UUID, uids of objects are strings as the API server returned them. Maps are lists of pairs in the
//! order of their keys.

pub mod asked;
pub mod backup;
pub mod columns;
pub mod common;
pub mod group;
mod group_from;
pub mod ordinals;
pub mod reconstructed;
