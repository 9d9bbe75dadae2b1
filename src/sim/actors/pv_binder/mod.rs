//! Reconciles PVCs and volumes: binding, provisioning by the driver, protection, reclaiming.
//!
//! It replaces four real controllers (persistent volume controller, the two protection controllers,
//! external-provisioner) and makes their writes in their order: [`pvc`] for PersistentVolumeClaims,
//! [`volume`] for PersistentVolumes.
//!
//! Not here: matching PVCs to static volumes except by `spec.volumeName`, expansion, topology, and binding
//! that waits for a pod.

mod pvc;
mod volume;

use std::sync::Arc;

use serde_json::Value;

use super::Setup;
use super::client::Client;
use super::driver::Storage;
use super::informer::Cache;
use super::object;
use super::queue::WorkQueue;
use super::recorder::Recorder;
use super::strings::plural;
use crate::clock::SimClock;

/// The agent name under which its calls are counted.
pub(super) const AGENT: &str = "pv-binder";

struct Binder {
    client: Client,
    recorder: Recorder,
    clock: SimClock,
    storage: Storage,
    pvcs: Cache,
    volumes: Cache,
    pods: Cache,
    storage_classes: Cache,
}

pub(super) fn start(setup: &mut Setup) {
    let (pvc_queue, volume_queue) = (WorkQueue::new(), WorkQueue::new());
    let (changed, released) = (pvc_queue.clone(), volume_queue.clone());
    let pvcs = setup.cache(plural::PVCS, move |change| {
        changed.add(&change.key());
        if let (Some(old), None) = (&change.old, &change.new)
            && let Some(volume) = object::text(old, "/spec/volumeName")
        {
            released.add(volume);
        }
    });
    let changed = volume_queue.clone();
    let volumes = setup.cache(plural::VOLUMES, move |change| changed.add(&change.key()));
    let used = pvc_queue.clone();
    let pods = setup.cache(plural::PODS, move |change| {
        for pod in [&change.old, &change.new].into_iter().flatten() {
            pvcs_of_pod(pod).for_each(|pvc| used.add(&pvc));
        }
    });
    let client = setup.unlimited_client();
    let recorder = setup.recorder(client.clone());
    let binder = Arc::new(Binder {
        client,
        recorder,
        clock: setup.context.clock.clone(),
        storage: setup.context.storage.clone(),
        pvcs,
        volumes,
        pods,
        storage_classes: setup.cache(plural::STORAGE_CLASSES, |_| ()),
    });
    let worker = binder.clone();
    setup.tasks.spawn_workers(&pvc_queue, move |key| {
        let worker = worker.clone();
        async move { worker.sync_pvc(&key).await }
    });
    setup.tasks.spawn_workers(&volume_queue, move |key| {
        let worker = binder.clone();
        async move { worker.sync_volume(&key).await }
    });
}

/// The keys of the PVCs that a pod mounts.
fn pvcs_of_pod(pod: &Value) -> impl Iterator<Item = String> {
    let namespace = object::namespace(pod);
    object::items(pod, "/spec/volumes").iter().filter_map(move |volume| {
        let pvc = object::text(volume, "/persistentVolumeClaim/claimName")?;
        Some(object::join(namespace, pvc))
    })
}
