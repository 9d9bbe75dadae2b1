//! Finds the source volumes of a snapshot or group snapshot.
//!
//! The PVCs of a group come from a live list by `matchLabels` only: expressions are ignored, and an empty
//! selector selects every PVC of the namespace (external-snapshotter, common-controller).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::Controller;
use crate::actors::object;
use crate::actors::strings::{finalizer, plural};
use crate::pointer::At;

/// Formats labels as `k=v,k2=v2`, as Go prints a label set.
fn selector_text(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

impl Controller {
    pub(super) async fn volumes_of_group(&self, group: &Value) -> Result<Vec<Value>, String> {
        let labels: BTreeMap<String, String> = group
            .at("/spec/source/selector/matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let selector = selector_text(&labels);
        let pvcs =
            self.core.list(plural::PVCS, object::namespace(group), &labels).await.map_err(|status| {
                format!("failed to list PVCs with label selector {selector}: {:?}", status.message)
            })?;
        if pvcs.is_empty() {
            return Err(format!("label selector {selector} for group snapshot not applied to any PVC"));
        }
        let mut volumes = Vec::with_capacity(pvcs.len());
        for pvc in &pvcs {
            volumes.push(self.volume_of_pvc(pvc, "a group snapshot").await?);
        }
        Ok(volumes)
    }

    pub(super) async fn volume_of_snapshot(&self, snapshot: &Value) -> Result<Value, String> {
        let pvc = self.pvc_of_snapshot(snapshot)?;
        self.volume_of_pvc(&pvc, "a snapshot").await
    }

    /// The source PVC of a snapshot, from the cache.
    pub(super) fn pvc_of_snapshot(&self, snapshot: &Value) -> Result<Arc<Value>, String> {
        let pvc = object::text(snapshot, "/spec/source/persistentVolumeClaimName")
            .ok_or_else(|| format!("the PVC name is not specified in snapshot {}", object::key(snapshot)))?;
        let key = object::join(object::namespace(snapshot), pvc);
        self.pvcs.get(&key).ok_or_else(|| {
            format!(
                "failed to retrieve PVC {pvc} from the lister: \"persistentvolumeclaim \\\"{pvc}\\\" not found\""
            )
        })
    }

    async fn volume_of_pvc(&self, pvc: &Value, what: &str) -> Result<Value, String> {
        let name = object::name(pvc);
        let volume = object::text(pvc, "/spec/volumeName")
            .filter(|_| object::text(pvc, "/status/phase") == Some("Bound"))
            .ok_or_else(|| {
                format!("the PVC {name} is not yet bound to a PV, will not attempt to take {what}")
            })?;
        let found = self.core.get(plural::VOLUMES, None, volume).await.map_err(|status| {
            format!("failed to retrieve PV {volume} from the API server: {:?}", status.message)
        })?;
        let is_bound = object::text(&found, "/spec/claimRef/name") == Some(name)
            && object::text(&found, "/spec/claimRef/namespace") == object::namespace(pvc)
            && object::text(&found, "/spec/claimRef/uid").is_none_or(|uid| uid == object::uid(pvc));
        if is_bound { Ok(found) } else { Err("claim in dataSource not bound or invalid".to_owned()) }
    }

    /// Returns whether a PVC in the namespace of the snapshot is Pending with the snapshot as its data
    /// source.
    pub(super) fn is_being_restored(&self, snapshot: &Value) -> bool {
        let namespace = object::namespace(snapshot).unwrap_or_default();
        let pending = self.pvcs.select_in(namespace, |pvc| {
            object::text(pvc, "/spec/dataSource/kind") == Some("VolumeSnapshot")
                && object::text(pvc, "/spec/dataSource/name") == Some(object::name(snapshot))
                && object::text(pvc, "/status/phase") == Some("Pending")
        });
        !pending.is_empty()
    }

    /// Adds a finalizer to the source PVC of a single snapshot, so that it exists until the cut.
    pub(super) async fn protect_pvc(&self, snapshot: &Value) -> Result<(), String> {
        let pvc = self.pvc_of_snapshot(snapshot).map_err(|_| {
            format!(
                "snapshot controller failed to update {} on API server: cannot get claim from snapshot",
                object::name(snapshot)
            )
        })?;
        if object::has_finalizer(&pvc, finalizer::PVC_AS_SOURCE) {
            return Ok(());
        }
        if object::is_deleting(&pvc) {
            return Err(format!(
                "snapshot controller failed to update {} on API server: cannot add finalizer on claim because it \
                 is being deleted",
                object::name(&pvc)
            ));
        }
        let mut finalizers = object::items(&pvc, "/metadata/finalizers").to_vec();
        finalizers.push(finalizer::PVC_AS_SOURCE.into());
        let mut wanted = Value::clone(&pvc);
        object::set(&mut wanted, &["metadata", "finalizers"], Value::Array(finalizers));
        self.core.update(plural::PVCS, wanted).await.map(drop).map_err(|status| status.message)
    }

    /// Removes the finalizer of the PVC once no snapshot waits for its cut.
    pub(super) async fn release_pvc(&self, snapshot: &Value, skip_this: bool) -> Result<(), String> {
        let Ok(pvc) = self.pvc_of_snapshot(snapshot) else { return Ok(()) };
        if !object::has_finalizer(&pvc, finalizer::PVC_AS_SOURCE) {
            return Ok(());
        }
        let namespace = object::namespace(snapshot).unwrap_or_default();
        let users = self.snapshots.cache.select_in(namespace, |other| {
            !(skip_this && object::name(other) == object::name(snapshot))
                && object::text(other, "/spec/source/persistentVolumeClaimName") == Some(object::name(&pvc))
                && object::flag(other, "/status/readyToUse") != Some(true)
        });
        if !users.is_empty() {
            return Ok(());
        }
        let namespace = object::namespace(&pvc);
        let live = self.core.get(plural::PVCS, namespace, object::name(&pvc)).await;
        let mut live = live.map_err(|status| status.message)?;
        let left = object::without_finalizers(&live, &[finalizer::PVC_AS_SOURCE]);
        object::set(&mut live, &["metadata", "finalizers"], left);
        self.core.update(plural::PVCS, live).await.map(drop).map_err(|status| status.message)
    }
}
