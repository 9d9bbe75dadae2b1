//! Faults in JSON: `POST /sim/v1/faults`, or [`Cluster::add_fault`](super::Cluster::add_fault).
//!
//! The body is one fault or a list of faults. The fields of a fault determine its type:
//!
//! | fault | effect |
//! |---|---|
//! | `{"agent"?, "verb"?, "plural"?, "subresource"?, "namespace"?, "name"?, "after"?, "times"?, ...}` | a **rule**: skips the first `after` matching calls, then applies to `times` calls (default: one) |
//! | `{"seed": S, "oneIn": N, "kinds"?, "agent"?, ...}` | **chance**: of the matching calls, one in N gets a fault that is drawn from the seed |
//! | `{"actor": NAME, "do": "stop" \| "kill", "afterCalls"?, "forMs"?}` | an **actor** is stopped or killed after its N-th call from now, and resumes or restarts later |
//! | `{"replicas": {"lagMs": N, "seed"?}}` | a second API server whose watch cache lags by `lagMs` answers half of the calls; 0 ends it |
//! | `{"driver": {...}}` | sets the deviations of the driver (the fields of `DriverConfig` in camelCase); `{}` is a driver without faults |
//! | `{"clock": {"stepMs": N}}` | sets the wall clock of the cluster forward, or back |
//! | `{"watches": "drop"}` | ends all watches, as a restart of an API server does |
//! | `{"start": {"forbidMs"?, "initializeMs"?}}` | restarts the API server: watches end, all calls are refused with 403 for `forbidMs`, then those for custom resources with 429 for `initializeMs` |
//! | `{"lists": {"delayMs": N}}` | consistent lists wait `delayMs` for the watch cache; 0 ends it |
//! | `{"history": "compact"}` | clears the history: a watch from an older version gets 410 |
//!
//! A rule and chance may set the fault of the call (chance only the kinds to draw from):
//!
//! - `"happen"`: whether the call is executed (default: true);
//! - `"answer"`: `"normal"`; `"drop"` (the reply breaks off after its headers); `"cut"` (the connection
//!   breaks before them); a code; `{"code": 429, "retryAfter": 2}`;
//! - `"beforeMs"`, `"delayMs"`: delay before the execution, and between execution and reply;
//! - `"staleMs"`: a get or list returns the state of that long ago, whatever version it requests;
//! - `"stream"`: `{"delayMs"?, "merge"?, "dropEach"?, "endAfter"?, "end"?: "close" | "break" | "gone"}` for
//!   the events of a watch: delays them; of the waiting changes of one object sends only the last; drops
//!   every N-th; ends the stream after N events, without an error, by a broken connection, or by a 410.
//!
//! The oldest matching rule decides. Rules whose agent is an actor also apply to its calls; all others apply
//! to calls over HTTP only. `DELETE` removes rules and chance, and ends replicas, a start and the delay of
//! lists. All randomness comes from seeds: the same calls get the same faults.
//!
//! Not here: lagging caches and slow calls of the actors (`Config::cache_lag_ms`, `Config::call_ms`).

mod actor;
mod chance;
mod rule;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::actor::ActorFault;
use self::chance::Chance;
use self::rule::Rule;
use super::api_server::{ApiServer, CallInfo, FaultDecision, Replicas};
use super::{Cluster, DriverConfig};

/// The faults that do not concern calls, by their field.
const KINDS: [&str; 7] = ["replicas", "driver", "clock", "watches", "start", "lists", "history"];

/// The rules of one cluster. Clones share the same rules.
#[derive(Clone, Default)]
pub(super) struct Rules {
    rules: Arc<Mutex<Vec<AnyRule>>>,
}

enum AnyRule {
    Rule(Rule),
    Chance(Chance),
}

