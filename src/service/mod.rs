//! What the daemon shows of itself.
//!
//! | module | holds |
//! |---|---|
//! | [`logs`] | where log lines go |
//! | [`http`] | the listener: `/livez`, `/readyz`, `/metrics` |
//! | [`metrics`] | what is counted, under which names |
//!
//! Not here: the life of the daemon ([`crate::engine::daemon`]), what is alive and ready in it
//! ([`crate::engine::health`]), and access reviews (`engine::preflight`).

pub mod http;
pub mod logs;
pub mod metrics;
