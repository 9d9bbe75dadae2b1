//! The actors of the embedded cluster: everything that acts on objects beside the API server and its users.
//!
//! | agent | stands for |
//! |---|---|
//! | `snapshot-controller` | the controller of that name |
//! | `csi-snapshotter` | the sidecar of that name, with the driver behind it |
//! | `pv-binder` | persistent volume controller, protection finalizers, external-provisioner |
//! | `garbage-collector` | the garbage collector of kube-controller-manager |
//!
//! Each has caches of its own, filled by watches and possibly old, work queues with back-off, and a rate limit on
//! its calls. Members are lost only by what the real ones do: ownership put back on a snapshot's sync, deletion
//! of members on a group's sync, garbage collection. No rule here knows of a wrong order.
//!
//! Not here: what nobody who drives group snapshots can observe; `GAPS.md` lists it.

mod client;
mod csi_snapshotter;
pub mod driver;
mod garbage_collector;
mod gate;
mod informer;
pub(crate) mod object;
mod pv_binder;
pub(crate) mod quantity;
mod queue;
mod recorder;
mod snapshot_controller;
pub(crate) mod strings;
mod tasks;
#[cfg(test)]
mod tests;
mod throttle;
mod tracked;

use self::client::{Client, Latency};
use self::driver::Storage;
use self::gate::Gate;
pub(crate) use self::informer::Lag;
use self::informer::{Cache, Change};
use self::recorder::Recorder;
use self::tasks::Tasks;
use crate::api_server::{ApiServer, Caller};
use crate::clock::SimClock;
use crate::release::Release;

/// The agents, in the order in which they are started.
pub(crate) const AGENTS: [&str; 4] =
    [pv_binder::AGENT, garbage_collector::AGENT, csi_snapshotter::AGENT, snapshot_controller::AGENT];

/// What all actors have in common.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) api: ApiServer,
    pub(crate) clock: SimClock,
    pub(crate) storage: Storage,
    /// Calls per second of the snapshot-controller's and the sidecar's clients.
    pub(crate) qps: Option<f64>,
    /// How long a call takes at most, milliseconds.
    pub(crate) call_ms: u64,
    /// Where the durations of calls are drawn from.
    pub(crate) seed: u64,
    pub(crate) lag: Lag,
    /// The newest version of the group snapshot API that is served, the one the controllers speak.
    pub(crate) group_api_version: String,
    /// Which release the snapshot-controller and the sidecar are.
    pub(crate) release: Release,
    /// Whether groups are handled at all (feature gate `CSIVolumeGroupSnapshot`).
    pub(crate) handles_groups: bool,
    /// How long the garbage collector waits after an owner has gone, milliseconds.
    pub(crate) gc_delay_ms: u64,
}

/// What one actor is made of while it starts.
pub(crate) struct Setup {
    agent: &'static str,
    world: World,
    gate: Gate,
    tasks: Tasks,
}

/// A running actor; it ends when this is dropped.
pub(crate) struct Actor {
    gate: Gate,
    tasks: Tasks,
}

impl Actor {
    /// Starts the actor with empty caches, on the current runtime.
    pub(crate) fn start(agent: &'static str, world: World) -> Self {
        let mut setup = Setup { agent, world, gate: Gate::new(), tasks: Tasks::default() };
        match agent {
            pv_binder::AGENT => pv_binder::start(&mut setup),
            garbage_collector::AGENT => garbage_collector::start(&mut setup),
            csi_snapshotter::AGENT => csi_snapshotter::start(&mut setup),
            snapshot_controller::AGENT => snapshot_controller::start(&mut setup),
            other => debug_assert!(false, "no actor is called {other}"),
        }
        Self { gate: setup.gate, tasks: setup.tasks }
    }

    /// Work items that failed since the start.
    pub(crate) fn failed_work(&self) -> u64 {
        self.tasks.failed_work()
    }

    /// Stops the actor behind that many more calls; the receiver hears of it.
    pub(crate) fn stop_behind(&self, calls: u64) -> tokio::sync::oneshot::Receiver<()> {
        self.gate.stop_behind(calls)
    }

    /// Ends the actor where it is. It stays in its place, dead.
    pub(crate) fn kill(&mut self) {
        self.tasks.stop();
    }

    /// Stops the actor where it is, or lets it go on from its caches of then.
    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.gate.set_frozen(frozen);
    }
}

impl Setup {
    fn caller(&self) -> Caller {
        self.world.api.caller(self.agent)
    }

    /// A client with a rate limit of its own.
    fn client(&self) -> Client {
        Client::new(self.caller(), self.world.qps, self.gate.clone(), self.latency())
    }

    /// A client without a rate limit.
    fn unlimited_client(&self) -> Client {
        Client::new(self.caller(), None, self.gate.clone(), self.latency())
    }

    fn latency(&self) -> Latency {
        Latency::new(self.world.call_ms, self.world.seed, self.agent)
    }

    /// A recorder of Events that posts through `client`.
    fn recorder(&mut self, client: Client) -> Recorder {
        Recorder::start(&mut self.tasks, client, self.world.clock.clone(), self.agent)
    }

    /// A cache whose changes are told to `handler`.
    fn cache(&mut self, plural: &'static str, handler: impl Fn(&Change) + Send + 'static) -> Cache {
        let watch = self.caller().watch(plural);
        informer::start(&mut self.tasks, (plural, watch), &self.world.lag, &self.gate, handler)
    }

    /// The same, and every object of it is told again each 15 minutes.
    fn resynced_cache(
        &mut self,
        plural: &'static str,
        handler: impl Fn(&Change) + Clone + Send + Sync + 'static,
    ) -> Cache {
        let cache = self.cache(plural, handler.clone());
        informer::resync(&mut self.tasks, &cache, &self.gate, handler);
        cache
    }
}