/// One parsed fault that is not applied yet.
enum Fault {
    Rule(AnyRule),
    Actor(ActorFault),
    Replicas(ReplicasFault),
    Driver(Box<DriverConfig>),
    ClockStep(i64),
    DropWatches,
    Start(StartFault),
    ListDelay(u64),
    Compact,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StartFault {
    #[serde(default)]
    forbid_ms: u64,
    #[serde(default)]
    initialize_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListsFault {
    delay_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReplicasFault {
    lag_ms: u64,
    #[serde(default)]
    seed: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClockFault {
    step_ms: i64,
}

/// A fault whose only field is its kind.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SingleFault {
    replicas: Option<ReplicasFault>,
    driver: Option<Box<DriverConfig>>,
    clock: Option<ClockFault>,
    watches: Option<Drop>,
    start: Option<StartFault>,
    lists: Option<ListsFault>,
    history: Option<Compact>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Drop {
    Drop,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Compact {
    Compact,
}

/// Applies the faults in `text` to the cluster: all of them, or none. Returns the number of rules after that.
///
/// # Errors
/// A description of the invalid part.
pub(super) fn add(cluster: &Cluster, text: &str) -> Result<usize, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("read a fault: {error}"))?;
    let values = match value {
        Value::Array(values) => values,
        one => vec![one],
    };
    let faults: Vec<Fault> = values.into_iter().map(parse).collect::<Result<_, _>>()?;
    for fault in faults {
        match fault {
            Fault::Rule(rule) => cluster.inner.faults.add(cluster.api(), rule),
            Fault::Actor(fault) => fault.start(cluster),
            Fault::Replicas(ReplicasFault { lag_ms: 0, .. }) => cluster.api().set_replicas(None),
            Fault::Replicas(fault) => {
                cluster.api().set_replicas(Some(Replicas::new(fault.lag_ms, fault.seed)));
            }
            Fault::Driver(config) => cluster.storage().set_config(*config),
            Fault::ClockStep(milliseconds) => cluster.clock().step(milliseconds),
            Fault::DropWatches => cluster.api().drop_watches(),
            Fault::Start(StartFault { forbid_ms, initialize_ms }) => {
                let [forbids, initializes] = [forbid_ms, initialize_ms].map(Duration::from_millis);
                cluster.api().restart(forbids, initializes);
            }
            Fault::ListDelay(milliseconds) => cluster.api().set_list_delay(milliseconds),
            Fault::Compact => cluster.api().compact(),
        }
    }
    Ok(cluster.inner.faults.lock().len())
}

/// Removes all rules, and ends the second API server, the start of the API server and the delay of lists.
pub(super) fn clear(cluster: &Cluster) {
    cluster.inner.faults.lock().clear();
    cluster.api().clear_faults();
    cluster.api().clear_actor_faults();
    cluster.api().set_replicas(None);
    cluster.api().set_list_delay(0);
    cluster.api().end_start();
}

fn parse(value: Value) -> Result<Fault, String> {
    let has = |field: &str| value.get(field).is_some();
    if has("actor") {
        return ActorFault::parse(value).map(Fault::Actor);
    }
    if has("seed") {
        return Chance::parse(value).map(AnyRule::Chance).map(Fault::Rule);
    }
    if !KINDS.into_iter().any(has) {
        return Rule::parse(value).map(AnyRule::Rule).map(Fault::Rule);
    }
    let SingleFault { replicas, driver, clock, watches, start, lists, history } = decode(value)?;
    let all = [
        replicas.map(Fault::Replicas),
        driver.map(Fault::Driver),
        clock.map(|fault| Fault::ClockStep(fault.step_ms)),
        watches.map(|Drop::Drop| Fault::DropWatches),
        start.map(Fault::Start),
        lists.map(|fault| Fault::ListDelay(fault.delay_ms)),
        history.map(|Compact::Compact| Fault::Compact),
    ];
    let mut given = all.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(fault), None) => Ok(fault),
        _ => Err(format!("a fault must have exactly one of {}", KINDS.join(", "))),
    }
}

fn decode<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| format!("read a fault: {error}"))
}

impl Rules {
    /// Appends the rule and makes the rules decide every call.
    fn add(&self, api: &ApiServer, rule: AnyRule) {
        self.lock().push(rule);
        let (clients, actors) = (self.clone(), self.clone());
        api.set_faults(Box::new(move |call| clients.decide(call, false)));
        api.set_actor_faults(Box::new(move |call| actors.decide(call, true)));
    }

