//! The embedded cluster: a Kubernetes API server, controllers and a CSI driver with its own storage, in one
//! process and from one seed.
//!
//! It serves the resources that Stillpoint uses, and runs the controllers that act on them.
//!
//! Promises:
//! - A Kubernetes client cannot distinguish it from a real cluster by the behaviour of group snapshots.
//! - The same seed in paused time gives the same run.
//! - The content of the storage is known exactly ([`Cluster::ledger`]).
//!
//! Layout: [`api_server`] the semantics of objects, [`actors`] the controllers and the driver, [`clock`] the
//! time, [`resources`] the served resources, [`ledger`] the comparison of the storage with the objects,
//! [`sample`] a sample database.
//!
//! Not here: anything of Stillpoint. The simulator does not know the state machine. It has its own copy of
//! all names, so that a wrong name in the API types fails a test.

pub mod actors;
pub mod api_server;
pub mod clock;
mod control;
mod deployment;
pub mod faults;
mod ids;
pub mod ledger;
mod pointer;
mod release;
pub mod resources;
pub mod sample;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::actors::driver::{DriverConfig, PhysicalSnapshot, Storage};
pub use self::release::Release;

use self::actors::{AGENTS, Actor, ActorContext};
use self::api_server::{ApiServer, ApiServerConfig, Checkpoint};
use self::clock::SimClock;
use self::ledger::Ledger;

/// The actors that use leader election, if it is enabled.
const LEADER_ELECTION: [&str; 2] = ["csi-snapshotter", "snapshot-controller"];
/// How long the lease of a killed leader blocks its successor (`--leader-election-lease-duration`).
const LEASE_DURATION: Duration = Duration::from_secs(15);

/// How long an API server initializes the storage of custom resources after RBAC is loaded.
const STORAGE_INITIALIZATION: Duration = Duration::from_secs(2);

/// The configuration of a cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// Source of uids, handles, generated names and delays.
    pub seed: u64,
    /// Initial time of the cluster's wall clock, nanoseconds since 1970.
    pub anchor_unix_ns: i64,
    /// Calls per second of the snapshot-controller and of the sidecar; the burst is twice as many. `None`
    /// disables the limit. The real default is 5.
    pub controller_qps: Option<f64>,
    /// Maximum duration of a call of an actor, milliseconds. The duration is drawn per call between 0 and
    /// this value; half of it passes before the execution.
    pub call_ms: u64,
    /// Served versions of `groupsnapshot.storage.k8s.io`, as far as the release has them.
    pub groupsnapshot_versions: Vec<String>,
    /// Release of the snapshot-controller and the sidecar. `None`: they use the newest served version, and
    /// otherwise behave as [`Release::Main`].
    pub release: Option<Release>,
    /// The feature gate `CSIVolumeGroupSnapshot`. If it is off, the controllers ignore groups.
    pub handles_groups: bool,
    /// Leader election of the snapshot-controller and the sidecar (`--leader-election`). An actor that
    /// restarts after a kill does nothing until the lease of its predecessor has expired.
    pub leader_election: bool,
    /// Maximum lag of the informer caches of the actors, milliseconds. Each event reaches them between 0 and
    /// this value later.
    pub cache_lag_ms: u64,
    /// Delay of the garbage collector, milliseconds.
    pub gc_delay_ms: u64,
    /// How long the API server refuses all calls after its start, milliseconds, as a real server does until
    /// RBAC is loaded. Custom resources are refused for 2 seconds more.
    pub forbid_first_ms: u64,
    /// How long a consistent list over HTTP waits for the watch cache, milliseconds. Measured on a real API
    /// server: 60 to 76 ms, while a get takes 1 ms.
    pub list_delay_ms: u64,
    /// The deviations of the CSI driver from a correct one.
    pub driver: DriverConfig,
}

impl Default for Config {
    /// A fast cluster without faults: all versions served, no rate limit, fresh caches.
    fn default() -> Self {
        Self {
            seed: 1,
            anchor_unix_ns: 1_795_197_784_000_000_000,
            controller_qps: None,
            call_ms: 0,
            groupsnapshot_versions: ["v1", "v1beta2", "v1beta1"].map(str::to_owned).to_vec(),
            release: None,
            handles_groups: true,
            leader_election: false,
            cache_lag_ms: 0,
            gc_delay_ms: 100,
            forbid_first_ms: 0,
            list_delay_ms: 0,
            driver: DriverConfig::default(),
        }
    }
}

