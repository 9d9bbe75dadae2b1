//! Defines version 2 of the payloads that have one. Frozen: nothing in these structs is ever edited,
//! reordered or removed.
//!
//! | kind | in version 2 |
//! |---:|---|
//! | 1 | a plan states the largest allowed difference between cut times (`migrations/0005_atomicity`) |
//! | 5 | `cleaned` names the members that were rebuilt (`migrations/0002_rebuilt_members`) |
//! | 17 | the end of a Backup has warnings (`migrations/0005_atomicity`) |
//!
//! Unchanged types come from [`super::v1`].

pub mod backup;
pub mod group;
mod group_from;
