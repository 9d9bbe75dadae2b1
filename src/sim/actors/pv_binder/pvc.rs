//! Reconciles PersistentVolumeClaims: from Pending to Bound, and from deletion to removal.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Binder, pvcs_of_pod};
use crate::actors::object;
use crate::actors::quantity;
use crate::actors::recorder::Severity;
use crate::actors::strings::{DRIVER, SNAPSHOT_GROUP, annotation, finalizer, plural};
use crate::pointer::At;

impl Binder {
    pub(super) async fn sync_pvc(&self, key: &str) -> Result<(), String> {
        let Some(pvc) = self.pvcs.get(key) else { return Ok(()) };
        if object::is_deleting(&pvc) {
            return self.release_pvc(key, &pvc).await;
        }
        if !object::has_finalizer(&pvc, finalizer::PVC) {
            // The write returns as an event; the PVC is bound then.
            let mut finalizers = object::items(&pvc, "/metadata/finalizers").to_vec();
            finalizers.push(finalizer::PVC.into());
            return self.replace(&pvc, "/metadata/finalizers", Value::Array(finalizers)).await;
        }
        if object::text(&pvc, "/status/phase").is_some_and(|phase| phase != "Pending") {
            return Ok(());
        }
        match object::text(&pvc, "/spec/volumeName") {
            Some(volume) => self.bind_to_named(&pvc, volume).await,
            None => self.provision(&pvc).await,
        }
    }

    /// Removes the protection of a PVC that no pod mounts.
    async fn release_pvc(&self, key: &str, pvc: &Value) -> Result<(), String> {
        let is_mounted = self.pods.list().iter().any(|pod| {
            let is_over = object::text(pod, "/status/phase")
                .is_some_and(|phase| phase == "Succeeded" || phase == "Failed");
            !is_over && pvcs_of_pod(pod).any(|pvc| pvc == key)
        });
        if is_mounted || !object::has_finalizer(pvc, finalizer::PVC) {
            return Ok(());
        }
        let left = object::without_finalizers(pvc, &[finalizer::PVC]);
        self.replace(pvc, "/metadata/finalizers", left).await
    }