/// A running cluster. Clones share the same cluster. Its actors end with [`stop`](Cluster::stop), with the
/// last clone or with the runtime.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    context: ActorContext,
    leader_election: bool,
    faults: faults::Rules,
    actors: Mutex<BTreeMap<&'static str, Actor>>,
}

impl Cluster {
    /// Starts the actors on the current tokio runtime and creates the objects of a cluster with the hostpath
    /// CSI driver: classes and namespaces.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: Config) -> Cluster {
        let clock = SimClock::new(config.anchor_unix_ns);
        let storage = Storage::new(config.seed, clock.clone(), config.driver.clone());
        Self::start_with(config, clock, storage)
    }

    /// A copy of this cluster, as from a snapshot of its etcd: the same objects with the same uids and
    /// versions, its own controllers, and the same storage behind the driver.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn copy(&self, config: Config) -> Cluster {
        let copy = Self::start_with(config, self.clock().clone(), self.storage().clone());
        copy.restore(&self.checkpoint());
        copy
    }

    /// The current objects, as in a snapshot of etcd.
    pub fn checkpoint(&self) -> Checkpoint {
        self.api().checkpoint()
    }

    /// Restores a checkpoint, as a cluster whose etcd is restored. The storage does not change, and every
    /// controller restarts with empty caches.
    pub fn restore(&self, checkpoint: &Checkpoint) {
        AGENTS.into_iter().for_each(|agent| {
            self.actors().get_mut(agent).into_iter().for_each(Actor::kill);
        });
        self.api().restore(checkpoint);
        AGENTS.into_iter().for_each(|agent| self.start_actor(agent));
    }

    fn start_with(config: Config, clock: SimClock, storage: Storage) -> Cluster {
        let newest = ["v1", "v1beta2", "v1beta1"]
            .into_iter()
            .find(|version| config.groupsnapshot_versions.iter().any(|served| served == version))
            .unwrap_or("v1");
        let group_version = config.release.map_or(newest, Release::group_version);
        let mut served = config.groupsnapshot_versions;
        served.retain(|version| config.release.is_none_or(|release| release.serves(version)));
        let api = ApiServer::new(ApiServerConfig {
            seed: config.seed,
            clock: clock.clone(),
            groupsnapshot_versions: served,
        });
        deployment::create(&api);
        api.set_list_delay(config.list_delay_ms);
        if config.forbid_first_ms > 0 {
            api.restart(Duration::from_millis(config.forbid_first_ms), STORAGE_INITIALIZATION);
        }
        let context = ActorContext {
            api,
            storage,
            clock,
            qps: config.controller_qps,
            call_ms: config.call_ms,
            seed: config.seed,
            lag: actors::Lag { max_ms: config.cache_lag_ms, seed: config.seed },
            group_api_version: format!("groupsnapshot.storage.k8s.io/{group_version}"),
            release: config.release.unwrap_or(Release::Main),
            handles_groups: config.handles_groups,
            gc_delay_ms: config.gc_delay_ms,
        };
        let leader_election = config.leader_election;
        let actors = AGENTS.into_iter().map(|agent| (agent, Actor::start(agent, context.clone()))).collect();
        Cluster {
            inner: Arc::new(Inner {
                context,
                leader_election,
                faults: faults::Rules::default(),
                actors: Mutex::new(actors),
            }),
        }
    }

    pub fn api(&self) -> &ApiServer {
        &self.inner.context.api
    }

    /// The HTTP interface: the Kubernetes API, `GET /sim/v1/calls`, `GET /sim/v1/ledger` and
    /// `/sim/v1/faults`.
    pub fn router(&self) -> axum::Router {
        control::router(self.clone())
    }

    /// The storage behind the CSI driver.
    pub fn storage(&self) -> &Storage {
        &self.inner.context.storage
    }

    pub fn clock(&self) -> &SimClock {
        &self.inner.context.clock
    }

    /// The comparison of the storage with the objects.
    pub fn ledger(&self) -> Ledger {
        Ledger::take(self.api(), self.storage())
    }

    /// Creates the sample database ([`sample`]). Existing objects are not changed.
    pub fn load_sample(&self) {
        sample::load(self.api());
    }

    /// Adds the faults in the JSON ([`faults`]): one fault, or a list. Returns the number of rules after
    /// that.
    ///
    /// # Errors
    /// A description of the invalid part; no fault of the JSON is applied then.
    pub fn add_fault(&self, json: &str) -> Result<usize, String> {
        faults::add(self, json)
    }

    /// Removes all rules for faults, and ends the second API server, the start of the API server and the
    /// delay of lists.
    pub fn clear_faults(&self) {
        faults::clear(self);
    }

    /// The names of the actors.
    pub fn agents() -> &'static [&'static str] {
        &AGENTS
    }

    /// Suspends an actor (`snapshot-controller`, `csi-snapshotter`, `pv-binder`, `garbage-collector`) at its
    /// current point, or resumes it with its old caches. An unknown name changes nothing.
    pub fn set_frozen(&self, agent: &str, frozen: bool) {
        if let Some(actor) = self.actors().get(agent) {
            actor.set_frozen(frozen);
        }
    }

    /// Stops an actor after its `calls`-th call from now, before it reads the reply, and resumes it after
    /// `duration`, if there is one. An unknown name changes nothing.
    pub fn stop_after(&self, agent: &str, calls: u64, duration: Option<Duration>) {
        self.at_call(agent, calls, move |cluster, agent| async move {
            if let Some(duration) = duration {
                tokio::time::sleep(duration).await;
                cluster().inspect(|cluster| cluster.set_frozen(agent, false));
            }
        });
    }

    /// Kills an actor after its `calls`-th call from now, before it reads the reply. It restarts with empty
    /// caches after `duration`. An unknown name changes nothing.
    pub fn kill_after(&self, agent: &str, calls: u64, duration: Duration) {
        self.at_call(agent, calls, move |cluster, agent| async move {
            cluster().inspect(|cluster| cluster.restart_after(agent, duration));
        });
    }

    /// Runs `act` once the actor has been stopped after that call.
    fn at_call<F>(
        &self,
        agent: &str,
        calls: u64,
        act: impl FnOnce(Box<dyn Fn() -> Option<Cluster> + Send + Sync>, &'static str) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(agent) = AGENTS.into_iter().find(|known| *known == agent) else { return };
        let Some(reached) = self.actors().get(agent).map(|actor| actor.stop_after_calls(calls)) else {
            return;
        };
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            if reached.await.is_ok() {
                act(Box::new(move || inner.upgrade().map(|inner| Cluster { inner })), agent).await;
            }
        });
    }

    /// Kills an actor and restarts it with empty caches. An unknown name, or a stopped cluster, changes
    /// nothing.
    pub fn restart(&self, agent: &str) {
        if let Some(agent) = AGENTS.into_iter().find(|known| *known == agent) {
            self.restart_after(agent, Duration::ZERO);
        }
    }

    fn restart_after(&self, agent: &'static str, duration: Duration) {
        self.actors().get_mut(agent).into_iter().for_each(Actor::kill);
        let has_lease = self.inner.leader_election && LEADER_ELECTION.contains(&agent);
        let pause = duration.max(if has_lease { LEASE_DURATION } else { Duration::ZERO });
        if pause.is_zero() {
            return self.start_actor(agent);
        }
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            inner.upgrade().inspect(|inner| Cluster { inner: inner.clone() }.start_actor(agent));
        });
    }

    fn start_actor(&self, agent: &'static str) {
        let mut actors = self.actors();
        // A stopped cluster has no actors.
        if actors.remove(agent).is_some() {
            actors.insert(agent, Actor::start(agent, self.inner.context.clone()));
        }
    }

    /// Number of work items of an actor that failed and were requeued, as in its log.
    pub fn failed_work(&self, agent: &str) -> u64 {
        self.actors().get(agent).map_or(0, Actor::failed_work)
    }

    /// Ends the actors. Objects and storage do not change.
    pub fn stop(&self) {
        self.actors().clear();
    }

    fn actors(&self) -> MutexGuard<'_, BTreeMap<&'static str, Actor>> {
        self.inner.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
