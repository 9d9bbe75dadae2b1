//! The embedded cluster: an API server for the resources Stillpoint touches, the controllers that act on them, a
//! CSI driver with a storage of its own, all in one process and from one seed.
//!
//! Promises: a program that talks to Kubernetes cannot tell it from a real cluster by what it observes of group
//! snapshots; the same seed on paused time gives the same run; what is in the storage is known exactly
//! ([`Cluster::ledger`]).
//!
//! Layout: [`api_server`] the semantics of objects, [`actors`] what happens to them, [`clock`] the time,
//! [`resources`] what is served, [`ledger`] the storage against the objects, [`sample`] a database to try things on.
//!
//! Not here: anything of Stillpoint. The simulator does not know the machine, and it has its own names for
//! everything, so that a wrong name in the API types fails a test.

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

use self::actors::{AGENTS, Actor, World};
use self::api_server::{ApiServer, ApiServerConfig, Checkpoint};
use self::clock::SimClock;
use self::ledger::Ledger;

/// The actors that elect a leader, where that is on.
const ELECTED: [&str; 2] = ["csi-snapshotter", "snapshot-controller"];
/// How long the lease of a leader that was killed keeps the next one from working (`--leader-election-lease-duration`).
const LEASE: Duration = Duration::from_secs(15);

/// How long an API server makes the storage of custom resources, once its permissions are loaded.
const INITIALIZES: Duration = Duration::from_secs(2);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Source of uids, handles, generated names and delays.
    pub seed: u64,
    /// What the cluster's wall clock says at the start, nanoseconds since 1970.
    pub anchor_unix_ns: i64,
    /// Calls per second of the snapshot-controller and of the sidecar, with twice as many as a burst;
    /// `None` is no limit. The real default is 5.
    pub controller_qps: Option<f64>,
    /// How long a call of an actor takes, milliseconds: between nothing and that much, drawn per call, half of it before
    /// the deed.
    pub call_ms: u64,
    /// Versions of `groupsnapshot.storage.k8s.io` that are served, as far as the release has them.
    pub groupsnapshot_versions: Vec<String>,
    /// Which snapshot-controller and sidecar run. `None`: those that speak the newest served version, and otherwise
    /// behave as [`Release::Main`].
    pub release: Option<Release>,
    /// The feature gate `CSIVolumeGroupSnapshot`. Off, nothing is done about groups.
    pub handles_groups: bool,
    /// Leader election of the snapshot-controller and the sidecar (`--leader-election`): one that is started again finds
    /// the lease of the one that was killed, and does nothing until it has run out.
    pub leader_election: bool,
    /// How old the informer caches of the actors may be, milliseconds: each event reaches them between zero and
    /// that much later.
    pub cache_lag_ms: u64,
    /// How long the garbage collector waits, milliseconds.
    pub gc_delay_ms: u64,
    /// How long the API server refuses everybody after its start, as a real one whose permissions are not loaded yet,
    /// milliseconds. Custom resources are refused for two seconds more.
    pub forbid_first_ms: u64,
    /// How long a consistent list over HTTP waits for the watch cache, milliseconds. Measured on a real API server: 60 to
    /// 76, where a get takes 1.
    pub list_delay_ms: u64,
    /// What the CSI driver does wrong.
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

/// A running cluster. Clones are the same cluster; its actors end with [`stop`](Cluster::stop), with the last
/// clone or with the runtime.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    world: World,
    leader_election: bool,
    faults: faults::Rules,
    actors: Mutex<BTreeMap<&'static str, Actor>>,
}

