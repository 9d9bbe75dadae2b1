//! An actor's API client: each call takes a token, passes the gate, meets a fault if there is one, is made, and gives
//! way to other tasks.
//!
//! Giving way is what lets the actors and their users interleave between any two calls, even where there is no
//! rate limit and so nothing to wait for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::gate::Gate;
use super::throttle::Throttle;
use crate::api_server::{Answer as Told, CallInfo, Caller, Preconditions, Status};

/// A throttled client. Clones share the token bucket.
#[derive(Clone)]
pub(crate) struct Client {
    caller: Caller,
    bucket: Arc<Throttle>,
    gate: Gate,
    latency: Arc<Latency>,
}

/// How long calls take.
pub(crate) struct Latency {
    max_ms: u64,
    random: Mutex<fastrand::Rng>,
}

impl Latency {
    /// Between nothing and `max_ms` milliseconds, drawn per call from the seed and the name of the actor.
    pub(crate) fn new(max_ms: u64, seed: u64, agent: &str) -> Self {
        let hash = blake3::hash(agent.as_bytes());
        let mixed = hash.as_bytes().first_chunk().map_or(seed, |bytes| seed ^ u64::from_be_bytes(*bytes));
        Self { max_ms, random: Mutex::new(fastrand::Rng::with_seed(mixed)) }
    }

    /// One way of a call.
    fn draw(&self) -> Duration {
        if self.max_ms == 0 {
            return Duration::ZERO;
        }
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_micros(random.u64(..=self.max_ms.saturating_mul(500)))
    }
}

/// What an API call answers.
pub(crate) type Answer<T> = Result<T, Status>;

impl Client {
    /// A client with a token bucket of its own.
    pub(crate) fn new(caller: Caller, qps: Option<f64>, gate: Gate, latency: Latency) -> Self {
        Self { caller, bucket: Arc::new(Throttle::new(qps)), gate, latency: Arc::new(latency) }
    }

    async fn call<T>(&self, asked: CallInfo, call: impl FnOnce(&Caller) -> Answer<T>) -> Answer<T> {
        self.bucket.take().await;
        self.gate.pass().await;
        let fault = self.caller.decide(asked);
        pause(Duration::from_millis(fault.before_ms) + self.latency.draw()).await;
        let truth = if fault.happen { call(&self.caller) } else { Err(Status::of_code(500, None)) };
        self.gate.called().await;
        pause(Duration::from_millis(fault.delay_ms) + self.latency.draw()).await;
        tokio::task::yield_now().await;
        match fault.answer {
            Told::Normal => truth,
            Told::Status(code, retry_after) => Err(Status::of_code(code, retry_after)),
            Told::Drop | Told::Cut => Err(Status::new(0, "", "connection reset by peer")),
        }
    }

    /// The object as it is now, shared with the store and not copied: for whoever only looks at it.
    pub(crate) async fn look(&self, plural: &str, namespace: Option<&str>, name: &str) -> Answer<Arc<Value>> {
        let asked = asked("get", plural, None, namespace, name);
        self.call(asked, |caller| caller.look(plural, namespace, name)).await
    }

    pub(crate) async fn get(&self, plural: &str, namespace: Option<&str>, name: &str) -> Answer<Value> {
        let asked = asked("get", plural, None, namespace, name);
        self.call(asked, |caller| caller.get(plural, namespace, name)).await
    }

    /// Objects of one namespace whose labels have all the given values.
    pub(crate) async fn list(
        &self,
        plural: &str,
        namespace: Option<&str>,
        labels: &BTreeMap<String, String>,
    ) -> Answer<Vec<Value>> {
        let asked = asked("list", plural, None, namespace, "");
        self.call(asked, |caller| caller.list(plural, namespace, labels)).await
    }

    pub(crate) async fn create(&self, plural: &str, object: Value) -> Answer<Arc<Value>> {
        let asked = about("create", plural, None, &object);
        self.call(asked, |caller| caller.created(plural, object)).await
    }

    /// Replaces the object without its status; a conflict when its resourceVersion is not the current one.
    pub(crate) async fn update(&self, plural: &str, object: Value) -> Answer<Arc<Value>> {
        let asked = about("update", plural, None, &object);
        self.call(asked, |caller| caller.replaced(plural, object, None)).await
    }

    /// Replaces the object's status.
    pub(crate) async fn update_status(&self, plural: &str, object: Value) -> Answer<Arc<Value>> {
        let asked = about("update", plural, Some("status"), &object);
        self.call(asked, |caller| caller.replaced(plural, object, Some("status"))).await
    }

    /// JSON patch of the object named by the metadata of `object`.
    pub(crate) async fn patch(&self, plural: &str, object: &Value, operations: Value) -> Answer<Arc<Value>> {
        self.patch_at(plural, object, None, operations).await
    }

    /// JSON patch of the status of the object named by the metadata of `object`.
    pub(crate) async fn patch_status(
        &self,
        plural: &str,
        object: &Value,
        operations: Value,
    ) -> Answer<Arc<Value>> {
        self.patch_at(plural, object, Some("status"), operations).await
    }

    async fn patch_at(
        &self,
        plural: &str,
        object: &Value,
        subresource: Option<&str>,
        operations: Value,
    ) -> Answer<Arc<Value>> {
        let (namespace, name) = (super::object::namespace(object), super::object::name(object));
        let asked = about("patch", plural, subresource, object);
        self.call(asked, |caller| caller.patched(plural, namespace, name, subresource, &operations)).await
    }

    /// Deletes whatever bears the name.
    pub(crate) async fn delete(&self, plural: &str, namespace: Option<&str>, name: &str) -> Answer<()> {
        self.delete_with(plural, namespace, name, Preconditions::default()).await
    }

    /// Deletes the object with that uid only.
    pub(crate) async fn delete_uid(
        &self,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
        uid: &str,
    ) -> Answer<()> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
        self.delete_with(plural, namespace, name, preconditions).await
    }

    async fn delete_with(
        &self,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
        preconditions: Preconditions,
    ) -> Answer<()> {
        let asked = asked("delete", plural, None, namespace, name);
        self.call(asked, |caller| caller.delete(plural, namespace, name, preconditions)).await.map(drop)
    }
}

async fn pause(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

/// What a call is, for the faults; whose it is the caller knows.
fn asked(
    verb: &str,
    plural: &str,
    subresource: Option<&str>,
    namespace: Option<&str>,
    name: &str,
) -> CallInfo {
    CallInfo {
        agent: String::new(),
        verb: verb.to_owned(),
        plural: plural.to_owned(),
        subresource: subresource.map(str::to_owned),
        namespace: namespace.map(str::to_owned),
        name: Some(name).filter(|name| !name.is_empty()).map(str::to_owned),
    }
}

fn about(verb: &str, plural: &str, subresource: Option<&str>, object: &Value) -> CallInfo {
    asked(verb, plural, subresource, super::object::namespace(object), super::object::name(object))
}
