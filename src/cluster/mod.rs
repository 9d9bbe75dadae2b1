//! The cluster: the adapter between Stillpoint's words and the Kubernetes API.
//!
//! | module | promises |
//! |---|---|
//! | [`connect`] | a client without hidden retries, and what the cluster serves |
//! | [`observe`] | objects of the API as `domain::observed`: pure |
//! | [`effects`] | each effect as the calls that it takes, exact to the byte: pure |
//! | [`perform`] | **the door for effects**: one durable intent, one effect, one outcome |
//! | [`project`] | **the door for projections**: our own objects, the Backup, Events. There is no third door |
//! | [`read`] | reads from the API server itself |
//! | [`classify`] | whether a failed call certainly did not happen |
//! | [`patch`] | JSON patches that test what they replace |
//!
//! Deliberately not here: caches and watches (`engine::world`), retries (the machine decides again), and any decision.

pub mod changed;
pub mod classify;
pub mod connect;
pub mod effects;
pub mod observe;
pub mod patch;
pub mod perform;
pub mod project;
pub mod read;

mod call;
mod spec;

pub use changed::{Changed, Kind};
pub use connect::{Adapter, client_config};
pub use perform::Performed;

/// The kinds that the caches of the engine hold, as the API has them.
pub mod kinds {
    pub use crate::api::{
        Backup, BackupStatus, GroupSnapshotSpec, GroupSnapshotStatus, VolumeGroupSnapshot,
        VolumeGroupSnapshotClass, VolumeGroupSnapshotContent, VolumeSnapshot, VolumeSnapshotClass,
        VolumeSnapshotContent, backup, stillpoint,
    };
}
