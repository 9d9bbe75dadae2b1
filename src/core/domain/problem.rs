//! Defines errors for users: code, object, reason and fix.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Error codes. A released code keeps its number and its meaning. `stillpoint explain` describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u16)]
pub enum Code {
    /// The Backup requests a feature that this release does not support.
    Unsupported = 1,
    /// The Backup is malformed.
    InvalidBackup = 2,
    /// An included namespace does not exist.
    NamespaceMissing = 3,
    /// A PersistentVolumeClaim of the group cannot be snapshotted.
    ClaimUnfit = 4,
    /// The volumes of one group belong to several drivers.
    SeveralDrivers = 5,
    /// No VolumeGroupSnapshotClass matches, or more than one.
    GroupClass = 6,
    /// No VolumeSnapshotClass for the release matches, or more than one.
    SnapshotClass = 7,
    /// The group has more members than the limit.
    TooManyMembers = 8,
    /// The cluster does not serve `groupsnapshot.storage.k8s.io`.
    GroupApiMissing = 9,
    /// An object with a computed name of Stillpoint does not belong to Stillpoint.
    ForeignObject = 10,
    /// The content froze other volumes than the plan has.
    MembersDiffer = 11,
    /// The driver does not support group snapshots.
    DriverCannot = 12,
    DriverFailed = 13,
    /// The group was not cut before `csiSnapshotTimeout`.
    CutTimeout = 14,
    /// The members did not become ready before `itemOperationTimeout`.
    ReadyTimeout = 15,
    /// Another component deleted an object of the run.
    DeletedByOther = 16,
    /// The API server refuses Stillpoint's calls.
    Refused = 17,
    /// A PVC of the plan changed or was deleted before the cut.
    PlanOutdated = 18,
    /// A newer daemon has taken the run over.
    Overtaken = 19,
    /// A member's content is gone although its policy was Retain.
    ContentLost = 20,
    /// The API server does not grant a permission that a group needs.
    #[serde(rename = "RightsMissing")]
    PermissionsMissing = 21,
    /// An operator abandoned the run before the pivot. The run is rolled back.
    Abandoned = 22,
    /// An operator abandoned the run after the pivot. Its storage is retained.
    AbandonedRetained = 23,
    /// The run cannot be resumed or abandoned.
    NotAskable = 24,
    /// The plan requires an atomic cut, and the skew of the members is too large or unknown.
    NotAtomic = 25,
    /// The journal is damaged.
    JournalCorrupt = 30,
    /// Another process has locked the journal.
    JournalLocked = 31,
    /// The journal was written by a newer release.
    JournalNewer = 32,
    /// The journal cannot be read or written.
    JournalIo = 33,
    /// There is no journal.
    JournalMissing = 34,
    /// The cluster has objects of a run that is not in the journal.
    UnknownRun = 35,
    /// The journal was lost before the run had recorded a complete cut.
    JournalLost = 36,
    /// The journal must not write to this cluster or namespace.
    BindingRefused = 37,
    /// The cluster has an older state than before: its etcd was restored.
    ClusterWentBack = 38,
    /// A Velero server runs in the namespace.
    VeleroNamespace = 39,
    /// The API server cannot be reached.
    Unreachable = 40,
    /// The command line, or a file named on it, is invalid.
    Usage = 50,
    /// A state that should be impossible: a defect of Stillpoint.
    Internal = 99,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SP{:04}", *self as u16)
    }
}

/// The object that a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct About {
    /// Kind, for example `PersistentVolumeClaim`; `File` for a file or directory.
    pub kind: String,
    /// Namespace; empty for a cluster-scoped object.
    pub namespace: String,
    pub name: String,
}

impl About {
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind.as_str(), self.namespace.as_str()) {
            ("", "") => f.write_str(&self.name),
            (kind, "") => write!(f, "{kind} {}", self.name),
            (kind, namespace) => write!(f, "{kind} {namespace}/{}", self.name),
        }
    }
}

/// An error with its object, its reason and its fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code} {about}: {reason}; {fix}")]
pub struct Problem {
    pub code: Code,
    pub about: About,
    /// Cause.
    pub reason: String,
    /// How to fix it.
    pub fix: String,
}

impl Problem {
    pub fn new(code: Code, about: About, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, about, reason: reason.into(), fix: fix.into() }
    }
}
