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
        let claims =
            self.core.list(plural::CLAIMS, object::namespace(group), &labels).await.map_err(|status| {
                format!("failed to list PVCs with label selector {selector}: {:?}", status.message)
            })?;
        if claims.is_empty() {
            return Err(format!("label selector {selector} for group snapshot not applied to any PVC"));
        }
        let mut volumes = Vec::with_capacity(claims.len());
        for claim in &claims {
            volumes.push(self.volume_of_claim(claim, "a group snapshot").await?);
        }
        Ok(volumes)
    }

    pub(super) async fn volume_of_snapshot(&self, snapshot: &Value) -> Result<Value, String> {
        let claim = self.claim_of_snapshot(snapshot)?;
        self.volume_of_claim(&claim, "a snapshot").await
    }

    /// The source PVC of a snapshot, from the cache.
    pub(super) fn claim_of_snapshot(&self, snapshot: &Value) -> Result<Arc<Value>, String> {
        let claim = object::text(snapshot, "/spec/source/persistentVolumeClaimName")
            .ok_or_else(|| format!("the PVC name is not specified in snapshot {}", object::key(snapshot)))?;
        let key = object::join(object::namespace(snapshot), claim);
        self.claims.get(&key).ok_or_else(|| {
            format!(
                "failed to retrieve PVC {claim} from the lister: \"persistentvolumeclaim \\\"{claim}\\\" not found\""
            )
        })
    }

    async fn volume_of_claim(&self, claim: &Value, what: &str) -> Result<Value, String> {
        let name = object::name(claim);
        let volume = object::text(claim, "/spec/volumeName")
            .filter(|_| object::text(claim, "/status/phase") == Some("Bound"))
            .ok_or_else(|| {
                format!("the PVC {name} is not yet bound to a PV, will not attempt to take {what}")
            })?;
        let found = self.core.get(plural::VOLUMES, None, volume).await.map_err(|status| {
            format!("failed to retrieve PV {volume} from the API server: {:?}", status.message)
        })?;
        let claimed = object::text(&found, "/spec/claimRef/name") == Some(name)
            && object::text(&found, "/spec/claimRef/namespace") == object::namespace(claim)
            && object::text(&found, "/spec/claimRef/uid").is_none_or(|uid| uid == object::uid(claim));
        if claimed { Ok(found) } else { Err("claim in dataSource not bound or invalid".to_owned()) }
    }

    /// Returns whether a PVC in the namespace of the snapshot is Pending with the snapshot as its data
    /// source.
    pub(super) fn is_being_restored(&self, snapshot: &Value) -> bool {
        let namespace = object::namespace(snapshot).unwrap_or_default();
        let pending = self.claims.select_in(namespace, |claim| {
            object::text(claim, "/spec/dataSource/kind") == Some("VolumeSnapshot")
                && object::text(claim, "/spec/dataSource/name") == Some(object::name(snapshot))
                && object::text(claim, "/status/phase") == Some("Pending")
        });
        !pending.is_empty()
    }

    /// Adds a finalizer to the source PVC of a single snapshot, so that it exists until the cut.
    pub(super) async fn protect_claim(&self, snapshot: &Value) -> Result<(), String> {
        let claim = self.claim_of_snapshot(snapshot).map_err(|_| {
            format!(
                "snapshot controller failed to update {} on API server: cannot get claim from snapshot",
                object::name(snapshot)
            )
        })?;
        if object::has_finalizer(&claim, finalizer::CLAIM_AS_SOURCE) {
            return Ok(());
        }
        if object::is_deleting(&claim) {
            return Err(format!(
                "snapshot controller failed to update {} on API server: cannot add finalizer on claim because it \
                 is being deleted",
                object::name(&claim)
            ));
        }
        let mut finalizers = object::items(&claim, "/metadata/finalizers").to_vec();
        finalizers.push(finalizer::CLAIM_AS_SOURCE.into());
        let mut wanted = Value::clone(&claim);
        object::set(&mut wanted, &["metadata", "finalizers"], Value::Array(finalizers));
        self.core.update(plural::CLAIMS, wanted).await.map(drop).map_err(|status| status.message)
    }

    /// Removes the finalizer of the PVC once no snapshot waits for its cut.
    pub(super) async fn release_claim(&self, snapshot: &Value, skip_this: bool) -> Result<(), String> {
        let Ok(claim) = self.claim_of_snapshot(snapshot) else { return Ok(()) };
        if !object::has_finalizer(&claim, finalizer::CLAIM_AS_SOURCE) {
            return Ok(());
        }
        let namespace = object::namespace(snapshot).unwrap_or_default();
        let users = self.snapshots.cache.select_in(namespace, |other| {
            !(skip_this && object::name(other) == object::name(snapshot))
                && object::text(other, "/spec/source/persistentVolumeClaimName") == Some(object::name(&claim))
                && object::flag(other, "/status/readyToUse") != Some(true)
        });
        if !users.is_empty() {
            return Ok(());
        }
        let namespace = object::namespace(&claim);
        let live = self.core.get(plural::CLAIMS, namespace, object::name(&claim)).await;
        let mut live = live.map_err(|status| status.message)?;
        let left = object::without_finalizers(&live, &[finalizer::CLAIM_AS_SOURCE]);
        object::set(&mut live, &["metadata", "finalizers"], left);
        self.core.update(plural::CLAIMS, live).await.map(drop).map_err(|status| status.message)
    }
}
