//! `velero.io/v1` Backup: the request. Fields, phases and what is optional are Velero's.
//!
//! Source: Velero 1.18, `pkg/apis/velero/v1/backup_types.go`, and two fields of the releases after it (`backupType`,
//! `metadata.annotations`). All fields are here, also those that Stillpoint refuses or ignores: the definition that is
//! generated from these types then refuses, or drops, exactly what Velero's API does not have.
//!
//! Where another definition is installed, fields that are not in Velero's API can reach the daemon. Each struct of the
//! spec keeps them in `other`, so that the Backup can be refused by their names.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use kube::core::ObjectMeta;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::resource::resource;

/// Fields that are not in Velero's API.
pub type Other = BTreeMap<String, Value>;

/// The content of a backup. Durations are Go's (`10m0s`).
#[derive(CustomResource, Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "velero.io", version = "v1", kind = "Backup", plural = "backups", namespaced)]
#[kube(root = "BackupDefinition", status = "BackupStatus", doc = "A request for a backup, and its result.")]
#[kube(printcolumn(json_path = ".status.phase", name = "STATUS", type_ = "string"))]
#[kube(printcolumn(json_path = ".metadata.creationTimestamp", name = "AGE", type_ = "date"))]
#[serde(rename_all = "camelCase")]
pub struct BackupSpec {
    /// Labels and annotations of a Backup that a Schedule makes; they have no effect in a Backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Namespaces to include; `*` or none for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub included_namespaces: Option<Vec<String>>,
    /// Namespaces to exclude.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded_namespaces: Option<Vec<String>>,
    /// Resources to include, of all scopes; `*` or none for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub included_resources: Option<Vec<String>>,
    /// Resources to exclude, of all scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded_resources: Option<Vec<String>>,
    /// Cluster-scoped resources to include.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub included_cluster_scoped_resources: Option<Vec<String>>,
    /// Cluster-scoped resources to exclude.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded_cluster_scoped_resources: Option<Vec<String>>,
    /// Namespace-scoped resources to include.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub included_namespace_scoped_resources: Option<Vec<String>>,
    /// Namespace-scoped resources to exclude.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded_namespace_scoped_resources: Option<Vec<String>>,
    /// Includes only objects that match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<Selector>,
    /// Includes only objects that match one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or_label_selectors: Option<Vec<Selector>>,
    /// Whether volumes are snapshotted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_volumes: Option<bool>,
    /// How long the backup is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Label key that groups PersistentVolumeClaims. The daemon writes the key that it used if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_group_snapshot_label_key: Option<String>,
    /// Whether cluster-scoped resources are included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_cluster_resources: Option<bool>,
    /// Commands to execute in pods before and after an item is backed up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<BackupHooks>,
    /// BackupStorageLocation of the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_location: Option<String>,
    /// VolumeSnapshotLocations of native snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_locations: Option<Vec<String>>,
    /// The older name of `defaultVolumesToFsBackup`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_volumes_to_restic: Option<bool>,
    /// Whether the files of all volumes of pods are backed up unless a pod says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_volumes_to_fs_backup: Option<bool>,
    /// Objects to back up first, by resource: names, with the namespace before a slash, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered_resources: Option<BTreeMap<String, String>>,
    /// How long to wait until a snapshot is cut; 10 minutes by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csi_snapshot_timeout: Option<String>,
    /// How long to wait until all snapshots are ready; 4 hours by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_operation_timeout: Option<String>,
    /// ConfigMap with volume policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_policy: Option<PolicyRef>,
    /// Whether the data of snapshots are moved to the storage location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_move_data: Option<bool>,
    /// Data mover; Velero's own if empty or `velero`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datamover: Option<String>,
    /// How the data mover uploads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploader_config: Option<UploaderConfig>,
    /// Whether the data mover uploads everything or what changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "backup_types")]
    pub backup_type: Option<String>,
    /// Fields that are not in Velero's API.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A request for a backup, and its result. The definition is generated from [`BackupDefinition`]; objects are read as
/// this type, because their spec may be absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Backup {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The request.
    #[serde(default)]
    pub spec: BackupSpec,
    /// The result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<BackupStatus>,
}

resource!(Backup, NamespaceResourceScope, "velero.io", "backups", (), |()| "v1");

impl Backup {
    /// A Backup of this name, without a namespace.
    pub fn new(name: &str, spec: BackupSpec) -> Self {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        Self { metadata, spec, status: None }
    }
}

/// Metadata of a Backup that a Schedule makes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Fields that are not in Velero's API.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Objects are selected that match all labels and all expressions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Labels with their values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Expressions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<SelectorRequirement>>,
    /// Fields that are not in Velero's API.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

impl Selector {
    /// Whether it has a label or an expression; without any it matches every object.
    pub fn is_restrictive(&self) -> bool {
        self.match_labels.as_ref().is_some_and(|labels| !labels.is_empty())
            || self.match_expressions.as_ref().is_some_and(|expressions| !expressions.is_empty())
    }
}

