//! What the daemon shows of itself.
//!
//! | module | holds |
//! |---|---|
//! | [`logs`] | where log lines go |
//!
//! Not here yet: health endpoints, metrics, access reviews. The life of the daemon is [`crate::engine::daemon`].

pub mod logs;
