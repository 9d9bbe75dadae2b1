//! The garbage collector: deletes, in the background, what is owned only by objects that are gone.
//!
//! An owner is the object of that kind and name with exactly that uid; another object of the same name does not
//! count. Where some owners are left, only the references to the others are removed.
//!
//! Not here: foreground deletion, and the orphaning of dependents.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Setup;
use super::client::Client;
use super::informer::{Cache, Change};
use super::object;
use super::queue::WorkQueue;
use crate::sim::resources::{RESOURCES, Resource};

/// The name under which its calls are tallied.
pub(super) const AGENT: &str = "garbage-collector";

struct Collector {
    client: Client,
    caches: BTreeMap<&'static str, Cache>,
    queue: Arc<WorkQueue>,
    gone: Arc<WorkQueue>,
    delay: Duration,
}

/// Starts the garbage collector.
pub(super) fn start(setup: &mut Setup) {
    let (queue, gone) = (WorkQueue::new(), WorkQueue::new());
    let delay = Duration::from_millis(setup.world.gc_delay_ms);
    let mut caches = BTreeMap::new();
    for resource in RESOURCES.iter().filter(|resource| !resource.create_only && resource.plural != "events") {
        let (queue, gone, plural) = (queue.clone(), gone.clone(), resource.plural);
        caches.insert(plural, setup.cache(plural, move |change| seen(change, plural, &queue, &gone, delay)));
    }
    let client = setup.unlimited_client();
    let collector = Arc::new(Collector { client, caches, queue, gone, delay });
    let worker = collector.clone();
    setup.tasks.spawn_workers(&collector.gone, move |uid| {
        let worker = worker.clone();
        async move {
            worker.look_for_dependents(&uid);
            Ok(())
        }
    });
    let worker = collector.clone();
    setup.tasks.spawn_workers(&collector.queue, move |item| {
        let worker = worker.clone();
        async move { worker.collect(&item).await }
    });
}

/// A deleted object may leave dependents behind; a new or changed one may name owners that never were.
fn seen(change: &Change, plural: &str, queue: &Arc<WorkQueue>, gone: &Arc<WorkQueue>, delay: Duration) {
    match (&change.old, &change.new) {
        (Some(old), None) => gone.add(object::uid(old)),
        (_, Some(new)) if !owners(new).is_empty() => {
            queue.add_after(&format!("{plural} {}", object::key(new)), delay);
        }
        _ => {}
    }
}

fn owners(dependent: &Value) -> &[Value] {
    object::items(dependent, "/metadata/ownerReferences")
}

impl Collector {
    fn look_for_dependents(&self, uid: &str) {
        for (plural, cache) in &self.caches {
            for dependent in cache.list() {
                if owners(&dependent).iter().any(|owner| object::text(owner, "/uid") == Some(uid)) {
                    self.queue.add_after(&format!("{plural} {}", object::key(&dependent)), self.delay);
                }
            }
        }
    }

    async fn collect(&self, item: &str) -> Result<(), String> {
        let Some((plural, key)) = item.split_once(' ') else { return Ok(()) };
        let (namespace, name) = object::split(key);
        let live = match self.client.get(plural, namespace, name).await {
            Ok(live) => live,
            Err(status) if status.is_not_found() => return Ok(()),
            Err(status) => return Err(status.message),
        };
        if object::is_deleting(&live) {
            return Ok(());
        }
        let (mut solid, mut dangling) = (Vec::new(), 0);
        for owner in owners(&live) {
            if self.exists(namespace, owner).await? {
                solid.push(owner.clone());
            } else {
                dangling += 1;
            }
        }
        if dangling == 0 {
            return Ok(());
        }
        if solid.is_empty() {
            let deleted = self.client.delete_uid(plural, namespace, name, object::uid(&live)).await;
            return deleted
                .or_else(|status| if status.is_not_found() { Ok(()) } else { Err(status.message) });
        }
        let version = &live["metadata"]["resourceVersion"];
        let operations = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "replace", "path": "/metadata/ownerReferences", "value": solid},
        ]);
        self.client.patch(plural, &live, operations).await.map(drop).map_err(|status| status.message)
    }

    async fn exists(&self, namespace: Option<&str>, owner: &Value) -> Result<bool, String> {
        // A kind that nobody serves could come back; its dependents are left alone.
        let Some(resource) = resource_of(owner) else { return Ok(true) };
        let namespace = namespace.filter(|_| resource.namespaced);
        let name = object::text(owner, "/name").unwrap_or_default();
        match self.client.get(resource.plural, namespace, name).await {
            Ok(found) => Ok(object::text(owner, "/uid") == Some(object::uid(&found))),
            Err(status) if status.is_not_found() => Ok(false),
            Err(status) => Err(status.message),
        }
    }
}

fn resource_of(owner: &Value) -> Option<&'static Resource> {
    let version = object::text(owner, "/apiVersion")?;
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let kind = object::text(owner, "/kind")?;
    RESOURCES.iter().find(|resource| resource.group == group && resource.kind == kind)
}
