//! The garbage collector: deletes, in the background, objects without existing owners.
//!
//! An owner is the object of that kind and name with exactly that uid; another object with the same name does
//! not count. If some owners exist, only the references to the others are removed. The finalizer `orphan` of
//! an owner that is being deleted is removed once no object refers to the owner.
//!
//! Not here: foreground deletion.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::Setup;
use super::client::Client;
use super::informer::Change;
use super::object;
use super::queue::WorkQueue;
use crate::resources::{RESOURCES, Resource};

/// The agent name under which its calls are counted.
pub(super) const AGENT: &str = "garbage-collector";

/// One dependent: its plural and its key.
type Item = String;

/// The finalizer of an owner that is deleted without its dependents.
const ORPHAN: &str = "orphan";

struct Collector {
    client: Client,
    graph: Arc<Graph>,
}

/// The dependents of each owner, as far as the watches have reported them. Outdated items do no harm: each
/// object is read again before it is deleted.
struct Graph {
    dependents: Mutex<BTreeMap<String, BTreeSet<Item>>>,
    queue: Arc<WorkQueue>,
    delay: Duration,
}

pub(super) fn start(setup: &mut Setup) {
    let queue = WorkQueue::new();
    let graph = Arc::new(Graph {
        dependents: Mutex::default(),
        queue: queue.clone(),
        delay: Duration::from_millis(setup.context.gc_delay_ms),
    });
    for resource in RESOURCES.iter().filter(|resource| !resource.create_only && resource.plural != "events") {
        let (graph, plural) = (graph.clone(), resource.plural);
        setup.cache(plural, move |change| graph.update(plural, change));
    }
    let collector = Arc::new(Collector { client: setup.unlimited_client(), graph });
    setup.tasks.spawn_workers(&queue, move |item| {
        let worker = collector.clone();
        async move { worker.collect(&item).await }
    });
}

impl Graph {
    fn dependents_of(&self, uid: &str) -> Vec<Item> {
        let dependents = self.dependents.lock().unwrap_or_else(PoisonError::into_inner);
        dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Handles a change. A deleted object may leave dependents; a new or changed object may name owners that
    /// never existed.
    fn update(&self, plural: &str, change: &Change) {
        let mut dependents = self.dependents.lock().unwrap_or_else(PoisonError::into_inner);
        match (&change.old, &change.new) {
            (Some(old), None) => {
                for item in dependents.remove(object::uid(old)).into_iter().flatten() {
                    self.queue.add_after(&item, self.delay);
                }
            }
            (_, Some(new)) if is_orphaning(new) => {
                self.queue.add_after(&format!("{plural} {}", object::key(new)), self.delay);
            }
            (_, Some(new)) if !owners(new).is_empty() => {
                let item = format!("{plural} {}", object::key(new));
                for owner in owners(new).iter().filter_map(|owner| object::text(owner, "/uid")) {
                    dependents.entry(owner.to_owned()).or_default().insert(item.clone());
                }
                self.queue.add_after(&item, self.delay);
            }
            _ => {}
        }
    }
}

fn is_orphaning(owner: &Value) -> bool {
    object::is_deleting(owner) && object::has_finalizer(owner, ORPHAN)
}

fn owners(dependent: &Value) -> &[Value] {
    object::items(dependent, "/metadata/ownerReferences")
}

impl Collector {
    async fn collect(&self, item: &str) -> Result<(), String> {
        let Some((plural, key)) = item.split_once(' ') else { return Ok(()) };
        let (namespace, name) = object::split(key);
        let live = match self.client.get_shared(plural, namespace, name).await {
            Ok(live) => live,
            Err(status) if status.is_not_found() => return Ok(()),
            Err(status) => return Err(status.message),
        };
        if is_orphaning(&live) {
            return self.orphan(plural, &live).await;
        }
        if object::is_deleting(&live) {
            return Ok(());
        }
        let (mut existing, mut dangling) = (Vec::new(), 0);
        for owner in owners(&live) {
            if self.exists(namespace, owner).await? {
                existing.push(owner.clone());
            } else {
                dangling += 1;
            }
        }
        if dangling == 0 {
            return Ok(());
        }
        if existing.is_empty() {
            let deleted = self.client.delete_uid(plural, namespace, name, object::uid(&live)).await;
            return deleted
                .or_else(|status| if status.is_not_found() { Ok(()) } else { Err(status.message) });
        }
        self.replace(plural, &live, "/metadata/ownerReferences", json!(existing)).await
    }

    /// Removes the references to the owner, then the finalizer `orphan`. A reference that another client adds
    /// in between outlives its owner, and the dependent is then collected.
    async fn orphan(&self, plural: &str, owner: &Value) -> Result<(), String> {
        for item in self.graph.dependents_of(object::uid(owner)) {
            let Some((plural, key)) = item.split_once(' ') else { continue };
            let (namespace, name) = object::split(key);
            let Ok(dependent) = self.client.get_shared(plural, namespace, name).await else { continue };
            let others = |other: &&Value| object::text(other, "/uid") != Some(object::uid(owner));
            let left: Vec<&Value> = owners(&dependent).iter().filter(others).collect();
            if left.len() < owners(&dependent).len() {
                self.replace(plural, &dependent, "/metadata/ownerReferences", json!(left)).await?;
            }
        }
        let left = object::without_finalizers(owner, &[ORPHAN]);
        self.replace(plural, owner, "/metadata/finalizers", left).await
    }

    /// Replaces one field of the version that was read.
    async fn replace(&self, plural: &str, live: &Value, path: &str, value: Value) -> Result<(), String> {
        let operations = json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "replace", "path": path, "value": value},
        ]);
        self.client.patch(plural, live, operations).await.map(drop).map_err(|status| status.message)
    }

    async fn exists(&self, namespace: Option<&str>, owner: &Value) -> Result<bool, String> {
        // A kind that is not served could be served again later, so its dependents are not deleted.
        let Some(resource) = resource_of(owner) else { return Ok(true) };
        let namespace = namespace.filter(|_| resource.namespaced);
        let name = object::text(owner, "/name").unwrap_or_default();
        match self.client.get_shared(resource.plural, namespace, name).await {
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
