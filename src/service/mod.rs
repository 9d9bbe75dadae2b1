//! The daemon around the engine: where its journal is, which cluster it serves, what it logs.
//!
//! | module | holds |
//! |---|---|
//! | [`daemon`] | one life, from opening the journal to the end of the engine |
//! | [`logs`] | where log lines go |
//!
//! Not here yet: health endpoints, metrics, access reviews.

pub mod daemon;
pub mod logs;
