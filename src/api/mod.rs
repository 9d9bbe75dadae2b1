//! Kubernetes types that `k8s-openapi` does not have. Data only: no client, no rule of ours.
//!
//! | module | group | kinds |
//! |---|---|---|
//! | [`snapshot`] | `snapshot.storage.k8s.io/v1` | VolumeSnapshot, VolumeSnapshotContent, VolumeSnapshotClass |
//! | [`group_snapshot`] | `groupsnapshot.storage.k8s.io` | VolumeGroupSnapshot, its content, its class |
//! | [`backup`] | `velero.io/v1` | Backup |
//! | [`stillpoint`] | `stillpoint.dev/v1alpha1` | GroupSnapshot |
//!
//! The snapshot kinds belong to others: only the fields that Stillpoint reads are here, and these types are never
//! written back. What Stillpoint writes to them are patches and small bodies, which `cluster` makes. That keeps the
//! caches lean and cannot drop a field that a newer version has.
//!
//! The group kinds exist in three versions that are the same objects. One struct reads all of them; which version a
//! call names is data ([`group_snapshot::Version`]), chosen when the cluster is discovered.

mod resource;

pub mod backup;
pub mod group_snapshot;
pub mod snapshot;
pub mod stillpoint;

pub use backup::{Backup, BackupSpec, BackupStatus};
pub use group_snapshot::{
    Version, VolumeGroupSnapshot, VolumeGroupSnapshotClass, VolumeGroupSnapshotContent,
};
pub use snapshot::{VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent};
pub use stillpoint::{GroupSnapshot, GroupSnapshotSpec, GroupSnapshotStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The CustomResourceDefinitions that Stillpoint brings: GroupSnapshot, and Backup for clusters without Velero.
///
/// Backup has no status subresource, because Velero's has none: its clients write the status with the object. Its spec
/// may be absent.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut backup = backup::BackupDefinition::crd();
    for version in &mut backup.spec.versions {
        version.subresources = None;
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            schema.required = None;
            schema.title = None;
        }
    }
    vec![GroupSnapshot::crd(), backup]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(index: usize) -> serde_json::Value {
        serde_json::to_value(&crds()[index].spec.versions[0]).expect("a definition is JSON")
    }

    #[test]
    fn group_snapshot_has_status_subresource_and_documented_columns() {
        let crd = &crds()[0];
        assert_eq!(crd.metadata.name.as_deref(), Some("groupsnapshots.stillpoint.dev"));
        assert_eq!(
            (crd.spec.scope.as_str(), crd.spec.names.short_names.as_deref()),
            ("Namespaced", Some(&["gsnap".to_owned()][..]))
        );
        let version = version(0);
        assert_eq!(version["name"], "v1alpha1");
        assert_eq!(version["subresources"]["status"], serde_json::json!({}));
        let columns: Vec<_> = version["additionalPrinterColumns"]
            .as_array()
            .expect("columns")
            .iter()
            .map(|column| [column["name"].clone(), column["jsonPath"].clone()])
            .collect();
        let expected = [
            ["STATE", ".status.state"],
            ["MEMBERS", ".status.members"],
            ["SKEW", ".status.skewMs"],
            ["BACKUP", ".spec.backupRef.name"],
            ["AGE", ".metadata.creationTimestamp"],
            ["WAITING", ".status.waitingFor"],
        ];
        assert_eq!(serde_json::json!(columns), serde_json::json!(expected));
    }

    fn schema_of_backup() -> serde_json::Value {
        version(1)["schema"]["openAPIV3Schema"].take()
    }

    /// Calls `visit` for each schema with its path.
    fn walk(schema: &serde_json::Value, path: &str, visit: &mut impl FnMut(&str, &serde_json::Value)) {
        visit(path, schema);
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            walk(below, &format!("{path}.{name}"), visit);
        }
        for below in ["items", "additionalProperties"] {
            if schema[below].is_object() {
                walk(&schema[below], &format!("{path}[]"), visit);
            }
        }
    }

    #[test]
    fn the_backup_requires_only_what_velero_requires() {
        assert_eq!(crds()[1].metadata.name.as_deref(), Some("backups.velero.io"));
        assert!(version(1).get("subresources").is_none(), "Velero writes the status with the object");
        let mut required = Vec::new();
        walk(&schema_of_backup(), "", &mut |path, schema| {
            let names = schema["required"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
            required.extend(names.map(|name| format!("{path}.{name}")));
        });
        let hook = ".spec.hooks.resources[]";
        let mut expected =
            vec![".spec.resourcePolicy.kind".to_owned(), ".spec.resourcePolicy.name".to_owned()];
        expected.push(format!("{hook}.name"));
        for phase in ["pre", "post"] {
            expected.extend([format!("{hook}.{phase}[].exec"), format!("{hook}.{phase}[].exec.command")]);
        }
        for selector in [".spec.labelSelector", ".spec.orLabelSelectors[]", &format!("{hook}.labelSelector")]
        {
            expected.extend(["key", "operator"].map(|name| format!("{selector}.matchExpressions[].{name}")));
        }
        required.sort();
        expected.sort();
        assert_eq!(required, expected);
    }

    #[test]
    fn backup_crd_prunes_unknown_fields() {
        walk(&schema_of_backup(), "", &mut |path, schema| {
            assert_eq!(schema["x-kubernetes-preserve-unknown-fields"], serde_json::Value::Null, "{path}");
            let is_object = schema["type"] == "object";
            let says = schema["properties"].is_object() || schema["additionalProperties"].is_object();
            assert!(!is_object || says, "{path} would lose all its fields");
        });
        let properties = &schema_of_backup()["properties"];
        let count = |part: &str| properties[part]["properties"].as_object().map(serde_json::Map::len);
        assert_eq!((count("spec"), count("status")), (Some(28), Some(20)));
    }
}
