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
/// Backup has no status subresource, because Velero's has none: its clients write the status with the object.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut backup = Backup::crd();
    for version in &mut backup.spec.versions {
        version.subresources = None;
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
    fn a_group_snapshot_has_a_status_of_its_own_and_the_promised_columns() {
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

    #[test]
    fn a_backup_keeps_fields_that_we_do_not_know_and_has_no_status_subresource() {
        assert_eq!(crds()[1].metadata.name.as_deref(), Some("backups.velero.io"));
        let version = version(1);
        assert!(version.get("subresources").is_none());
        let properties = &version["schema"]["openAPIV3Schema"]["properties"];
        for part in ["spec", "status"] {
            assert_eq!(properties[part]["x-kubernetes-preserve-unknown-fields"], true, "{part}");
            assert!(properties[part].get("additionalProperties").is_none(), "{part} would not be structural");
        }
        assert_eq!(properties["spec"]["properties"]["hooks"]["x-kubernetes-preserve-unknown-fields"], true);
        assert_eq!(properties["spec"]["properties"]["volumeGroupSnapshotLabelKey"]["type"], "string");
    }
}
