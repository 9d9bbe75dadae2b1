//! The embedded API server: an in-memory Kubernetes API server for the resources that Stillpoint uses.
//!
//! Promises: the semantics of Kubernetes 1.36 that a client of these resources can observe (versions and
//! conflicts, preconditions, the status subresource, finalizers, patches, watches, selectors, tables,
//! discovery), over HTTP and for actors in the same process. Every call is atomic. All randomness comes from
//! the seed, and all times from the simulated clock.
//!
//! Layout: `store` has objects and history; `write` validates and stores changes, with `validate`, `rules`,
//! `defaults` and `namespaces`; `caller` is the interface for actors, `http` the interface for all other
//! clients.
//!
//! Deliberately not here: controllers. The server itself does not bind, fill or collect objects; it only
//! deletes the contents of a deleted namespace. `GAPS.md` of the simulator lists the simplifications.

mod apply;
mod builtin;
mod caller;
mod conversion;
mod defaults;
mod events;
mod http;
mod json_patch;
mod merge;
mod meta;
mod namespaces;
mod patch;
mod rules;
mod schema;
mod selector;
mod status;
mod store;
mod stored;
mod tally;
mod text;
mod validate;
mod write;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

pub use self::caller::{Caller, Watch, WatchEvent};
pub use self::http::{
    Answer, CallInfo, ConnectionBroken, FaultDecision, Faults, Replicas, StreamEnd, StreamFault,
};
pub use self::status::{Cause, Details, Status};
pub use self::tally::Tally;
pub use self::write::Preconditions;

use self::http::Start;
pub use self::store::Checkpoint;
use self::store::Store;
use self::write::Target;
use crate::clock::SimClock;
use crate::resources::{self, GROUP_SNAPSHOT_GROUP, NAMESPACES, Resource};

/// Namespaces that every cluster has from the start.
const FIRST_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// The configuration of an [`ApiServer`].
#[derive(Debug, Clone)]
pub struct ApiServerConfig {
    /// Source of uids and generated names.
    pub seed: u64,
    /// Source of timestamps.
    pub clock: SimClock,
    /// The served versions of `groupsnapshot.storage.k8s.io`. If it is empty, the group does not exist.
    pub groupsnapshot_versions: Vec<String>,
}

/// The API server. Clones share one state.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    store: Store,
    tally: Tally,
    groupsnapshot_versions: Vec<String>,
    faults: Option<Faults>,
    /// Faults on calls of the actors, which do not use HTTP.
    actor_faults: Option<Faults>,
    replicas: Option<Replicas>,
    /// Set while the server starts.
    start: Option<Start>,
    /// Delay of a consistent list by the watch cache, milliseconds.
    list_delay_ms: u64,
}