/// One expression of a selector.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SelectorRequirement {
    /// Label key.
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    pub operator: String,
    /// Values, for In and NotIn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    /// Fields that are not in Velero's API.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Commands to execute in pods before and after an item is backed up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BackupHooks {
    /// Hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<ResourceHook>>,
    /// Fields that are not in Velero's API.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Hooks of the objects that match.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceHook {
    /// Name of the hook.
    pub name: String,
    /// Namespaces to include; none for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub included_namespaces: Option<Vec<String>>,
    /// Namespaces to exclude.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded_namespaces: Option<Vec<String>>,
    /// Resources to include; none for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub included_resources: Option<Vec<String>>,
    /// Resources to exclude.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded_resources: Option<Vec<String>>,
    /// Includes only objects that match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<Selector>,
    /// Commands before the object is backed up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre: Option<Vec<Hook>>,
    /// Commands after the object is backed up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post: Option<Vec<Hook>>,
    /// Fields that are not in Velero's API.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Hook {
    /// The command.
    pub exec: ExecHook,
    /// Fields that are not in Velero's API.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// A command to execute in a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecHook {
    /// Container of the pod; the first one by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The command and its arguments.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// Whether an error ends the backup of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "error_modes")]
    pub on_error: Option<String>,
    /// How long to wait until the command ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Fields that are not in Velero's API.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// Reference to the ConfigMap with the volume policies.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// API group; none for a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
    /// `configmap`, in upper or lower case.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Fields that are not in Velero's API.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// How the data mover uploads.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploaderConfig {
    /// Files that are uploaded in parallel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel_files_upload: Option<i64>,
    /// Fields that are not in Velero's API.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: Other,
}

/// The result of a backup. As a projection, a field that is `None` is left as it was.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// Major version of the format of the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Version of the format of the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format_version: Option<String>,
    /// When it may be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration: Option<Time>,
    /// Phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "phases")]
    pub phase: Option<String>,
    /// Position in the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<i64>,
    /// Why the request was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_errors: Option<Vec<String>>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timestamp: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_timestamp: Option<Time>,
    /// Native snapshots that were attempted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshots_attempted: Option<i64>,
    /// Native snapshots that were completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshots_completed: Option<i64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Number of warnings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnings: Option<i64>,
    /// Number of errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<i64>,
    /// Progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<BackupProgress>,
    /// CSI snapshots that were attempted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csi_volume_snapshots_attempted: Option<i64>,
    /// CSI snapshots that were completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csi_volume_snapshots_completed: Option<i64>,
    /// Asynchronous operations that were attempted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_item_operations_attempted: Option<i64>,
    /// Asynchronous operations that were completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_item_operations_completed: Option<i64>,
    /// Asynchronous operations that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_item_operations_failed: Option<i64>,
    /// Hooks that were executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook_status: Option<HookStatus>,
}

/// Progress of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupProgress {
    /// Items to back up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_items: Option<i64>,
    /// Items that were backed up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items_backed_up: Option<i64>,
}

/// Hooks that were executed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookStatus {
    /// Hooks that were attempted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks_attempted: Option<i64>,
    /// Hooks that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks_failed: Option<i64>,
}

/// Velero's phases. A phase of a later release is read as well: only the definition is strict.
fn phases(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": [
        "New", "Queued", "ReadyToStart", "FailedValidation", "InProgress", "WaitingForPluginOperations",
        "WaitingForPluginOperationsPartiallyFailed", "Finalizing", "FinalizingPartiallyFailed", "Completed",
        "PartiallyFailed", "Failed", "Deleting",
    ] })
}

fn backup_types(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["Full", "Incremental"] })
}

fn error_modes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["Continue", "Fail"] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_outside_the_api_survive_a_round_trip() {
        let written = serde_json::json!({
            "includedNamespaces": ["shop"],
            "volumeGroupSnapshotLabelKey": "app",
            "uploaderConfig": { "parallelFilesUpload": 10 },
            "hooks": { "resource": [{ "name": "freeze" }] },
            "labelSelector": { "matchLabel": { "app": "shop" } },
            "includeNamespaces": ["other"],
        });
        let spec: BackupSpec = serde_json::from_value(written.clone()).expect("a spec");
        assert_eq!(spec.volume_group_snapshot_label_key.as_deref(), Some("app"));
        assert_eq!(serde_json::to_value(&spec).expect("JSON"), written);
    }

    #[test]
    fn accepts_backup_without_spec() {
        let backup: Backup = serde_json::from_value(serde_json::json!({
            "apiVersion": "velero.io/v1", "kind": "Backup", "metadata": { "name": "all" },
        }))
        .expect("a Backup");
        assert_eq!((backup.metadata.name.as_deref(), backup.spec), (Some("all"), BackupSpec::default()));
    }
}
