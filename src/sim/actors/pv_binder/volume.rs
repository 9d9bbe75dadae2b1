//! Reconciles PersistentVolumes whose PVC was deleted.

use serde_json::{Value, json};

use super::Binder;
use crate::actors::object;
use crate::actors::strings::{DELETE, DRIVER, finalizer, plural};

impl Binder {
    pub(super) async fn sync_volume(&self, key: &str) -> Result<(), String> {
        let Some(volume) = self.volumes.get(key) else { return Ok(()) };
        if self.has_pvc(&volume).await? {
            return Ok(());
        }
        if object::is_deleting(&volume) {
            return self.remove_protection(&volume).await;
        }
        if object::text(&volume, "/status/phase") != Some("Released") {
            let mut wanted = Value::clone(&volume);
            object::set(&mut wanted, &["status", "phase"], json!("Released"));
            let updated = self.client.update_status(plural::VOLUMES, wanted).await;
            return updated.map(drop).map_err(|status| status.message);
        }
        let is_ours = object::text(&volume, "/spec/csi/driver") == Some(DRIVER);
        if is_ours && object::text(&volume, "/spec/persistentVolumeReclaimPolicy") == Some(DELETE) {
            self.storage.delete_volume(object::text(&volume, "/spec/csi/volumeHandle").unwrap_or_default());
            let deleted = self.client.delete(plural::VOLUMES, None, key).await;
            return deleted
                .or_else(|status| if status.is_not_found() { Ok(()) } else { Err(status.message) });
        }
        Ok(())
    }

    /// Returns whether the PVC of the volume still exists. A volume that never had a PVC is not changed.
    async fn has_pvc(&self, volume: &Value) -> Result<bool, String> {
        let Some(uid) = object::text(volume, "/spec/claimRef/uid") else {
            return Ok(!object::is_deleting(volume));
        };
        let name = object::text(volume, "/spec/claimRef/name").unwrap_or_default();
        let namespace = object::text(volume, "/spec/claimRef/namespace");
        match self.client.get_shared(plural::PVCS, namespace, name).await {
            Ok(pvc) => Ok(object::uid(&pvc) == uid),
            Err(status) if status.is_not_found() => Ok(false),
            Err(status) => Err(status.message),
        }
    }

    async fn remove_protection(&self, volume: &Value) -> Result<(), String> {
        let left = object::without_finalizers(volume, &[finalizer::PROVISIONER, finalizer::VOLUME]);
        let operations = json!([{"op": "add", "path": "/metadata/finalizers", "value": left}]);
        let patched = self.client.patch(plural::VOLUMES, volume, operations).await;
        patched.map(drop).or_else(|status| if status.is_not_found() { Ok(()) } else { Err(status.message) })
    }
}