    /// Decides the call by the oldest rule that applies to it.
    fn decide(&self, call: &CallInfo, by_actor: bool) -> FaultDecision {
        let mut rules = self.lock();
        let decision = rules.iter_mut().find_map(|rule| match rule {
            AnyRule::Rule(rule) => rule.decide(call, by_actor),
            AnyRule::Chance(chance) => chance.decide(call, by_actor),
        });
        rules.retain(|rule| match rule {
            AnyRule::Rule(rule) => !rule.is_exhausted(),
            AnyRule::Chance(chance) => !chance.is_exhausted(),
        });
        decision.unwrap_or_else(FaultDecision::none)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AnyRule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_server::Answer;
    use crate::{Cluster, Config};

    fn call(agent: &str, verb: &str) -> CallInfo {
        let (agent, verb) = (agent.to_owned(), verb.to_owned());
        CallInfo { agent, verb, plural: "volumesnapshots".to_owned(), ..CallInfo::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn rule_applies_to_limited_number_of_calls() {
        let cluster = Cluster::start(Config::default());
        let rules = cluster.inner.faults.clone();
        let text = r#"[{"agent": "a", "verb": "patch", "happen": false, "answer": {"code": 429, "retryAfter": 2}, "times": 2},
            {"answer": "cut", "delayMs": 7, "after": 1}]"#;
        assert_eq!(add(&cluster, text), Ok(2));
        let throttled = FaultDecision::of(false, Answer::Status(429, Some(2)));
        assert_eq!(rules.decide(&call("a", "patch"), false), throttled);
        assert_eq!(
            rules.decide(&call("b", "patch"), true),
            FaultDecision::none(),
            "an actor needs a rule with its name"
        );
        assert_eq!(
            rules.decide(&call("b", "patch"), false),
            FaultDecision::none(),
            "`after` skips the first call"
        );
        assert_eq!(
            rules.decide(&call("b", "patch"), false),
            FaultDecision::of(true, Answer::Cut).with_reply_delay(7)
        );
        assert_eq!(rules.decide(&call("a", "patch"), true), throttled, "the rule names the actor");
        assert_eq!(rules.decide(&call("a", "patch"), false), FaultDecision::none(), "exhausted");
        assert_eq!(rules.lock().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn same_seed_gives_same_random_faults() {
        let decisions = |seed: u64| {
            let mut chance = Chance::parse(serde_json::json!({"seed": seed, "oneIn": 4})).expect("a fault");
            let verbs = ["get", "patch", "watch", "list", "create"];
            (0..400_usize)
                .map(|n| chance.decide(&call("a", verbs[n % verbs.len()]), false))
                .collect::<Vec<_>>()
        };
        let faults = decisions(7).iter().flatten().count();
        assert!((60..140).contains(&faults), "{faults} of 400, one in four expected");
        assert_eq!(decisions(7), decisions(7));
        assert_ne!(decisions(7), decisions(8));
    }

    #[tokio::test(start_paused = true)]
    async fn invalid_fault_rejects_its_whole_list() {
        let cluster = Cluster::start(Config::default());
        for text in [
            "",
            r#"{"agnet": "a"}"#,
            r#"{"answer": "perhaps"}"#,
            r#"{"answer": 200}"#,
            r#"{"seed": 1}"#,
            r#"{"seed": 1, "oneIn": 0}"#,
            r#"{"seed": 1, "oneIn": 2, "kinds": []}"#,
            r#"{"actor": "unknown", "do": "kill"}"#,
            r#"{"actor": "pv-binder", "do": "praise"}"#,
            r#"{"clock": {"stepMs": 1}, "watches": "drop"}"#,
            r#"{"start": {"forbid": 1}}"#,
            r#"{"lists": 70}"#,
            r#"{"stream": {"end": "gone"}}"#,
            r#"{"driver": {"mood": "bad"}}"#,
            r#"[{"answer": 500}, {"answer": 200}]"#,
        ] {
            assert!(add(&cluster, text).is_err(), "{text}");
        }
        assert_eq!(cluster.inner.faults.lock().len(), 0);
        assert_eq!(cluster.clock().now_ns(), cluster.clock().steady_ns());
    }
}
