//! Defines types that several payloads share.

use bincode::{Decode, Encode};

use crate::domain::ids::{ObjectId, Uid};
use crate::domain::plan;

/// An object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Object {
    /// Namespace; empty for an object of the cluster.
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl From<&ObjectId> for Object {
    fn from(id: &ObjectId) -> Self {
        Self { namespace: id.namespace.clone(), name: id.name.clone(), uid: id.uid.0.clone() }
    }
}

impl From<Object> for ObjectId {
    fn from(Object { namespace, name, uid }: Object) -> Self {
        Self { namespace, name, uid: Uid(uid) }
    }
}

/// The Backup that requested a run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct BackupRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl From<&plan::BackupRef> for BackupRef {
    fn from(backup: &plan::BackupRef) -> Self {
        Self { namespace: backup.namespace.clone(), name: backup.name.clone(), uid: backup.uid.0.clone() }
    }
}

impl From<BackupRef> for plan::BackupRef {
    fn from(BackupRef { namespace, name, uid }: BackupRef) -> Self {
        Self { namespace, name, uid: Uid(uid) }
    }
}
