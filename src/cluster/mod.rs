//! Adapts Stillpoint's types to the Kubernetes API.
//!
//! | module | promises |
//! |---|---|
//! | [`connect`] | a client without hidden retries, and what the cluster serves |
//! | [`observe`] | objects of the API as `domain::observed`: pure |
//! | `objects` | the kinds of objects that effects change, one row for each |
//! | [`perform`] | **performs effects**: one durable intent, one effect, one outcome |
//! | [`project`] | **writes projections**: our own objects, the Backup, Events. No other module writes |
//! | [`ask`] | an operator's request to a run: read by the daemon, written by the command line |
//! | [`binding`] | the object that names the journal that may write |
//! | [`velero_server`] | whether a namespace belongs to a Velero server |
//! | [`access`] | the permissions that all of it needs, and their review |
//! | [`read`] | reads from the API server |
//! | [`namesake`] | Backups of one name in the whole cluster |
//! | [`classify`] | whether a failed call certainly did not happen |
//!
//! Not here: caches and watches (`engine::cache`), retries (the machine decides again), and any decision.

pub mod access;
pub mod ask;
pub mod binding;
pub mod changed;
pub mod classify;
pub mod connect;
pub mod namesake;
pub mod observe;
pub mod perform;
pub mod project;
pub mod read;
pub mod velero_server;

mod call;
mod objects;

pub use changed::ObjectChange;
pub use connect::{Adapter, client_config};
pub use objects::plural;
pub use perform::EffectResult;
pub use project::{Claim, Turn};

/// The kinds that the engine caches and projects, as the API defines them.
pub mod kinds {
    pub use crate::api::stillpoint::{
        GroupSnapshotAnswer, GroupSnapshotBackupRef, GroupSnapshotBlocker, GroupSnapshotMember,
        GroupSnapshotReceipt, GroupSnapshotWait, JournalHead,
    };
    pub use crate::api::{
        Backup, BackupSpec, BackupStatus, GroupSnapshot, GroupSnapshotSpec, GroupSnapshotStatus,
        VolumeGroupSnapshot, VolumeGroupSnapshotClass, VolumeGroupSnapshotContent, VolumeSnapshot,
        VolumeSnapshotClass, VolumeSnapshotContent, crds,
    };
}
