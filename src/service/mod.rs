//! Publishes logs, health and metrics of the daemon.
//!
//! | module | holds |
//! |---|---|
//! | [`logs`] | where log lines go |
//! | [`http`] | the listener: `/livez`, `/readyz`, `/metrics` |
//! | [`metrics`] | names, units and labels of the metrics |
//!
//! Not here: the start and end of the daemon ([`crate::engine::daemon`]), its liveness and readiness
//! ([`crate::engine::health`]), and access reviews (`engine::preflight`).

pub mod http;
pub mod logs;
pub mod metrics;
