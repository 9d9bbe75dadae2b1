//! Verbs: the state machines. Pure: no clock, no randomness, no runtime, no cluster, no disk.
//!
//! Each machine has the same parts: `state` (what the journal folds to), `event` (what the journal records), `fold`
//! (state × event → state), `view` (state × observation → columns), `table` and `decide` (the recovery table) and
//! `effect` (what is to be done to the cluster, as data). A start is the recovery of an empty journal.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod backup;
pub mod group;
pub mod point;
