//! Converts objects of the API to `domain::observed`. Pure: no lookups and no decisions.
//!
//! Sources: external-snapshotter, `client/apis` and `pkg/utils/util.go`; shapes as observed on Kubernetes
//! 1.36. Times come in two forms: RFC 3339 in whole seconds on VolumeSnapshots, nanoseconds on contents.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::core::ObjectMeta;

use crate::api::group_snapshot::VolumeSnapshotInfo;
use crate::api::snapshot::ErrorStatus;
use crate::api::{VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeSnapshot, VolumeSnapshotContent};
use crate::domain::ids::{ObjectId, Uid};
use crate::domain::labels;
use crate::domain::observed::{
    ClaimSeen, ContentSeen, CutSeen, DeletionPolicy, Entries, GroupContentSeen, GroupSnapshotSeen,
    NamespaceSeen, Owner, RestoreSeen, SnapshotSeen,
};
use crate::domain::time::Timestamp;

/// Namespace, name and uid of an object.
pub fn id(meta: &ObjectMeta) -> ObjectId {
    ObjectId {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: Uid(meta.uid.clone().unwrap_or_default()),
    }
}

/// The epoch that claims an object; `None` when the annotation is missing or not a number.
pub fn epoch(meta: &ObjectMeta) -> Option<u64> {
    meta.annotations.as_ref()?.get(labels::EPOCH)?.parse().ok()
}

/// The journal that an object belongs to: its label, or the annotation of a Backup.
pub fn journal(meta: &ObjectMeta) -> Option<String> {
    value(&meta.labels, labels::JOURNAL).or_else(|| value(&meta.annotations, labels::JOURNAL))
}

pub fn group(object: &VolumeGroupSnapshot) -> GroupSnapshotSeen {
    let meta = &object.metadata;
    let status = object.status.as_ref();
    GroupSnapshotSeen {
        id: id(meta),
        resource_version: version(meta),
        run: value(&meta.labels, labels::RUN),
        epoch: epoch(meta),
        journal: journal(meta),
        bound_content: status.and_then(|status| status.bound_volume_group_snapshot_content_name.clone()),
        ready: status.and_then(|status| status.ready_to_use).unwrap_or(false),
        terminating: meta.deletion_timestamp.is_some(),
        protected: has_finalizer(meta, labels::GROUP_BOUND_PROTECTION),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        error: error(status.and_then(|status| status.error.as_ref())),
    }
}

pub fn group_content(object: &VolumeGroupSnapshotContent) -> GroupContentSeen {
    let (meta, spec) = (&object.metadata, &object.spec);
    let status = object.status.as_ref();
    let infos = status.and_then(|status| status.volume_snapshot_info_list.as_deref()).unwrap_or_default();
    let secret = (
        value(&meta.annotations, labels::DELETION_SECRET_NAMESPACE),
        value(&meta.annotations, labels::DELETION_SECRET_NAME),
    );
    GroupContentSeen {
        id: id(meta),
        resource_version: version(meta),
        group_uid: uid(&spec.volume_group_snapshot_ref.uid),
        policy: policy(&spec.deletion_policy),
        volume_handles: spec.source.volume_handles.clone().unwrap_or_default(),
        group_handle: status.and_then(|status| filled(&status.volume_group_snapshot_handle)),
        created_at: status
            .and_then(|status| status.creation_time.as_ref())
            .and_then(time)
            .filter(|at| at.0 > 0),
        cuts: infos.iter().map(cut).collect(),
        error: error(status.and_then(|status| status.error.as_ref())),
        terminating: meta.deletion_timestamp.is_some(),
        protected: has_finalizer(meta, labels::GROUP_CONTENT_BOUND_PROTECTION),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        marked_deleted: value(&meta.annotations, labels::GROUP_BEING_DELETED).is_some(),
        secret: secret.0.zip(secret.1),
        labels: entries(&meta.labels),
        annotations: entries(&meta.annotations),
    }
}

