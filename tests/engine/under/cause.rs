//! Defines one kind of misbehaviour of the cluster, with its beginning and its end.

use std::sync::Arc;
use std::time::Duration;

use stillpoint::sim::actors::driver::DriverConfig;
use stillpoint::sim::api_server::{CallInfo, FaultDecision};
use stillpoint::sim::{Cluster, Config};

/// Default duration of a cause: longer than both deadlines of the scenario.
const LASTS: Duration = Duration::from_secs(240);

/// A change to the cluster.
pub type Act = Arc<dyn Fn(&Cluster) + Send + Sync>;

/// Kind of a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// A behaviour of real controllers, by its number in the checklist of 22.
    Behaviour(u8),
    /// A switch of the CSI driver.
    Driver,
    /// A switch of the cluster.
    Cluster,
    /// A fault on calls, watches or actors.
    Fault,
}

/// One kind of misbehaviour.
#[derive(Clone)]
pub struct Cause {
    pub family: Family,
    pub name: String,
    /// Configuration of the cluster from its first moment on.
    pub config: fn(&mut Config),
    pub begin: Act,
    pub end: Act,
    pub lasts: Duration,
    /// Applies only from the first moment on: it has no beginning that could be crossed with a state.
    pub from_the_start: bool,
    /// While the cause lasts, the run cannot report its wait condition, because nothing can be written.
    pub mute: bool,
    /// The driver itself leaves snapshots behind that no object names.
    pub leaks: bool,
    /// States in which the cause cannot be distinguished from a permitted action of a user.
    pub not_in: &'static [&'static str],
    /// The daemon is killed when the cause begins, and started again with its wall clock set by this number of
    /// seconds.
    pub clock_set: Option<i64>,
}

impl Cause {
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        let nothing: Act = Arc::new(|_| {});
        Self {
            family,
            name: name.into(),
            config: |_| {},
            begin: nothing.clone(),
            end: nothing,
            lasts: LASTS,
            from_the_start: false,
            mute: false,
            leaks: false,
            not_in: &[],
            clock_set: None,
        }
    }

    /// A cluster with this configuration.
    pub fn cluster(family: Family, name: impl Into<String>, config: fn(&mut Config)) -> Self {
        Self { config, from_the_start: true, ..Self::new(family, name) }
    }

    /// A driver with this configuration for a while.
    pub fn driver(family: Family, name: impl Into<String>, change: fn(&mut DriverConfig)) -> Self {
        let begin = move |cluster: &Cluster| {
            let mut config = DriverConfig::default();
            change(&mut config);
            cluster.storage().set_config(config);
        };
        let end = |cluster: &Cluster| cluster.storage().set_config(DriverConfig::default());
        Self::new(family, name).between(begin, end)
    }

    /// A fault on calls of the daemon.
    pub fn on_calls(
        family: Family,
        name: impl Into<String>,
        decide: impl Fn(&CallInfo) -> Option<FaultDecision> + Clone + Send + Sync + 'static,
    ) -> Self {
        let begin = move |cluster: &Cluster| {
            let decide = decide.clone();
            cluster.api().set_faults(Box::new(move |call| match call.agent.as_str() {
                "stillpoint" => decide(call).unwrap_or_else(FaultDecision::none),
                _ => FaultDecision::none(),
            }));
        };
        let cause = Self::new(family, name).between(begin, |cluster| cluster.api().clear_faults());
        Self { mute: true, ..cause }
    }

    /// A single change to the cluster.
    pub fn once(
        family: Family,
        name: impl Into<String>,
        act: impl Fn(&Cluster) + Send + Sync + 'static,
    ) -> Self {
        Self::new(family, name).between(act, |_| {})
    }

    pub fn between(
        self,
        begin: impl Fn(&Cluster) + Send + Sync + 'static,
        end: impl Fn(&Cluster) + Send + Sync + 'static,
    ) -> Self {
        Self { begin: Arc::new(begin), end: Arc::new(end), ..self }
    }

    pub fn for_secs(self, seconds: u64) -> Self {
        Self { lasts: Duration::from_secs(seconds), ..self }
    }

    pub fn leaking(self) -> Self {
        Self { leaks: true, ..self }
    }

    pub fn not_in(self, states: &'static [&'static str]) -> Self {
        Self { not_in: states, ..self }
    }
}