impl Cluster {
    /// Starts the actors on the current tokio runtime and deploys what a cluster with the hostpath CSI driver
    /// has: classes and namespaces.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: Config) -> Cluster {
        let clock = SimClock::new(config.anchor_unix_ns);
        let storage = Storage::new(config.seed, clock.clone(), config.driver.clone());
        Self::start_with(config, clock, storage)
    }

    /// A copy of this cluster, as from a snapshot of its etcd: the same objects under the same uids and versions, controllers
    /// of its own, and the same storage behind the driver.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn copy(&self, config: Config) -> Cluster {
        let copy = Self::start_with(config, self.clock().clone(), self.storage().clone());
        copy.go_back(&self.checkpoint());
        copy
    }

    /// The objects as they are now: what a snapshot of etcd holds.
    pub fn checkpoint(&self) -> Checkpoint {
        self.api().checkpoint()
    }

    /// Goes back to a checkpoint, as a cluster whose etcd is restored: the storage stays as it is, and every controller
    /// starts again with empty caches.
    pub fn go_back(&self, checkpoint: &Checkpoint) {
        AGENTS.into_iter().for_each(|agent| {
            self.actors().get_mut(agent).into_iter().for_each(Actor::kill);
        });
        self.api().restore(checkpoint);
        AGENTS.into_iter().for_each(|agent| self.start_anew(agent));
    }

    fn start_with(config: Config, clock: SimClock, storage: Storage) -> Cluster {
        let newest = ["v1", "v1beta2", "v1beta1"]
            .into_iter()
            .find(|version| config.groupsnapshot_versions.iter().any(|served| served == version))
            .unwrap_or("v1");
        let spoken = config.release.map_or(newest, Release::group_version);
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
            api.start_anew(Duration::from_millis(config.forbid_first_ms), INITIALIZES);
        }
        let world = World {
            api,
            storage,
            clock,
            qps: config.controller_qps,
            call_ms: config.call_ms,
            seed: config.seed,
            lag: actors::Lag { max_ms: config.cache_lag_ms, seed: config.seed },
            group_api_version: format!("groupsnapshot.storage.k8s.io/{spoken}"),
            release: config.release.unwrap_or(Release::Main),
            handles_groups: config.handles_groups,
            gc_delay_ms: config.gc_delay_ms,
        };
        let leader_election = config.leader_election;
        let actors = AGENTS.into_iter().map(|agent| (agent, Actor::start(agent, world.clone()))).collect();
        Cluster {
            inner: Arc::new(Inner {
                world,
                leader_election,
                faults: faults::Rules::default(),
                actors: Mutex::new(actors),
            }),
        }
    }

    /// The API server.
    pub fn api(&self) -> &ApiServer {
        &self.inner.world.api
    }

    /// The HTTP face: the Kubernetes API, `GET /sim/v1/calls`, `GET /sim/v1/ledger` and `/sim/v1/faults`.
    pub fn router(&self) -> axum::Router {
        control::router(self.clone())
    }

    /// The storage behind the CSI driver.
    pub fn storage(&self) -> &Storage {
        &self.inner.world.storage
    }

    /// The cluster's clock.
    pub fn clock(&self) -> &SimClock {
        &self.inner.world.clock
    }

    /// The storage compared with the objects.
    pub fn ledger(&self) -> Ledger {
        Ledger::take(self.api(), self.storage())
    }

    /// Creates the sample database ([`sample`]); what is there already is left as it is.
    pub fn load_sample(&self) {
        sample::load(self.api());
    }

    /// Lets the faults that the JSON describes come ([`faults`]): one of them, or a list. The number of rules then.
    ///
    /// # Errors
    /// What is wrong with the text; nothing of it works then.
    pub fn add_fault(&self, json: &str) -> Result<usize, String> {
        faults::add(self, json)
    }

    /// Forgets all rules for faults, and ends the second API server.
    pub fn clear_faults(&self) {
        faults::clear(self);
    }

    /// The names of the actors.
    pub fn agents() -> &'static [&'static str] {
        &AGENTS
    }

    /// Stops an actor in the middle of what it does (`snapshot-controller`, `csi-snapshotter`, `pv-binder`,
    /// `garbage-collector`), or lets it go on from the caches it had. An unknown name changes nothing.
    pub fn set_frozen(&self, agent: &str, frozen: bool) {
        if let Some(actor) = self.actors().get(agent) {
            actor.set_frozen(frozen);
        }
    }

    /// Stops an actor behind its `calls`-th call from now, before it has read the answer, and lets it go on after
    /// `duration`, if there is one. An unknown name changes nothing.
    pub fn stop_after(&self, agent: &str, calls: u64, duration: Option<Duration>) {
        self.at_call(agent, calls, move |cluster, agent| async move {
            if let Some(duration) = duration {
                tokio::time::sleep(duration).await;
                cluster().inspect(|cluster| cluster.set_frozen(agent, false));
            }
        });
    }

    /// Kills an actor behind its `calls`-th call from now, before it has read the answer; another one starts with
    /// empty caches after `duration`. An unknown name changes nothing.
    pub fn kill_after(&self, agent: &str, calls: u64, duration: Duration) {
        self.at_call(agent, calls, move |cluster, agent| async move {
            cluster().inspect(|cluster| cluster.restart_after(agent, duration));
        });
    }

    /// Does something once the actor has been stopped behind that call.
    fn at_call<F>(
        &self,
        agent: &str,
        calls: u64,
        act: impl FnOnce(Box<dyn Fn() -> Option<Cluster> + Send + Sync>, &'static str) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(agent) = AGENTS.into_iter().find(|known| *known == agent) else { return };
        let Some(reached) = self.actors().get(agent).map(|actor| actor.stop_behind(calls)) else { return };
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            if reached.await.is_ok() {
                act(Box::new(move || inner.upgrade().map(|inner| Cluster { inner })), agent).await;
            }
        });
    }

    /// Kills an actor and starts it again with empty caches. An unknown name, or a cluster that was stopped, changes
    /// nothing.
    pub fn restart(&self, agent: &str) {
        if let Some(agent) = AGENTS.into_iter().find(|known| *known == agent) {
            self.restart_after(agent, Duration::ZERO);
        }
    }

    fn restart_after(&self, agent: &'static str, duration: Duration) {
        self.actors().get_mut(agent).into_iter().for_each(Actor::kill);
        let elects = self.inner.leader_election && ELECTED.contains(&agent);
        let pause = duration.max(if elects { LEASE } else { Duration::ZERO });
        if pause.is_zero() {
            return self.start_anew(agent);
        }
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            inner.upgrade().inspect(|inner| Cluster { inner: inner.clone() }.start_anew(agent));
        });
    }

    fn start_anew(&self, agent: &'static str) {
        let mut actors = self.actors();
        // A cluster that was stopped has none.
        if actors.remove(agent).is_some() {
            actors.insert(agent, Actor::start(agent, self.inner.world.clone()));
        }
    }

    /// How often work of an actor has failed and was put back for later, as its log would show.
    pub fn failed_work(&self, agent: &str) -> u64 {
        self.actors().get(agent).map_or(0, Actor::failed_work)
    }

    /// Ends the actors. Objects and storage stay as they are.
    pub fn stop(&self) {
        self.actors().clear();
    }

    fn actors(&self) -> MutexGuard<'_, BTreeMap<&'static str, Actor>> {
        self.inner.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
