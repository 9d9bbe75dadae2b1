//! The actors of the embedded cluster: every component besides the API server and its users that acts on
//! objects.
//!
//! | agent | real component |
//! |---|---|
//! | `snapshot-controller` | the controller of that name |
//! | `csi-snapshotter` | the sidecar of that name, and the driver that it calls |
//! | `pv-binder` | persistent volume controller, protection finalizers, external-provisioner |
//! | `garbage-collector` | the garbage collector of kube-controller-manager |
//!
//! Each actor has its own caches, filled by watches and possibly stale, its own work queues with back-off,
//! and a rate limit on its calls. Members are lost only by actions of the real components: ownership restored
//! by a snapshot's sync, deletion of members by a group's sync, garbage collection. No rule here checks for a
//! wrong order of operations.
//!
//! Not here: behaviour that a driver of group snapshots cannot observe; `GAPS.md` lists it.

mod client;
mod csi_snapshotter;
pub mod driver;
mod garbage_collector;
mod informer;
pub(crate) mod object;
mod pause;
mod pv_binder;
pub(crate) mod quantity;
mod queue;
mod recorder;
mod resource_state;
mod snapshot_controller;
pub(crate) mod strings;
mod tasks;
#[cfg(test)]
mod tests;
mod throttle;

use self::client::{Client, Latency};
use self::driver::Storage;
pub(crate) use self::informer::Lag;
use self::informer::{Cache, Change};
use self::pause::Pause;
use self::recorder::Recorder;
use self::tasks::Tasks;
use crate::api_server::{ApiServer, Caller};
use crate::clock::SimClock;
use crate::release::Release;

/// The agents, in the order in which they are started.
pub(crate) const AGENTS: [&str; 4] =
    [pv_binder::AGENT, garbage_collector::AGENT, csi_snapshotter::AGENT, snapshot_controller::AGENT];

/// The state that all actors share.
#[derive(Clone)]
pub(crate) struct ActorContext {
    pub(crate) api: ApiServer,
    pub(crate) clock: SimClock,
    pub(crate) storage: Storage,
    /// Calls per second of the clients of the snapshot-controller and the sidecar.
    pub(crate) qps: Option<f64>,
    /// Maximum duration of a call, milliseconds.
    pub(crate) call_ms: u64,
    /// The seed from which the durations of calls are drawn.
    pub(crate) seed: u64,
    pub(crate) lag: Lag,
    /// The newest served version of the group snapshot API, which the controllers use.
    pub(crate) group_api_version: String,
    /// Release of the snapshot-controller and the sidecar.
    pub(crate) release: Release,
    /// Whether groups are handled (feature gate `CSIVolumeGroupSnapshot`).
    pub(crate) handles_groups: bool,
    /// Delay of the garbage collector after an owner is deleted, milliseconds.
    pub(crate) gc_delay_ms: u64,
}

/// The parts of one actor while it starts.
pub(crate) struct Setup {
    agent: &'static str,
    context: ActorContext,
    pause: Pause,
    tasks: Tasks,
}

/// A running actor. Dropping it ends the actor.
pub(crate) struct Actor {
    pause: Pause,
    tasks: Tasks,
}

impl Actor {
    /// Starts the actor with empty caches, on the current runtime.
    pub(crate) fn start(agent: &'static str, context: ActorContext) -> Self {
        let mut setup = Setup { agent, context, pause: Pause::new(), tasks: Tasks::default() };
        match agent {
            pv_binder::AGENT => pv_binder::start(&mut setup),
            garbage_collector::AGENT => garbage_collector::start(&mut setup),
            csi_snapshotter::AGENT => csi_snapshotter::start(&mut setup),
            snapshot_controller::AGENT => snapshot_controller::start(&mut setup),
            other => debug_assert!(false, "unknown actor {other}"),
        }
        Self { pause: setup.pause, tasks: setup.tasks }
    }

    /// Number of work items that failed since the start.
    pub(crate) fn failed_work(&self) -> u64 {
        self.tasks.failed_work()
    }

    /// Stops the actor after `calls` more calls, and then notifies the receiver.
    pub(crate) fn stop_after_calls(&self, calls: u64) -> tokio::sync::oneshot::Receiver<()> {
        self.pause.stop_after_calls(calls)
    }

    /// Ends the tasks of the actor. The entry remains, without running tasks.
    pub(crate) fn kill(&mut self) {
        self.tasks.stop();
    }

    /// Stops the actor, or resumes it with the caches of the time when it was stopped.
    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.pause.set_frozen(frozen);
    }
}

impl Setup {
    fn caller(&self) -> Caller {
        self.context.api.caller(self.agent)
    }

    /// Creates a client with its own rate limit.
    fn client(&self) -> Client {
        Client::new(self.caller(), self.context.qps, self.pause.clone(), self.latency())
    }

    /// Creates a client without a rate limit.
    fn unlimited_client(&self) -> Client {
        Client::new(self.caller(), None, self.pause.clone(), self.latency())
    }

    fn latency(&self) -> Latency {
        Latency::new(self.context.call_ms, self.context.seed, self.agent)
    }

    /// Creates a recorder of Events that posts through `client`.
    fn recorder(&mut self, client: Client) -> Recorder {
        Recorder::start(&mut self.tasks, client, self.context.clock.clone(), self.agent)
    }

    /// Creates a cache that passes its changes to `handler`.
    fn cache(&mut self, plural: &'static str, handler: impl Fn(&Change) + Send + 'static) -> Cache {
        let watch = self.caller().watch(plural);
        informer::start(&mut self.tasks, (plural, watch), &self.context.lag, &self.pause, handler)
    }

    /// Creates a cache that also passes every object to `handler` again each 15 minutes.
    fn resynced_cache(
        &mut self,
        plural: &'static str,
        handler: impl Fn(&Change) + Clone + Send + Sync + 'static,
    ) -> Cache {
        let cache = self.cache(plural, handler.clone());
        informer::resync(&mut self.tasks, &cache, &self.pause, handler);
        cache
    }
}
