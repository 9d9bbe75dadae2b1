//! Counts calls by agent, verb and resource.
//!
//! Each call is counted before its execution, whatever its result.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts: agent → verb (`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`) → plural, with
/// `/status` for the subresource → calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Tally(pub BTreeMap<String, BTreeMap<String, BTreeMap<String, u64>>>);

impl Tally {
    pub(super) fn count(&mut self, agent: &str, verb: &str, plural: &str, subresource: Option<&str>) {
        let resource = match subresource {
            Some(subresource) => format!("{plural}/{subresource}"),
            None => plural.to_owned(),
        };
        let verbs = self.0.entry(agent.to_owned()).or_default();
        *verbs.entry(verb.to_owned()).or_default().entry(resource).or_default() += 1;
    }

    /// Calls of one agent with one verb, over all resources.
    pub fn calls(&self, agent: &str, verb: &str) -> u64 {
        self.0.get(agent).and_then(|verbs| verbs.get(verb)).map_or(0, |resources| resources.values().sum())
    }

    /// Write calls of one agent.
    pub fn writes(&self, agent: &str) -> u64 {
        ["create", "update", "patch", "delete"].iter().map(|verb| self.calls(agent, verb)).sum()
    }
}
