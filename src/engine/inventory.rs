//! Converts cached objects to the input of planning.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim};
use kube::core::ObjectMeta;

use crate::cluster::Adapter;
use crate::cluster::kinds::{VolumeGroupSnapshotClass, VolumeSnapshotClass};
use crate::cluster::read::Selected;
use crate::domain::ids::Uid;
use crate::domain::labels;
use crate::domain::problem::Problem;
use crate::domain::receipt::SecretRef;
use crate::engine::cache::Cache;
use crate::planning::{ClaimRef, ClassInfo, CsiVolume, Inventory, NamespaceInfo, PvInfo, PvcInfo, Request};

/// Parameters of a VolumeGroupSnapshotClass with the Secret for GetVolumeGroupSnapshot (external-snapshotter,
/// `pkg/utils/util.go`).
const GET_SECRET_NAME: &str = "csi.storage.k8s.io/group-snapshotter-get-secret-name";
const GET_SECRET_NAMESPACE: &str = "csi.storage.k8s.io/group-snapshotter-get-secret-namespace";

/// Reads everything about the namespaces of a request, and the classes, from the API server. Caches may be
/// slightly stale: a group must not be refused because its PVC was bound, or its class created, only just
/// now. The classes are added to the cache, where the run finds its own.
///
/// # Errors
/// The first read that failed.
pub async fn read(adapter: &Adapter, cache: &Cache, request: &Request) -> Result<Inventory, Problem> {
    let mut claims = Vec::new();
    if request.all_namespaces() {
        claims = adapter.list::<PersistentVolumeClaim>(&(), "", "").await?;
    } else {
        for namespace in &request.included_namespaces {
            claims.extend(adapter.list::<PersistentVolumeClaim>(&(), namespace, "").await?);
        }
    }
    let namespaces = adapter.list::<Namespace>(&(), "", "").await?;
    let volumes = adapter.list::<PersistentVolume>(&(), "", "").await?;
    let listed = adapter.list_as_of::<VolumeSnapshotClass>(&(), "", Selected::All).await?;
    let classes = listed.objects;
    if let Some(version) = listed.version {
        cache.upsert_classes(&classes, version);
    }
    let group_classes = match adapter.group_version() {
        Ok(version) => adapter.list::<VolumeGroupSnapshotClass>(&version, "", "").await?,
        Err(_) => Vec::new(),
    };
    Ok(Inventory {
        namespaces: namespaces.iter().map(namespace_info).collect(),
        claims: claims.iter().map(pvc_info).collect(),
        volumes: volumes.iter().map(pv_info).collect(),
        group_classes: group_classes.iter().map(group_class_info).collect(),
        snapshot_classes: classes.iter().map(|c| class_info(&c.metadata, &c.driver)).collect(),
    })
}

/// The cached state of the namespaces of a request.
pub fn gather(cache: &Cache, request: &Request) -> Inventory {
    let namespaces: Vec<NamespaceInfo> = cache.namespaces().iter().map(|ns| namespace_info(ns)).collect();
    let claims: Vec<_> = namespaces
        .iter()
        .filter(|ns| request.includes(&ns.name))
        .flat_map(|ns| cache.claims(&ns.name))
        .collect();
    let volumes = claims
        .iter()
        .filter_map(|claim| claim.spec.as_ref()?.volume_name.as_deref())
        .filter_map(|volume| cache.volume(volume))
        .map(|volume| pv_info(&volume))
        .collect();
    Inventory {
        namespaces,
        claims: claims.iter().map(|claim| pvc_info(claim)).collect(),
        volumes,
        group_classes: cache.group_classes().iter().map(|class| group_class_info(class)).collect(),
        snapshot_classes: cache
            .snapshot_classes()
            .iter()
            .map(|c| class_info(&c.metadata, &c.driver))
            .collect(),
    }
}

fn group_class_info(class: &VolumeGroupSnapshotClass) -> ClassInfo {
    let parameter =
        |key: &str| class.parameters.as_ref()?.get(key).filter(|value| !value.is_empty()).cloned();
    let get_secret = parameter(GET_SECRET_NAMESPACE).zip(parameter(GET_SECRET_NAME));
    let get_secret = get_secret.map(|(namespace, name)| SecretRef { namespace, name });
    ClassInfo { get_secret, ..class_info(&class.metadata, &class.driver) }
}

fn class_info(meta: &ObjectMeta, driver: &str) -> ClassInfo {
    ClassInfo {
        name: name(meta),
        uid: Uid(meta.uid.clone().unwrap_or_default()),
        get_secret: None,
        driver: driver.to_owned(),
        labels: map(&meta.labels),
        annotations: map(&meta.annotations),
    }
}

fn namespace_info(namespace: &Namespace) -> NamespaceInfo {
    NamespaceInfo {
        name: name(&namespace.metadata),
        terminating: namespace.metadata.deletion_timestamp.is_some(),
        excluded: namespace.metadata.labels.as_ref().is_some_and(labels::is_excluded),
    }
}

fn name(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

fn map(entries: &Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
    entries.clone().unwrap_or_default()
}

fn pvc_info(claim: &PersistentVolumeClaim) -> PvcInfo {
    let spec = claim.spec.clone().unwrap_or_default();
    PvcInfo {
        namespace: claim.metadata.namespace.clone().unwrap_or_default(),
        name: name(&claim.metadata),
        uid: Uid(claim.metadata.uid.clone().unwrap_or_default()),
        labels: map(&claim.metadata.labels),
        annotations: map(&claim.metadata.annotations),
        phase: claim.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default(),
        volume: spec.volume_name.unwrap_or_default(),
        terminating: claim.metadata.deletion_timestamp.is_some(),
        storage_class: spec.storage_class_name,
        requested: spec.resources.and_then(|needs| Some(needs.requests?.get("storage")?.0.clone())),
        access_modes: spec.access_modes.unwrap_or_default(),
        volume_mode: spec.volume_mode,
    }
}

fn pv_info(volume: &PersistentVolume) -> PvInfo {
    let spec = volume.spec.clone().unwrap_or_default();
    PvInfo {
        name: name(&volume.metadata),
        csi: spec.csi.map(|csi| CsiVolume { driver: csi.driver, handle: csi.volume_handle }),
        claim: spec.claim_ref.map(|claim| ClaimRef {
            namespace: claim.namespace.unwrap_or_default(),
            name: claim.name.unwrap_or_default(),
            uid: Uid(claim.uid.unwrap_or_default()),
        }),
        storage_class: spec.storage_class_name,
    }
}
