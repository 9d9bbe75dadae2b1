//! The objects that exist in the embedded cluster from the start.
//!
//! A storage class of the hostpath CSI driver, one VolumeSnapshotClass and one VolumeGroupSnapshotClass, both
//! the defaults of that driver and with policy Delete, and Stillpoint's own namespace.

use serde_json::{Value, json};

use super::actors::strings::{
    DELETE, DRIVER, GROUP_SNAPSHOT_CLASS, GROUP_SNAPSHOT_GROUP, SNAPSHOT_CLASS, STORAGE_CLASS, annotation,
    plural,
};
use super::api_server::ApiServer;

/// The agent name under which these calls are counted.
const AGENT: &str = "deployment";

/// Creates the objects. If the group snapshot API is not served, its class is not created.
pub(super) fn create(api: &ApiServer) {
    let caller = api.caller(AGENT);
    for (plural, object) in objects() {
        if let Err(status) = caller.create(plural, object) {
            tracing::debug!(plural, reason = status.message, "left out of the deployment");
        }
    }
}

fn objects() -> [(&'static str, Value); 4] {
    [
        (
            plural::NAMESPACES,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stillpoint"}}),
        ),
        (
            plural::STORAGE_CLASSES,
            json!({
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": STORAGE_CLASS},
                "provisioner": DRIVER,
                "reclaimPolicy": DELETE,
                "volumeBindingMode": "Immediate",
                "allowVolumeExpansion": true,
            }),
        ),
        (
            plural::CLASSES,
            json!({
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshotClass",
                "metadata": {"name": SNAPSHOT_CLASS, "annotations": {annotation::DEFAULT_CLASS: "true"}},
                "driver": DRIVER,
                "deletionPolicy": DELETE,
            }),
        ),
        (
            plural::GROUP_CLASSES,
            json!({
                "apiVersion": format!("{GROUP_SNAPSHOT_GROUP}/v1"),
                "kind": "VolumeGroupSnapshotClass",
                "metadata": {
                    "name": GROUP_SNAPSHOT_CLASS,
                    "annotations": {annotation::DEFAULT_GROUP_CLASS: "true"},
                    "labels": {"velero.io/csi-volumegroupsnapshot-class": "true"},
                },
                "driver": DRIVER,
                "deletionPolicy": DELETE,
            }),
        ),
    ]
}
