//! The API client of actors in the same process.
//!
//! Every call is synchronous and atomic, and is counted like a call over HTTP. Faults affect it only if the
//! client of an actor evaluates them. Objects are in the preferred served version of their group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::api_server::status::Status;
use crate::api_server::store::{Change, ChangeKind, Key};
use crate::api_server::write::{self, DeleteResult, Preconditions, Target};
use crate::api_server::{ApiServer, CallInfo, FaultDecision, meta, patch};
use crate::resources::{self, Resource};

/// A client under one agent name.
#[derive(Clone)]
pub struct Caller {
    server: ApiServer,
    agent: String,
}

impl Caller {
    pub(super) fn new(server: ApiServer, agent: &str) -> Self {
        Self { server, agent: agent.to_owned() }
    }

    /// Decides the fault of an actor's call, after adding the name of the agent.
    pub(crate) fn decide(&self, mut call: CallInfo) -> FaultDecision {
        self.server.with(|inner| match &mut inner.actor_faults {
            Some(faults) => {
                call.agent.clone_from(&self.agent);
                faults(&call)
            }
            None => FaultDecision::none(),
        })
    }

    /// Reads one object; `ns` is `None` for cluster-scoped resources.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, plural: &str, ns: Option<&str>, name: &str) -> Result<Value, Status> {
        self.get_shared(plural, ns, name).map(Arc::unwrap_or_clone)
    }

    /// Reads one object, shared with the store and not copied.
    pub(crate) fn get_shared(
        &self,
        plural: &str,
        ns: Option<&str>,
        name: &str,
    ) -> Result<Arc<Value>, Status> {
        let target = self.target("get", plural, ns, name, None)?;
        self.server.with(|inner| {
            inner.store.get(&target.key).ok_or_else(|| Status::not_found(target.resource, name))
        })
    }

    /// Lists the objects of a namespace (`None`: all) that have all the given labels, in the order of
    /// namespace and name.
    ///
    /// # Errors
    /// 404 for a resource that is not served.
    pub fn list(
        &self,
        plural: &str,
        ns: Option<&str>,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<Value>, Status> {
        let target = self.target("list", plural, ns, "", None)?;
        let matches = |object: &Value| {
            let has = &object["metadata"]["labels"];
            labels.iter().all(|(key, value)| has[key.as_str()] == value.as_str())
        };
        self.server.with(|inner| {
            let objects = inner.store.range(target.resource.plural, ns).map(|(_, object)| object);
            Ok(objects.filter(|object| matches(object)).map(Arc::unwrap_or_clone).collect())
        })
    }

    /// All objects of a resource in the order of namespace and name, shared with the store and not copied.
    ///
    /// # Errors
    /// 404 for a resource that is not served.
    pub fn all(&self, plural: &str) -> Result<Vec<Arc<Value>>, Status> {
        let resource = self.target("list", plural, None, "", None)?.resource;
        Ok(self
            .server
            .with(|inner| inner.store.range(resource.plural, None).map(|(_, object)| object).collect()))
    }

    /// Creates an object. Name (or `generateName`) and namespace are in its metadata.
    ///
    /// # Errors
    /// 400, 403, 404 (namespace), 409 `AlreadyExists`, 422.
    pub fn create(&self, plural: &str, object: Value) -> Result<Value, Status> {
        self.create_shared(plural, object).map(Arc::unwrap_or_clone)
    }

    /// As [`Self::create`]; the object is shared with the store and not copied.
    pub(crate) fn create_shared(&self, plural: &str, object: Value) -> Result<Arc<Value>, Status> {
        let ns = meta::get(&object, "namespace").to_owned();
        let target = self.target("create", plural, Some(&ns), meta::get(&object, "name"), None)?;
        self.server.with(|inner| {
            let object = inner.with_storage_type(target.resource, object);
            write::create(&mut inner.store, &target, object)
        })
    }

    /// Replaces an object (PUT). If the status subresource exists, the status is ignored.
    ///
    /// # Errors
    /// 404, 409 (stale resourceVersion, other uid), 422.
    pub fn update(&self, plural: &str, object: Value) -> Result<Value, Status> {
        self.replace_shared(plural, object, None).map(Arc::unwrap_or_clone)
    }

    /// Replaces only the status (PUT on `/status`).
    ///
    /// # Errors
    /// 404, 409, 422.
    pub fn update_status(&self, plural: &str, object: Value) -> Result<Value, Status> {
        self.replace_shared(plural, object, Some("status")).map(Arc::unwrap_or_clone)
    }

    /// Applies a JSON patch.
    ///
    /// # Errors
    /// 400, 404, 409, 422 (also if a `test` fails).
    pub fn json_patch(
        &self,
        plural: &str,
        ns: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        ops: Value,
    ) -> Result<Value, Status> {
        self.json_patch_shared(plural, ns, name, subresource, &ops).map(Arc::unwrap_or_clone)
    }

    /// As [`Self::json_patch`]; the object is shared with the store and not copied.
    pub(crate) fn json_patch_shared(
        &self,
        plural: &str,
        ns: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        ops: &Value,
    ) -> Result<Arc<Value>, Status> {
        let target = self.target("patch", plural, ns, name, subresource)?;
        self.change(&target, |current| patch::json(current, ops))
    }

    /// Applies a merge patch.
    ///
    /// # Errors
    /// 400, 404, 409, 422.
    pub fn merge_patch(
        &self,
        plural: &str,
        ns: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        patch: Value,
    ) -> Result<Value, Status> {
        let target = self.target("patch", plural, ns, name, subresource)?;
        self.change(&target, |current| Ok(patch::merge(current, &patch))).map(Arc::unwrap_or_clone)
    }

    /// Deletes an object. Returns `Some(object)` if finalizers delay the removal, `None` if the object is
    /// removed.
    ///
    /// # Errors
    /// 404, 409 if a precondition is not met.
    pub fn delete(
        &self,
        plural: &str,
        ns: Option<&str>,
        name: &str,
        preconditions: Preconditions,
    ) -> Result<Option<Value>, Status> {
        let target = self.target("delete", plural, ns, name, None)?;
        self.server.with(|inner| match write::delete(&mut inner.store, &target, &preconditions)? {
            DeleteResult::Pending(object) => Ok(Some(Arc::unwrap_or_clone(object))),
            DeleteResult::Removed(_) => Ok(None),
        })
    }

    /// Watches a resource in all namespaces: first the existing objects as added, in order, then every
    /// change. For a resource that is not served the watch has no events.
    pub fn watch(&self, plural: &str) -> Watch {
        let Ok(target) = self.target("watch", plural, None, "", None) else {
            return Watch { initial: VecDeque::new(), changes: None };
        };
        self.server.with(|inner| {
            let plural = target.resource.plural;
            let initial = inner.store.range(plural, None).map(|(_, object)| object).collect();
            Watch { initial, changes: Some(inner.store.subscribe(plural, false)) }
        })
    }

    /// Replaces an object without its status, or only its status. The object is shared with the store and not
    /// copied.
    pub(crate) fn replace_shared(
        &self,
        plural: &str,
        object: Value,
        subresource: Option<&str>,
    ) -> Result<Arc<Value>, Status> {
        let ns = meta::get(&object, "namespace").to_owned();
        let name = meta::get(&object, "name").to_owned();
        let target = self.target("update", plural, Some(&ns), &name, subresource)?;
        self.change(&target, |_| patch::may_replace(target.resource, &object).map(|()| object))
    }

    fn change(
        &self,
        target: &Target,
        change: impl FnOnce(&Value) -> Result<Value, Status>,
    ) -> Result<Arc<Value>, Status> {
        self.server.with(|inner| write::update(&mut inner.store, target, change))
    }

    /// Counts the call and finds the resource.
    fn target(
        &self,
        verb: &str,
        plural: &str,
        ns: Option<&str>,
        name: &str,
        subresource: Option<&str>,
    ) -> Result<Target, Status> {
        let resource = self.server.with(|inner| {
            inner.tally.count(&self.agent, verb, plural, subresource);
            resources::by_plural(plural).filter(|resource| inner.preferred(resource).is_some())
        });
        let resource = resource.ok_or_else(Status::no_such_path)?;
        if subresource.is_some_and(|subresource| subresource != "status" || !resource.status_subresource) {
            return Err(Status::no_such_path());
        }
        let key = key(resource, ns.unwrap_or_default(), name);
        Ok(Target { resource, key, status: subresource.is_some(), dry_run: false })
    }
}

