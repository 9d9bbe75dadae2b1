//! `stillpoint.dev/v1alpha1` GroupSnapshot: the published status of one group run.
//!
//! One per run, in the namespace of the claims. It is a projection of the journal and never a request for a cut: what
//! is written into its spec or status changes nothing. The one thing that Stillpoint takes from it is what an operator
//! asks of the run, in a label and annotations (`cluster::ask`); the answer is in the status.
//!
//! The status is written as a merge patch of the whole, so that a field which is `None` is sent as null and vanishes.
//! Elements of lists are replaced as they are and leave out what they do not have.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which group, and who asked.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "stillpoint.dev", version = "v1alpha1", kind = "GroupSnapshot", plural = "groupsnapshots")]
#[kube(
    namespaced,
    shortname = "gsnap",
    status = "GroupSnapshotStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[kube(printcolumn = r#"{"name":"STATE","type":"string","jsonPath":".status.state"}"#)]
#[kube(printcolumn = r#"{"name":"MEMBERS","type":"string","jsonPath":".status.members"}"#)]
#[kube(printcolumn = r#"{"name":"SKEW","type":"integer","jsonPath":".status.skewMs"}"#)]
#[kube(printcolumn = r#"{"name":"BACKUP","type":"string","jsonPath":".spec.backupRef.name"}"#)]
#[kube(printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[kube(printcolumn = r#"{"name":"WAITING","type":"string","jsonPath":".status.waitingFor","priority":1}"#)]
#[serde(rename_all = "camelCase")]
pub struct GroupSnapshotSpec {
    /// The Backup that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<GroupSnapshotBackupRef>,
    /// Label key that groups the claims.
    pub label_key: String,
    /// Label value: the name of the group.
    pub group: String,
    /// CSI driver.
    pub driver: String,
    /// VolumeGroupSnapshotClass of the cut.
    pub volume_group_snapshot_class_name: String,
    /// Names of the claims.
    #[serde(default)]
    pub claims: Vec<String>,
}

/// The Backup that asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GroupSnapshotBackupRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

/// How far the run is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupSnapshotStatus {
    /// State of the run.
    pub state: Option<String>,
    /// Attempt, from 1.
    pub attempt: Option<i64>,
    /// Members that are ready, of all: `2/3`.
    pub members: Option<String>,
    /// Members that are ready.
    pub members_ready: Option<i64>,
    /// Members.
    pub members_total: Option<i64>,
    /// Largest minus smallest creation time of the members, in milliseconds.
    pub skew_ms: Option<i64>,
    /// When it began.
    pub start_time: Option<Time>,
    /// When the cut was seen.
    pub cut_time: Option<Time>,
    /// When it ended.
    pub completion_time: Option<Time>,
    /// Warnings and advice for the operator.
    pub message: Option<String>,
    /// Code of the error.
    pub code: Option<String>,
    /// What a user can do about it.
    pub advice: Option<String>,
    /// What it waits for, in one sentence.
    pub waiting_for: Option<String>,
    /// Why it waits.
    pub waiting: Option<GroupSnapshotWait>,
    /// Row of the recovery table that was decided last.
    pub row: Option<String>,
    /// The last request of an operator that was processed.
    pub answered: Option<GroupSnapshotAnswer>,
    /// Conditions.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The finished cut.
    pub receipt: Option<GroupSnapshotReceipt>,
    /// Where the journal stood when this was written.
    pub journal: Option<JournalHead>,
}

/// Why a run waits. Fields that are missing are sent as null, so that those of an earlier wait vanish.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupSnapshotWait {
    /// Row of the recovery table that waits: the step.
    pub row: String,
    /// What holds the run up, in CamelCase; none as long as the wait takes no longer than usual.
    pub cause: Option<String>,
    /// The cause as a sentence.
    pub detail: Option<String>,
    /// Since when it waits, or since when its step fails.
    pub since: Option<Time>,
    /// When the step is tried again.
    pub next_try: Option<Time>,
    /// When the run stops waiting at the latest.
    pub deadline: Option<Time>,
    /// The last answer of the API server, or the error in the status of an object.
    pub last_error: Option<String>,
    /// Objects that hold the run up.
    #[serde(default)]
    pub objects: Vec<GroupSnapshotBlocker>,
}

/// An object that holds a run up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GroupSnapshotBlocker {
    /// Kind.
    pub kind: String,
    /// Namespace; none for an object of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// The error in its status, or with which a write of it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its finalizers, where it is being deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
}

/// A request of an operator, and its result. The journal had it before anything followed from it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GroupSnapshotAnswer {
    /// Id of the request.
    pub id: String,
    /// What was asked: `resume` or `abandon`.
    pub request: String,
    /// Who asked, as the request says.
    pub by: String,
    /// When it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// What follows from it.
    pub message: String,
}

/// The finished cut.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupSnapshotReceipt {
    /// CSI group snapshot handle.
    pub group_handle: String,
    /// Members, in the order of their claims' names.
    #[serde(default)]
    pub members: Vec<GroupSnapshotMember>,
}

/// One member of a finished cut.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupSnapshotMember {
    /// Name of the claim.
    pub claim: String,
    /// Name of the VolumeSnapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot: Option<String>,
    /// CSI snapshot handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_handle: Option<String>,
    /// Whether the VolumeSnapshot is ready; false once the daemon no longer observes it, as after a run that was abandoned.
    #[serde(default)]
    pub ready_to_use: bool,
    /// When it was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// Smallest size of a volume made from it, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_size: Option<i64>,
}

/// Head of the journal: published here, so that cutting its tail is visible.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct JournalHead {
    /// Position of the last record.
    pub position: i64,
    /// Its hash, in hex.
    pub hash: String,
}