    async fn replace(&self, pvc: &Value, path: &str, value: Value) -> Result<(), String> {
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": object::uid(pvc)},
            {"op": "add", "path": path, "value": value},
        ]);
        let patched = self.client.patch(plural::PVCS, pvc, operations).await;
        patched.map(drop).or_else(|status| if status.is_not_found() { Ok(()) } else { Err(status.message) })
    }

    async fn bind_to_named(&self, pvc: &Value, volume: &str) -> Result<(), String> {
        let mut found =
            self.client.get(plural::VOLUMES, None, volume).await.map_err(|status| status.message)?;
        let bound_to = object::text(&found, "/spec/claimRef/name").map(str::to_owned);
        if bound_to.as_deref().is_some_and(|name| name != object::name(pvc)) {
            return Err(format!("volume {volume} already bound to a different claim."));
        }
        object::set(&mut found, &["spec", "claimRef"], pvc_reference(pvc));
        let found = self.client.update(plural::VOLUMES, found).await.map_err(|status| status.message)?;
        self.bind(pvc, &found).await
    }

    async fn provision(&self, pvc: &Value) -> Result<(), String> {
        let Some(class) = self.storage_class(pvc)? else { return Ok(()) };
        if object::annotation(pvc, annotation::STORAGE_PROVISIONER).is_none() {
            let mut annotations = object::annotations_with(pvc, annotation::STORAGE_PROVISIONER, DRIVER);
            object::set(&mut annotations, &[annotation::STORAGE_PROVISIONER_BETA], json!(DRIVER));
            self.replace(pvc, "/metadata/annotations", annotations).await?;
        }
        let name = format!("pvc-{}", object::uid(pvc));
        let volume = match self.client.get_shared(plural::VOLUMES, None, &name).await {
            Ok(found) => found,
            Err(_) => self.create_volume(pvc, &name, &class).await.inspect_err(|error| {
                let message = format!("failed to provision volume with StorageClass {class:?}: {error}");
                self.recorder.event(pvc, Severity::Warning, "ProvisioningFailed", message);
            })?,
        };
        self.bind(pvc, &volume).await
    }

    /// The storage class of the PVC, if it belongs to this driver. A missing class may be created later.
    fn storage_class(&self, pvc: &Value) -> Result<Option<String>, String> {
        let named = object::text(pvc, "/spec/storageClassName").map(str::to_owned);
        let name = named.or_else(|| {
            let classes = self.storage_classes.list();
            let default = classes
                .iter()
                .find(|class| object::annotation(class, annotation::DEFAULT_STORAGE_CLASS) == Some("true"));
            default.map(|class| object::name(class).to_owned())
        });
        let Some(name) = name else { return Ok(None) };
        let class = self
            .storage_classes
            .get(&name)
            .ok_or_else(|| format!("storageclass.storage.k8s.io {name:?} not found"))?;
        Ok((object::text(&class, "/provisioner") == Some(DRIVER)).then_some(name))
    }

    async fn create_volume(&self, pvc: &Value, name: &str, class: &str) -> Result<Arc<Value>, String> {
        let request = object::text(pvc, "/spec/resources/requests/storage").unwrap_or("1Gi");
        let size = quantity::bytes(request).ok_or_else(|| format!("cannot parse size {request:?}"))?;
        let handle = match self.source_snapshot(pvc).await? {
            None => self.storage.create_volume(name, size, None).map_err(|error| error.to_string())?,
            Some(snapshot) => self.restore(pvc, name, &snapshot, size).await?,
        };
        let body = volume_body(pvc, name, class, request, &handle);
        self.client.create(plural::VOLUMES, body).await.map_err(|status| status.message)
    }

    /// The snapshot that the PVC is restored from.
    async fn source_snapshot(&self, pvc: &Value) -> Result<Option<Value>, String> {
        let source = ["/spec/dataSource", "/spec/dataSourceRef"].into_iter().find_map(|at| pvc.at(at));
        let Some(source) = source.filter(|source| source.is_object()) else { return Ok(None) };
        if object::text(source, "/kind") != Some("VolumeSnapshot")
            || object::text(source, "/apiGroup") != Some(SNAPSHOT_GROUP)
        {
            return Err("the data source of the claim is not a VolumeSnapshot".to_owned());
        }
        let name = object::text(source, "/name").unwrap_or_default();
        let found = self.client.get(plural::SNAPSHOTS, object::namespace(pvc), name).await;
        let found = found.map_err(|status| {
            format!(
                "error getting handle for DataSource Type VolumeSnapshot by Name {name}: {}",
                status.message
            )
        })?;
        if object::flag(&found, "/status/readyToUse") == Some(true) {
            Ok(Some(found))
        } else {
            Err(format!(
                "error getting handle for DataSource Type VolumeSnapshot by Name {name}: snapshot {name} is not Ready"
            ))
        }
    }

    /// Creates a volume from the snapshot. The snapshot has a finalizer of the provisioner during the
    /// restore.
    async fn restore(&self, pvc: &Value, name: &str, snapshot: &Value, size: i64) -> Result<String, String> {
        let bound = object::text(snapshot, "/status/boundVolumeSnapshotContentName").unwrap_or_default();
        let content =
            self.client.get(plural::CONTENTS, None, bound).await.map_err(|status| status.message)?;
        let handle = object::text(&content, "/status/snapshotHandle")
            .ok_or_else(|| format!("snapshot content {bound} has no handle"))?;
        let least = object::text(snapshot, "/status/restoreSize").and_then(quantity::bytes).unwrap_or(0);
        if size < least {
            return Err(format!(
                "requested volume size {size} is less than the size {least} for the source snapshot {}",
                object::name(snapshot)
            ));
        }
        self.set_source_finalizer(pvc, snapshot, true).await?;
        let volume = self.storage.create_volume(name, size, Some(handle)).map_err(|error| error.to_string());
        self.set_source_finalizer(pvc, snapshot, false).await?;
        volume
    }

    async fn set_source_finalizer(&self, pvc: &Value, snapshot: &Value, protect: bool) -> Result<(), String> {
        let namespace = object::namespace(pvc);
        let live = self.client.get(plural::SNAPSHOTS, namespace, object::name(snapshot)).await;
        let live = live.map_err(|status| status.message)?;
        let left = object::without_finalizers(&live, &[finalizer::RESTORE_SOURCE]);
        let mut finalizers: Vec<Value> = left.as_array().cloned().unwrap_or_default();
        if protect {
            finalizers.push(finalizer::RESTORE_SOURCE.into());
        }
        let operations = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "add", "path": "/metadata/finalizers", "value": finalizers},
        ]);
        let patched = self.client.patch(plural::SNAPSHOTS, &live, operations).await;
        patched.map(drop).map_err(|status| status.message)
    }

    /// Sets the volume to Bound, then binds the PVC to it, then sets the PVC to Bound.
    async fn bind(&self, pvc: &Value, volume: &Value) -> Result<(), String> {
        if object::text(volume, "/status/phase") != Some("Bound") {
            let mut bound = volume.clone();
            object::set(&mut bound, &["status", "phase"], json!("Bound"));
            object::set(&mut bound, &["status", "lastPhaseTransitionTime"], json!(self.clock.rfc3339()));
            self.client.update_status(plural::VOLUMES, bound).await.map_err(|status| status.message)?;
        }
        let live = self.client.get(plural::PVCS, object::namespace(pvc), object::name(pvc)).await;
        let mut live = live.map_err(|status| status.message)?;
        if object::uid(&live) != object::uid(pvc) {
            return Ok(());
        }
        let annotations = &["metadata", "annotations"];
        let mut marks = object::annotations_with(&live, annotation::BIND_COMPLETED, annotation::YES);
        object::set(&mut marks, &[annotation::BOUND_BY_CONTROLLER], json!(annotation::YES));
        object::set(&mut live, annotations, marks);
        object::set(&mut live, &["spec", "volumeName"], json!(object::name(volume)));
        let live = self.client.update(plural::PVCS, live).await.map_err(|status| status.message)?;
        let mut live = Arc::unwrap_or_clone(live);
        let status = json!({
            "accessModes": volume["spec"]["accessModes"],
            "capacity": volume["spec"]["capacity"],
            "phase": "Bound",
        });
        object::set(&mut live, &["status"], status);
        self.client.update_status(plural::PVCS, live).await.map(drop).map_err(|status| status.message)
    }
}

fn pvc_reference(pvc: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "name": object::name(pvc),
        "namespace": object::namespace(pvc),
        "resourceVersion": pvc["metadata"]["resourceVersion"],
        "uid": object::uid(pvc),
    })
}

fn volume_body(pvc: &Value, name: &str, class: &str, size: &str, handle: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {annotation::PROVISIONED_BY: DRIVER},
            "finalizers": [finalizer::PROVISIONER, finalizer::VOLUME],
        },
        "spec": {
            "accessModes": pvc["spec"]["accessModes"],
            "capacity": {"storage": size},
            "claimRef": pvc_reference(pvc),
            "csi": {"driver": DRIVER, "volumeHandle": handle},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": class,
            "volumeMode": object::text(pvc, "/spec/volumeMode").unwrap_or("Filesystem"),
        },
    })
}
