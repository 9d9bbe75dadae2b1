//! Version 1 of every payload. Frozen: nothing in these structs is ever edited, reordered or removed.
//!
//! | module | holds |
//! |---|---|
//! | [`common`] | what several payloads share |
//! | [`group`] | payloads of a group stream |
//! | [`asked`] | what a person asked of a run |
//! | [`backup`] | payloads of a Backup stream |
//! | [`ordinals`] | the number of every value of every enum |
//! | [`columns`] | the numbers of the columns of a view and of their values |
//!
//! Times are nanoseconds since 1970-01-01T00:00:00Z, durations milliseconds, stream ids the 16 bytes of their UUID,
//! uids of objects strings as the API server gave them. Maps are lists of pairs in the order of their keys.

pub mod asked;
pub mod backup;
pub mod columns;
pub mod common;
pub mod group;
mod group_from;
pub mod ordinals;
pub mod reconstructed;