impl ApiServer {
    /// Creates an API server with the namespaces that every cluster has.
    pub fn new(config: ApiServerConfig) -> Self {
        let mut inner = Inner {
            store: Store::new(config.seed, config.clock),
            tally: Tally::default(),
            groupsnapshot_versions: config.groupsnapshot_versions,
            faults: None,
            actor_faults: None,
            replicas: None,
            start: None,
            list_delay_ms: 0,
        };
        inner.create_first_namespaces();
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// A client for an actor in this process; its calls are counted under `agent`.
    pub fn caller(&self, agent: &str) -> Caller {
        Caller::new(self.clone(), agent)
    }

    /// The HTTP interface for kubectl and kube. Also the in-memory transport of a `kube::Client`.
    pub fn router(&self) -> axum::Router {
        http::router(self.clone())
    }

    /// Makes `faults` decide every call over HTTP from now on. It must not call this server itself.
    pub fn set_faults(&self, faults: Faults) {
        self.with(|inner| inner.faults = Some(faults));
    }

    /// Removes the faults on calls over HTTP.
    pub fn clear_faults(&self) {
        self.with(|inner| inner.faults = None);
    }

    /// Makes `faults` decide every call of an actor from now on. It must not call this server itself.
    pub fn set_actor_faults(&self, faults: Faults) {
        self.with(|inner| inner.actor_faults = Some(faults));
    }

    /// Removes the faults on calls of actors.
    pub fn clear_actor_faults(&self) {
        self.with(|inner| inner.actor_faults = None);
    }

    /// Makes a second API server with an older cache answer a share of the calls over HTTP; `None` ends that.
    pub fn set_replicas(&self, replicas: Option<Replicas>) {
        self.with(|inner| inner.replicas = replicas);
    }

    /// Restarts the API server: all watches end, all calls are refused with 403 for `forbids`, then those for
    /// custom resources with 429 for `initializes`. Actors are not affected.
    pub fn restart(&self, forbids: Duration, initializes: Duration) {
        self.with(|inner| inner.start = Some(Start::now(forbids, initializes)));
        self.drop_watches();
    }

    /// Ends the start of the server.
    pub fn end_start(&self) {
        self.with(|inner| inner.start = None);
    }

    /// Delays consistent lists over HTTP, as the watch cache of a real API server does.
    pub fn set_list_delay(&self, milliseconds: u64) {
        self.with(|inner| inner.list_delay_ms = milliseconds);
    }

    /// Makes the CRD of a resource keep every field and check none from now on, as the CRD of an older
    /// release may.
    pub fn preserve_unknown_fields(&self, plural: &str) {
        self.with(|inner| inner.store.preserve_unknown_fields(plural));
    }

    /// The number of calls so far, by agent, verb and resource.
    pub fn tally(&self) -> Tally {
        self.with(|inner| inner.tally.clone())
    }

    /// Resets the counters to zero.
    pub fn reset_tally(&self) {
        self.with(|inner| inner.tally = Tally::default());
    }

    /// Clears the history, as a compaction of etcd does: watches from an older version get 410.
    pub fn compact(&self) {
        self.with(|inner| inner.store.compact());
    }

    /// The current objects, as in a snapshot of etcd.
    pub fn checkpoint(&self) -> Checkpoint {
        self.with(|inner| inner.store.checkpoint())
    }

    /// Restores a checkpoint of this server, or of another server that this one becomes a copy of. Objects
    /// and their versions are those of the checkpoint, and every watch ends. The storage of the driver is not
    /// affected.
    pub fn restore(&self, checkpoint: &Checkpoint) {
        self.with(|inner| inner.store.restore(checkpoint));
    }

    /// Ends all watches over HTTP, as a restart of an API server does. Watches of actors continue.
    pub fn drop_watches(&self) {
        self.with(|inner| inner.store.drop_remote_subscribers());
    }

    /// Counts a call over HTTP.
    fn count(&self, agent: &str, verb: &str, plural: &str, subresource: Option<&str>) {
        self.with(|inner| inner.tally.count(agent, verb, plural, subresource));
    }

    /// Decides the fault of a call over HTTP. The call is described only if faults are set.
    fn decide(&self, describe: impl FnOnce() -> CallInfo) -> FaultDecision {
        if self.with(|inner| inner.faults.is_none()) {
            return FaultDecision::none();
        }
        let call = describe();
        self.with(|inner| inner.faults.as_mut().map_or_else(FaultDecision::none, |faults| faults(&call)))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    /// The served versions of a resource, the preferred one first.
    fn versions(&self, resource: &Resource) -> Vec<&'static str> {
        let served = |version: &&'static str| {
            resource.group != GROUP_SNAPSHOT_GROUP
                || self.groupsnapshot_versions.iter().any(|one| one == version)
        };
        resource.versions.iter().copied().filter(served).collect()
    }

    /// The preferred served version; `None` if the resource is not served.
    fn preferred(&self, resource: &Resource) -> Option<&'static str> {
        self.versions(resource).first().copied()
    }

    /// The object with the apiVersion in which it is stored.
    fn with_storage_type(&self, resource: &Resource, mut object: Value) -> Value {
        let version = self.preferred(resource).unwrap_or_default();
        meta::set_top(&mut object, "apiVersion", Some(&json!(resource.api_version(version))));
        meta::set_top(&mut object, "kind", Some(&json!(resource.kind)));
        object
    }

    fn create_first_namespaces(&mut self) {
        let Some(resource) = resources::by_plural(NAMESPACES) else { return };
        for name in FIRST_NAMESPACES {
            let object = self.with_storage_type(resource, json!({"metadata": {"name": name}}));
            let target = Target { resource, key: namespaces::key(name), status: false, dry_run: false };
            // The names are valid and the store is empty, so these writes cannot fail.
            let _ = write::create(&mut self.store, &target, object);
        }
    }
}

#[cfg(test)]
mod tests;
