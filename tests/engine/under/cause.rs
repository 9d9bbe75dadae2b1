//! One bad manner of the cluster, with its beginning and its end.

use std::sync::Arc;
use std::time::Duration;

use stillpoint::sim::actors::driver::DriverConfig;
use stillpoint::sim::api_server::{CallInfo, FaultDecision};
use stillpoint::sim::{Cluster, Config};

/// How long a cause lasts that does not say otherwise: longer than both deadlines of the scenario.
const LASTS: Duration = Duration::from_secs(240);

/// Something that is done to the cluster.
pub type Act = Arc<dyn Fn(&Cluster) + Send + Sync>;

/// What a cause is one of.
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

/// One bad manner.
#[derive(Clone)]
pub struct Cause {
    pub family: Family,
    pub name: String,
    /// What the cluster is like from its first moment on.
    pub config: fn(&mut Config),
    pub begin: Act,
    pub end: Act,
    pub lasts: Duration,
    /// Only from the first moment on: there is no beginning that a state could be crossed with.
    pub from_the_start: bool,
    /// Nobody can be told what the run waits for while it lasts, because nothing can be written.
    pub mute: bool,
    /// The driver itself leaves snapshots behind that no object names.
    pub leaks: bool,
    /// States in which it cannot be told from what a user may do.
    pub not_in: &'static [&'static str],
    /// The daemon is killed when the cause begins, and started again with its wall clock set by so many seconds.
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

    /// A cluster that is made so.
    pub fn cluster(family: Family, name: impl Into<String>, config: fn(&mut Config)) -> Self {
        Self { config, from_the_start: true, ..Self::new(family, name) }
    }

    /// A driver that is so for a while.
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

    /// Somebody's hand, once.
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
