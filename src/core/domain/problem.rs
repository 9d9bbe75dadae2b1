//! Errors that a person reads: a code, the object, the reason and the way out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Codes of errors. A code, once released, keeps its number and its meaning; `stillpoint explain` expands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u16)]
pub enum Code {
    /// The Backup asks for something that this release does not do.
    Unsupported = 1,
    /// The Backup is malformed.
    InvalidBackup = 2,
    /// An included namespace does not exist.
    NamespaceMissing = 3,
    /// A PersistentVolumeClaim of the group cannot be snapshotted.
    ClaimUnfit = 4,
    /// The volumes of one group belong to several drivers.
    SeveralDrivers = 5,
    /// No, or no single, VolumeGroupSnapshotClass.
    GroupClass = 6,
    /// No, or no single, VolumeSnapshotClass for the release.
    SnapshotClass = 7,
    /// More members than the limit.
    TooManyMembers = 8,
    /// The cluster does not serve `groupsnapshot.storage.k8s.io`.
    GroupApiMissing = 9,
    /// An object of our name is not ours.
    ForeignObject = 10,
    /// The content froze other volumes than the plan.
    MembersDiffer = 11,
    /// The driver cannot cut groups.
    DriverCannot = 12,
    /// The driver failed.
    DriverFailed = 13,
    /// The cut did not come in time.
    CutTimeout = 14,
    /// The members did not become ready in time.
    ReadyTimeout = 15,
    /// Somebody else deleted an object of the run.
    DeletedByOther = 16,
    /// The API server refuses our calls.
    Refused = 17,
    /// A claim of the plan changed or vanished before the cut.
    PlanOutdated = 18,
    /// A newer daemon has taken the run over.
    Overtaken = 19,
    /// A member's content is gone although it was retained.
    ContentLost = 20,
    /// The API server does not grant a right that a group needs.
    RightsMissing = 21,
    /// A person abandoned the run before the pivot; it is undone.
    Abandoned = 22,
    /// A person abandoned the run after the pivot; its storage is retained.
    AbandonedRetained = 23,
    /// A run cannot be resumed or abandoned.
    NotAskable = 24,
    /// The members were not cut at one moment, or that is not known, and it is required.
    NotAtomic = 25,
    /// The journal is damaged.
    JournalCorrupt = 30,
    /// Another process holds the journal.
    JournalLocked = 31,
    /// The journal was written by a newer release.
    JournalNewer = 32,
    /// The journal cannot be read or written.
    JournalIo = 33,
    /// There is no journal.
    JournalMissing = 34,
    /// The cluster has objects of a run that the journal does not know.
    UnknownRun = 35,
    /// The journal was lost before the run could be told to have been cut completely.
    JournalLost = 36,
    /// The journal must not write to this cluster, or not in this namespace.
    BindingRefused = 37,
    /// The cluster shows an older state than before: its etcd was restored.
    ClusterWentBack = 38,
    /// The namespace has a Velero server in it.
    VeleroNamespace = 39,
    /// The API server cannot be reached.
    Unreachable = 40,
    /// The command line or a file named on it is wrong.
    Usage = 50,
    /// Something that should be impossible; our own defect.
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
    /// Kind, e.g. `PersistentVolumeClaim`; a file or directory is `File`.
    pub kind: String,
    /// Namespace; empty for an object of the cluster.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl About {
    /// An object.
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

/// What went wrong, with which object, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code} {about}: {reason}; {fix}")]
pub struct Problem {
    /// Code.
    pub code: Code,
    /// The object.
    pub about: About,
    /// Why.
    pub reason: String,
    /// What to do.
    pub fix: String,
}

impl Problem {
    /// A problem.
    pub fn new(code: Code, about: About, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, about, reason: reason.into(), fix: fix.into() }
    }
}
