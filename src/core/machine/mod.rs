//! Defines the state machines. They are pure: no clock, randomness, async runtime, cluster or disk.
//!
//! [`kit`] carries every machine; [`group`] and [`backup`] are machines. A start is the recovery of an empty
//! journal.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod backup;
pub mod group;
pub mod kit;
pub mod points;

/// Ids of the rows of all machines.
pub fn row_ids() -> impl Iterator<Item = &'static str> {
    let group = group::table::TABLE.iter().map(|row| row.id);
    group.chain(backup::table::TABLE.iter().map(|row| row.id))
}
