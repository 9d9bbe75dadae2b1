//! Creates the members of a group.
//!
//! For each physical snapshot of the content it creates one VolumeSnapshotContent and one VolumeSnapshot, one
//! member after the other, with five writes each. The input of the name hash, and the fields of the content
//! that list the members, depend on the release.
//!
//! This runs on every sync of a group that is not ready, over all members. Each run replaces the status of
//! each VolumeSnapshot by only the name of its content: a member that was ready is unready again for a while.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Controller;
use crate::actors::object;
use crate::actors::strings::{annotation, finalizer, plural};

/// The last part of the names of a member: SHA-256 over a uid and the volume handle, in hexadecimal.
pub(super) fn member_hash(uid: &str, volume_handle: &str) -> String {
    let digest = Sha256::digest(format!("{uid}{volume_handle}").as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The input of all writes for one member.
struct Member<'a> {
    group: &'a Value,
    content: &'a Value,
    group_handle: &'a str,
    /// The member as the content lists it.
    listed: &'a Value,
    /// `None` if the volume was deleted meanwhile, or if several volumes have its handle.
    volume: Option<Arc<Value>>,
    hash: String,
}

impl Controller {
    pub(super) async fn create_members(&self, content: &Value, group: &Value) -> Result<(), String> {
        let listed = object::items(content, &format!("/status/{}", self.release.member_list()));
        let named_after = if self.release.names_members_by_content() { content } else { group };
        let Some(group_handle) = object::text(content, "/status/volumeGroupSnapshotHandle") else {
            return Ok(());
        };
        for listed in listed {
            let handle = object::text(listed, "/volumeHandle").unwrap_or_default();
            let hash = member_hash(object::uid(named_after), handle);
            let volume = self.volume_by_handle(content, handle);
            self.create_member(&Member { group, content, group_handle, listed, volume, hash }).await?;
        }
        Ok(())
    }

    fn volume_by_handle(&self, content: &Value, handle: &str) -> Option<Arc<Value>> {
        let driver = object::text(content, "/spec/driver");
        let of_driver = |volume: &Arc<Value>| object::text(volume, "/spec/csi/driver") == driver;
        let keys = self.by_handle.keys(handle);
        let mut found: Vec<_> =
            keys.iter().filter_map(|key| self.volumes.get(key)).filter(of_driver).collect();
        found.pop().filter(|_| found.is_empty())
    }

    async fn create_member(&self, member: &Member<'_>) -> Result<(), String> {
        let failed =
            |what: &str, message: &str| format!("createSnapshotsForGroupSnapshotContent: {what} {message}");
        let content = self.create_or_get(plural::CONTENTS, member.content_body()).await;
        let content = content.map_err(|error| failed("creating volumesnapshotcontent", &error))?;
        let snapshot = self.create_or_get(plural::SNAPSHOTS, member.snapshot_body(self)).await;
        let snapshot = snapshot.map_err(|error| failed("creating volumesnapshot", &error))?;

        let uid = object::uid(&snapshot);
        let bind = json!([{"op": "replace", "path": "/spec/volumeSnapshotRef/uid", "value": uid}]);
        let bound = self.client.patch(plural::CONTENTS, &content, bind).await;
        bound.map_err(|status| failed("binding volumesnapshotcontent to volumesnapshot", &status.message))?;

        let name = object::name(&content);
        let bind = json!([
            {"op": "replace", "path": "/status", "value": {}},
            {"op": "replace", "path": "/status/boundVolumeSnapshotContentName", "value": name},
        ]);
        let bound = self.client.patch_status(plural::SNAPSHOTS, &snapshot, bind).await;
        bound.map_err(|status| failed("binding volumesnapshot to volumesnapshotcontent", &status.message))?;

        let status = json!([{"op": "replace", "path": "/status", "value": member.content_status()}]);
        let written = self.client.patch_status(plural::CONTENTS, &content, status).await;
        written
            .map(drop)
            .map_err(|status| failed("setting snapshotHandle in volumesnapshotcontent", &status.message))
    }

    async fn create_or_get(&self, plural: &str, body: Value) -> Result<Arc<Value>, String> {
        let (namespace, name) = (object::namespace(&body).map(str::to_owned), object::name(&body).to_owned());
        match self.client.create(plural, body).await {
            Ok(created) => Ok(created),
            Err(status) if status.is_already_exists() => {
                let found = self.client.get_shared(plural, namespace.as_deref(), &name).await;
                found.map_err(|status| status.message)
            }
            Err(status) => Err(status.message),
        }
    }
}

impl Member<'_> {
    fn content_body(&self) -> Value {
        let mut body = json!({
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotContent",
            "metadata": {
                "name": format!("snapcontent-{}", self.hash),
                "annotations": {annotation::GROUP_HANDLE: self.group_handle},
            },
            "spec": {
                "deletionPolicy": self.content["spec"]["deletionPolicy"],
                "driver": self.content["spec"]["driver"],
                "source": {"volumeHandle": self.listed["volumeHandle"]},
                "volumeSnapshotRef": {
                    "kind": "VolumeSnapshot",
                    "name": format!("snapshot-{}", self.hash),
                    "namespace": self.content["spec"]["volumeGroupSnapshotRef"]["namespace"],
                },
            },
        });
        if let Some(mode) = self.volume.as_ref().and_then(|volume| object::text(volume, "/spec/volumeMode")) {
            object::set(&mut body, &["spec", "sourceVolumeMode"], json!(mode));
        }
        body
    }

    fn snapshot_body(&self, controller: &Controller) -> Value {
        let pvc = self.volume.as_ref().and_then(|volume| object::text(volume, "/spec/claimRef/name"));
        json!({
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshot",
            "metadata": {
                "name": format!("snapshot-{}", self.hash),
                "namespace": self.content["spec"]["volumeGroupSnapshotRef"]["namespace"],
                "finalizers": [finalizer::IN_GROUP],
                "ownerReferences": [controller.owner_reference(self.group)],
            },
            "spec": {"source": {"persistentVolumeClaimName": pvc.unwrap_or_default()}},
        })
    }

    fn content_status(&self) -> Value {
        let mut status = json!({
            "snapshotHandle": self.listed["snapshotHandle"],
            "volumeGroupSnapshotHandle": self.group_handle,
        });
        for field in ["creationTime", "readyToUse", "restoreSize"] {
            if let Some(value) = self.listed.get(field) {
                object::set(&mut status, &[field], value.clone());
            }
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_member_names_from_hash() {
        let hash = member_hash("uid", "handle");
        assert_eq!(hash, "4888fb23f417fea4ae44a3aedae303f90011f242a3d3eaa6b006f7277dec6042");
    }
}
