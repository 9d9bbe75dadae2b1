//! Stops or kills actors between any two of their calls.
//!
//! Example: `{"actor": "snapshot-controller", "do": "kill", "afterCalls": 7, "forMs": 2000}`. The actor is
//! killed after its seventh call from now; the call was executed and its reply is not read. 2000 ms later the
//! actor starts again with empty caches.
//!
//! `"stop"` suspends the actor; it resumes with its old caches. Without `afterCalls` the fault applies at
//! once. Without `forMs` a stopped actor never resumes, and a killed actor restarts at once.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::Cluster;
use crate::actors::AGENTS;

/// The JSON form of a fault of an actor.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ActorFault {
    actor: String,
    #[serde(rename = "do")]
    action: Action,
    #[serde(default)]
    after_calls: u64,
    for_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Stop,
    Kill,
}

impl ActorFault {
    /// Parses the fault and checks that the actor exists.
    ///
    /// # Errors
    /// A description of the invalid part.
    pub(super) fn parse(fault: Value) -> Result<Self, String> {
        let fault: Self = super::decode(fault)?;
        if AGENTS.contains(&fault.actor.as_str()) {
            return Ok(fault);
        }
        Err(format!("unknown actor {:?}; known actors: {}", fault.actor, AGENTS.join(", ")))
    }

    /// Applies the fault now, or after the call that it names.
    pub(super) fn start(&self, cluster: &Cluster) {
        let duration = self.for_ms.map(Duration::from_millis);
        match self.action {
            Action::Stop => cluster.stop_after(&self.actor, self.after_calls, duration),
            Action::Kill => cluster.kill_after(&self.actor, self.after_calls, duration.unwrap_or_default()),
        }
    }
}
