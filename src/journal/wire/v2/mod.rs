//! Version 2 of the payloads that have one. Frozen: nothing in these structs is ever edited, reordered or removed.
//!
//! Only kind 5 has a version 2: `cleaned` names the members that were rebuilt (`migrations/0002_rebuilt_members`).
//! What did not change is taken from [`super::v1`].

pub mod group;
mod group_from;
