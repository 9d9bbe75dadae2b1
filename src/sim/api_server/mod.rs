//! The embedded API server: a Kubernetes API server for the resources that Stillpoint touches, in memory.
//!
//! Promises: the semantics of Kubernetes 1.36 that a client of these resources can observe (versions and conflicts,
//! preconditions, the status subresource, finalizers, patches, watches, selectors, tables, discovery), over HTTP and
//! to actors in the same process. Every call is atomic. Nothing is random but by the seed, and no clock is read but
//! the simulated one.
//!
//! Layout: `store` keeps objects and history; `write` is the way of a change into it, with `validate`, `rules`,
//! `defaults` and `namespaces`; `caller` is the face for actors, `http` the one for the rest of the world.
//!
//! Deliberately not here: controllers. No object is bound, filled or collected by the server itself; only the
//! contents of a deleted namespace go with it. What is simplified is listed in `GAPS.md` of the simulator.

mod apply;
mod builtin;
mod caller;
mod defaults;
mod events;
mod http;
mod json_patch;
mod kept;
mod merge;
mod meta;
mod namespaces;
mod patch;
mod present;
mod rules;
mod schema;
mod selector;
mod status;
mod store;
mod tally;
mod text;
mod validate;
mod write;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

pub use self::caller::{Caller, Watch, WatchEvent};
pub use self::http::{Answer, CallInfo, FaultDecision, Faults, Replicas, Severed, StreamEnd, StreamFault};
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

/// What an [`ApiServer`] is made of.
#[derive(Debug, Clone)]
pub struct ApiServerConfig {
    /// Source of uids and generated names.
    pub seed: u64,
    /// Source of timestamps.
    pub clock: SimClock,
    /// The served versions of `groupsnapshot.storage.k8s.io`; without any the group does not exist.
    pub groupsnapshot_versions: Vec<String>,
}

/// The API server; clones share one state.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    store: Store,
    tally: Tally,
    groupsnapshot_versions: Vec<String>,
    faults: Option<Faults>,
    /// Faults on calls of the actors, which are no clients over HTTP.
    actor_faults: Option<Faults>,
    replicas: Option<Replicas>,
    /// Of a server that has just started.
    start: Option<Start>,
    /// How long the watch cache needs for a consistent list, milliseconds.
    list_delay_ms: u64,
}

impl ApiServer {
    /// An API server with the namespaces that every cluster has.
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

    /// A client for an actor in this process; its calls are tallied under `agent`.
    pub fn caller(&self, agent: &str) -> Caller {
        Caller::new(self.clone(), agent)
    }

    /// The HTTP face: everything that kubectl and kube need. Also the in-memory transport of a `kube::Client`.
    pub fn router(&self) -> axum::Router {
        http::router(self.clone())
    }

    /// Lets `faults` decide over every call over HTTP from now on; it must not call this server itself.
    pub fn set_faults(&self, faults: Faults) {
        self.with(|inner| inner.faults = Some(faults));
    }

    /// No more faults.
    pub fn clear_faults(&self) {
        self.with(|inner| inner.faults = None);
    }

    /// Lets `faults` decide over every call of an actor from now on; it must not call this server itself.
    pub fn set_actor_faults(&self, faults: Faults) {
        self.with(|inner| inner.actor_faults = Some(faults));
    }

    /// No more faults on calls of actors.
    pub fn clear_actor_faults(&self) {
        self.with(|inner| inner.actor_faults = None);
    }

    /// Lets a second API server answer a share of the calls over HTTP from a cache that is older; `None` ends that.
    pub fn set_replicas(&self, replicas: Option<Replicas>) {
        self.with(|inner| inner.replicas = replicas);
    }

    /// From now on the server is one that has just started: all watches end, it refuses everybody with 403 for `forbids`,
    /// and custom resources with 429 for `initializes` after that. Actors are not touched.
    pub fn start_anew(&self, forbids: Duration, initializes: Duration) {
        self.with(|inner| inner.start = Some(Start::now(forbids, initializes)));
        self.drop_watches();
    }

    /// The server is no longer one that has just started.
    pub fn end_start(&self) {
        self.with(|inner| inner.start = None);
    }

    /// Consistent lists over HTTP take so many milliseconds, as those of a real API server that waits for its watch cache.
    pub fn set_list_delay(&self, milliseconds: u64) {
        self.with(|inner| inner.list_delay_ms = milliseconds);
    }

    /// From now on the definition of a resource keeps every field and checks none, as a definition of an older release
    /// may.
    pub fn loosen(&self, plural: &str) {
        self.with(|inner| inner.store.keep_all(plural));
    }

    /// The calls so far, by agent, verb and resource.
    pub fn tally(&self) -> Tally {
        self.with(|inner| inner.tally.clone())
    }

    /// Counts from zero again.
    pub fn reset_tally(&self) {
        self.with(|inner| inner.tally = Tally::default());
    }

    /// Forgets the history, as a compaction of etcd does: watches from an older version meet 410.
    pub fn compact(&self) {
        self.with(|inner| inner.store.compact());
    }

    /// The objects as they are now: what a snapshot of etcd holds.
    pub fn checkpoint(&self) -> Checkpoint {
        self.with(|inner| inner.store.checkpoint())
    }

    /// Goes back to a checkpoint, of this server or of another one that it becomes a copy of: objects and their versions
    /// are the old ones, and every watch ends. The storage of the driver is not touched.
    pub fn restore(&self, checkpoint: &Checkpoint) {
        self.with(|inner| inner.store.restore(checkpoint));
    }

    /// Ends all watches over HTTP, as a restart of an API server does; watches of actors go on.
    pub fn drop_watches(&self) {
        self.with(|inner| inner.store.drop_remote_subscribers());
    }

    /// Counts a call over HTTP.
    fn count(&self, agent: &str, verb: &str, plural: &str, subresource: Option<&str>) {
        self.with(|inner| inner.tally.count(agent, verb, plural, subresource));
    }

    /// Decides over a call over HTTP, which is described only for faults that are there.
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

    /// The preferred served version, none if the resource is not served.
    fn preferred(&self, resource: &Resource) -> Option<&'static str> {
        self.versions(resource).first().copied()
    }

    /// The object under the apiVersion in which it is stored.
    fn typed(&self, resource: &Resource, mut object: Value) -> Value {
        let version = self.preferred(resource).unwrap_or_default();
        meta::set_top(&mut object, "apiVersion", Some(&json!(resource.api_version(version))));
        meta::set_top(&mut object, "kind", Some(&json!(resource.kind)));
        object
    }

    fn create_first_namespaces(&mut self) {
        let Some(resource) = resources::by_plural(NAMESPACES) else { return };
        for name in FIRST_NAMESPACES {
            let object = self.typed(resource, json!({"metadata": {"name": name}}));
            let target = Target { resource, key: namespaces::key(name), status: false, dry_run: false };
            // The names are valid and the store is empty: nothing refuses them.
            let _ = write::create(&mut self.store, &target, object);
        }
    }
}

#[cfg(test)]
mod tests;
