//! Stillpoint: crash-consistent snapshots of groups of Kubernetes volumes, by a service that never loses its place.

pub mod domain;
pub mod machine;
pub mod planning;

#[cfg(feature = "full")]
pub mod api;
#[cfg(feature = "full")]
pub mod audit;
#[cfg(feature = "full")]
pub mod cli;
#[cfg(feature = "full")]
pub mod cluster;
#[cfg(feature = "full")]
pub mod drill;
#[cfg(feature = "full")]
pub mod engine;
#[cfg(feature = "full")]
pub mod journal;
#[cfg(feature = "full")]
pub mod service;
#[cfg(feature = "full")]
pub mod sim;