pub fn snapshot(object: &VolumeSnapshot) -> SnapshotSeen {
    let (meta, spec) = (&object.metadata, &object.spec);
    let status = object.status.as_ref();
    SnapshotSeen {
        id: id(meta),
        resource_version: version(meta),
        claim: spec.source.persistent_volume_claim_name.clone(),
        bound_content: status.and_then(|status| filled(&status.bound_volume_snapshot_content_name)),
        ready: status.and_then(|status| status.ready_to_use).unwrap_or(false),
        group_name: status.and_then(|status| status.volume_group_snapshot_name.clone()),
        error: error(status.and_then(|status| status.error.as_ref())),
        class: spec.volume_snapshot_class_name.clone(),
        owners: meta.owner_references.iter().flatten().map(owner).collect(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        terminating: meta.deletion_timestamp.is_some(),
        labels: entries(&meta.labels),
        annotations: entries(&meta.annotations),
        created_at: status
            .and_then(|status| status.creation_time.as_ref())
            .and_then(time)
            .filter(|at| at.0 > 0),
    }
}

pub fn content(object: &VolumeSnapshotContent) -> ContentSeen {
    let (meta, spec) = (&object.metadata, &object.spec);
    let status = object.status.clone().unwrap_or_default();
    ContentSeen {
        id: id(meta),
        resource_version: version(meta),
        policy: policy(&spec.deletion_policy),
        volume_handle: filled(&spec.source.volume_handle),
        snapshot_handle: filled(&status.snapshot_handle).or_else(|| filled(&spec.source.snapshot_handle)),
        group_handle: filled(&status.volume_group_snapshot_handle)
            .or_else(|| value(&meta.annotations, labels::CONTENT_GROUP_HANDLE)),
        snapshot_namespace: spec.volume_snapshot_ref.namespace.clone(),
        snapshot_name: spec.volume_snapshot_ref.name.clone(),
        snapshot_uid: uid(&spec.volume_snapshot_ref.uid),
        ready: status.ready_to_use.unwrap_or(false),
        created_at: nanoseconds(status.creation_time),
        restore_size: status.restore_size,
        volume_mode: spec.source_volume_mode.clone(),
        error: error(status.error.as_ref()),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        terminating: meta.deletion_timestamp.is_some(),
        labels: entries(&meta.labels),
        annotations: entries(&meta.annotations),
    }
}

pub fn claim(object: &PersistentVolumeClaim) -> ClaimSeen {
    ClaimSeen {
        id: id(&object.metadata),
        volume: object.spec.as_ref().and_then(|spec| filled(&spec.volume_name)),
        terminating: object.metadata.deletion_timestamp.is_some(),
    }
}

/// The namespace of a plan.
pub fn namespace(object: &Namespace) -> NamespaceSeen {
    let spec = object.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
    let meta = object.metadata.finalizers.iter().flatten();
    NamespaceSeen {
        terminating: object.metadata.deletion_timestamp.is_some(),
        finalizers: meta.chain(spec).cloned().collect(),
    }
}

/// The VolumeSnapshot that a PVC is created from.
pub fn restored_from(object: &PersistentVolumeClaim) -> Option<&str> {
    let source = object.spec.as_ref()?.data_source.as_ref()?;
    (source.kind == "VolumeSnapshot").then_some(source.name.as_str())
}

/// A PVC that is created from a VolumeSnapshot, as long as it is not bound.
pub fn restore(object: &PersistentVolumeClaim) -> Option<RestoreSeen> {
    let bound = object.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let snapshot = restored_from(object).filter(|_| !bound)?;
    Some(RestoreSeen { claim: id(&object.metadata), snapshot: snapshot.to_owned() })
}

/// A time of the API.
pub fn time(time: &Time) -> Option<Timestamp> {
    i64::try_from(time.0.as_nanosecond()).ok().map(Timestamp)
}

/// A time for the API; `None` where it is out of range.
pub fn api_time(time: Timestamp) -> Option<Time> {
    k8s_openapi::jiff::Timestamp::from_nanosecond(i128::from(time.0)).ok().map(Time)
}

fn cut(info: &VolumeSnapshotInfo) -> CutSeen {
    CutSeen {
        volume_handle: info.volume_handle.clone(),
        snapshot_handle: info.snapshot_handle.clone(),
        created_at: nanoseconds(info.creation_time),
        restore_size: info.restore_size,
    }
}

fn owner(reference: &OwnerReference) -> Owner {
    Owner {
        api_version: reference.api_version.clone(),
        kind: reference.kind.clone(),
        name: reference.name.clone(),
        uid: Uid(reference.uid.clone()),
        controller: reference.controller,
        block_owner_deletion: reference.block_owner_deletion,
    }
}

/// A policy other than `Retain` does not retain: an unknown one is treated as Delete.
fn policy(text: &str) -> DeletionPolicy {
    if text == "Retain" { DeletionPolicy::Retain } else { DeletionPolicy::Delete }
}

/// Drivers that report no time report zero.
fn nanoseconds(value: Option<i64>) -> Option<Timestamp> {
    value.filter(|ns| *ns > 0).map(Timestamp)
}

fn uid(text: &Option<String>) -> Option<Uid> {
    filled(text).map(Uid)
}

fn filled(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

fn error(status: Option<&ErrorStatus>) -> Option<String> {
    status.map(|status| status.message.clone().unwrap_or_else(|| "error without a message".to_owned()))
}

fn version(meta: &ObjectMeta) -> String {
    meta.resource_version.clone().unwrap_or_default()
}

fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|present| present == finalizer)
}

/// The API server does not store an empty map; for a patch, it is missing.
fn entries(map: &Option<BTreeMap<String, String>>) -> Entries {
    map.clone().filter(|map| !map.is_empty())
}

fn value(map: &Option<BTreeMap<String, String>>, key: &str) -> Option<String> {
    map.as_ref().and_then(|map| map.get(key)).cloned()
}

#[cfg(test)]
mod tests;
