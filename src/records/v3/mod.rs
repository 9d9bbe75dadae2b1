//! Defines version 3 of the payloads that have one. Frozen: nothing in these structs is ever edited, reordered or
//! removed.
//!
//! | kind | in version 3 |
//! |---:|---|
//! | 1 | a plan has its class, and what a restore needs of each PVC (`migrations/0008_receipts`) |
//! | 5 | a receipt says where and when the cut was made (`migrations/0008_receipts`) |
//!
//! Unchanged types come from [`super::v2`].

pub mod group;
mod group_from;
