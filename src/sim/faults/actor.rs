//! Actors that are stopped or killed between any two of their calls.
//!
//! `{"actor": "snapshot-controller", "do": "kill", "afterCalls": 7, "forMs": 2000}`: behind the seventh call from now, its
//! effect in the cluster and its answer unread, the actor is gone; two seconds later another one begins with empty
//! caches. `"stop"` leaves it where it is, and lets it go on with the caches that it had. Without `afterCalls` at once;
//! without `forMs` a stopped one never goes on, and a killed one is back at once.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::Cluster;
use crate::actors::AGENTS;

/// A fault of an actor, as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ActorFault {
    actor: String,
    #[serde(rename = "do")]
    deed: Deed,
    #[serde(default)]
    after_calls: u64,
    for_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Deed {
    Stop,
    Kill,
}

impl ActorFault {
    /// The fault, if there is such an actor.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(fault: Value) -> Result<Self, String> {
        let fault: Self = super::of(fault)?;
        if AGENTS.contains(&fault.actor.as_str()) {
            return Ok(fault);
        }
        Err(format!("no actor is called {:?}; there are {}", fault.actor, AGENTS.join(", ")))
    }

    /// Lets it happen, now or behind the call that it names.
    pub(super) fn start(&self, cluster: &Cluster) {
        let duration = self.for_ms.map(Duration::from_millis);
        match self.deed {
            Deed::Stop => cluster.stop_after(&self.actor, self.after_calls, duration),
            Deed::Kill => cluster.kill_after(&self.actor, self.after_calls, duration.unwrap_or_default()),
        }
    }
}
