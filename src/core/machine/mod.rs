//! Defines the state machines. They are pure: no clock, randomness, async runtime, cluster or disk.
//!
//! Each machine has the same parts: `state` (the fold of the journal), `event` (the records of the journal),
//! `fold` (state × event → state), `view` (state × observation → columns), `table` and `decide` (the recovery
//! table) and `effect` (calls to the cluster, as data). A start is the recovery of an empty journal.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod backup;
pub mod group;
pub mod point;
