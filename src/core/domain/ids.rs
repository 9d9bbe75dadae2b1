//! Defines the ids of journal streams, objects and positions in the cluster.
//!
//! A stream id is computed from the request (UUIDv5). One request therefore never has two runs. A restarted
//! daemon that receives the request again finds the existing run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Namespace UUID of all stream ids. Part of the journal's format; never changes.
pub const STREAM_NAMESPACE: Uuid = Uuid::from_u128(0x9d0c_5f6e_2a41_5b7e_8c53_71d0_64ab_e2f9);

/// Subject of a journal stream. The word is part of the stream id and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// One Backup: its requested groups and their results.
    Backup,
    /// One run of one group.
    Group,
}

impl StreamKind {
    /// The word that is hashed into the stream id.
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Group => "group",
        }
    }
}

/// Id of one journal stream, and so of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub Uuid);

impl StreamId {
    /// Computes the id of the stream of `kind` for a request with these `fields`.
    ///
    /// Each field is preceded by its length (u32, big-endian), so that ("ab", "c") and ("a", "bc") differ.
    pub fn compute(kind: StreamKind, fields: &[&str]) -> Self {
        let mut bytes = kind.word().as_bytes().to_vec();
        for field in fields {
            bytes.extend_from_slice(&(field.len() as u32).to_be_bytes());
            bytes.extend_from_slice(field.as_bytes());
        }
        Self(Uuid::new_v5(&STREAM_NAMESPACE, &bytes))
    }

    /// The stream of the Backup with this uid.
    pub fn of_backup(backup_uid: &str) -> Self {
        Self::compute(StreamKind::Backup, &[backup_uid])
    }

    /// The stream of one group run of a Backup: one per namespace, label key and label value.
    pub fn of_group(backup_uid: &str, namespace: &str, label_key: &str, label_value: &str) -> Self {
        Self::compute(StreamKind::Group, &[backup_uid, namespace, label_key, label_value])
    }

    /// The first twelve hex digits, as used in object names and in the private label.
    pub fn short(&self) -> String {
        self.0.simple().to_string()[..12].to_owned()
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<StreamId> for Uuid {
    fn from(id: StreamId) -> Self {
        id.0
    }
}

impl FromStr for StreamId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The uid that the API server gave to one object. It identifies the object: names can be reused, uids
/// cannot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(pub String);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Namespace, name and uid of an object of a known kind. Every write except a create has the uid as
/// precondition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId {
    /// Namespace; empty for a cluster-scoped object.
    pub namespace: String,
    pub name: String,
    pub uid: Uid,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_request_has_same_stream_id() {
        let id = StreamId::of_group("uid-1", "shop", "velero.io/volume-group", "orders-db");
        assert_eq!(id, StreamId::of_group("uid-1", "shop", "velero.io/volume-group", "orders-db"));
        assert_ne!(
            StreamId::compute(StreamKind::Group, &["ab", "c"]),
            StreamId::compute(StreamKind::Group, &["a", "bc"])
        );
        assert_ne!(
            StreamId::compute(StreamKind::Group, &["a"]),
            StreamId::compute(StreamKind::Backup, &["a"])
        );
    }

    #[test]
    fn stream_ids_never_change_between_releases() {
        assert_eq!(
            StreamId::of_backup("00000000-0000-0000-0000-000000000001").to_string(),
            "532dbd6a-75c6-50f2-8748-1b06930096bf"
        );
    }
}