/// The key of an object. The namespace of a cluster-scoped resource is dropped.
pub(super) fn key(resource: &'static Resource, namespace: &str, name: &str) -> Key {
    let namespace = if resource.namespaced { namespace.to_owned() } else { String::new() };
    Key { plural: resource.plural, namespace, name: name.to_owned() }
}

/// One event of a [`Watch`]. The object is shared with the store and all watches.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    /// The object is new, or existed when the watch began.
    Added(Arc<Value>),
    Modified(Arc<Value>),
    /// The object was removed; this is its last state.
    Deleted(Arc<Value>),
}

/// All changes of one resource, without gaps.
pub struct Watch {
    initial: VecDeque<Arc<Value>>,
    changes: Option<UnboundedReceiver<Arc<Change>>>,
}

impl Watch {
    /// Waits for the next event; there may never be one.
    pub async fn next(&mut self) -> WatchEvent {
        if let Some(object) = self.initial.pop_front() {
            return WatchEvent::Added(object);
        }
        let change = match &mut self.changes {
            Some(changes) => changes.recv().await,
            None => None,
        };
        match change {
            Some(change) => event(&change),
            None => std::future::pending().await,
        }
    }

    /// Returns the next event if one is available.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        if let Some(object) = self.initial.pop_front() {
            return Some(WatchEvent::Added(object));
        }
        self.changes.as_mut()?.try_recv().ok().map(|change| event(&change))
    }
}

fn event(change: &Change) -> WatchEvent {
    let object = change.object.tree();
    match change.kind {
        ChangeKind::Added => WatchEvent::Added(object),
        ChangeKind::Modified => WatchEvent::Modified(object),
        ChangeKind::Deleted => WatchEvent::Deleted(object),
    }
}
