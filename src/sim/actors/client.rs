//! The API client of an actor.
//!
//! Each call takes a token, waits while the actor is paused, gets a fault if a rule applies, is executed, and
//! then yields to other tasks. The yield lets actors and users interleave between any two calls, even if
//! there is no rate limit to wait for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::pause::Pause;
use super::throttle::Throttle;
use crate::api_server::{Answer, CallInfo, Caller, Preconditions, Status};

/// A client with a rate limit. Clones share the token bucket.
#[derive(Clone)]
pub(crate) struct Client {
    caller: Caller,
    bucket: Arc<Throttle>,
    pause: Pause,
    latency: Arc<Latency>,
}

/// The duration of API calls.
pub(crate) struct Latency {
    max_ms: u64,
    random: Mutex<fastrand::Rng>,
}

impl Latency {
    /// Returns durations from 0 to `max_ms` milliseconds, drawn per call from the seed and the name of the
    /// actor.
    pub(crate) fn new(max_ms: u64, seed: u64, agent: &str) -> Self {
        let hash = blake3::hash(agent.as_bytes());
        let mixed = hash.as_bytes().first_chunk().map_or(seed, |bytes| seed ^ u64::from_be_bytes(*bytes));
        Self { max_ms, random: Mutex::new(fastrand::Rng::with_seed(mixed)) }
    }

    /// Draws the delay of one direction of a call.
    fn draw(&self) -> Duration {
        if self.max_ms == 0 {
            return Duration::ZERO;
        }
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_micros(random.u64(..=self.max_ms.saturating_mul(500)))
    }
}

pub(crate) type CallResult<T> = Result<T, Status>;

impl Client {
    /// Creates a client with its own token bucket.
    pub(crate) fn new(caller: Caller, qps: Option<f64>, pause: Pause, latency: Latency) -> Self {
        Self { caller, bucket: Arc::new(Throttle::new(qps)), pause, latency: Arc::new(latency) }
    }

    async fn call<T>(&self, info: CallInfo, call: impl FnOnce(&Caller) -> CallResult<T>) -> CallResult<T> {
        self.bucket.take().await;
        self.pause.wait().await;
        let fault = self.caller.decide(info);
        delay(Duration::from_millis(fault.before_ms) + self.latency.draw()).await;
        let result = if fault.happen { call(&self.caller) } else { Err(Status::of_code(500, None)) };
        self.pause.count_call().await;
        delay(Duration::from_millis(fault.delay_ms) + self.latency.draw()).await;
        tokio::task::yield_now().await;
        match fault.answer {
            Answer::Normal => result,
            Answer::Status(code, retry_after) => Err(Status::of_code(code, retry_after)),
            Answer::Drop | Answer::Cut => Err(Status::new(0, "", "connection reset by peer")),
        }
    }

    /// Returns the current object. It is shared with the store and not copied, so it is read-only for the
    /// caller.
    pub(crate) async fn get_shared(
        &self,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> CallResult<Arc<Value>> {
        let info = call_info("get", plural, None, namespace, name);
        self.call(info, |caller| caller.get_shared(plural, namespace, name)).await
    }

    pub(crate) async fn get(&self, plural: &str, namespace: Option<&str>, name: &str) -> CallResult<Value> {
        let info = call_info("get", plural, None, namespace, name);
        self.call(info, |caller| caller.get(plural, namespace, name)).await
    }

    /// Lists the objects of one namespace that have all the given labels.
    pub(crate) async fn list(
        &self,
        plural: &str,
        namespace: Option<&str>,
        labels: &BTreeMap<String, String>,
    ) -> CallResult<Vec<Value>> {
        let info = call_info("list", plural, None, namespace, "");
        self.call(info, |caller| caller.list(plural, namespace, labels)).await
    }

    pub(crate) async fn create(&self, plural: &str, object: Value) -> CallResult<Arc<Value>> {
        let info = call_info_of("create", plural, None, &object);
        self.call(info, |caller| caller.create_shared(plural, object)).await
    }

    /// Replaces the object except its status. Fails with a conflict if its resourceVersion is not current.
    pub(crate) async fn update(&self, plural: &str, object: Value) -> CallResult<Arc<Value>> {
        let info = call_info_of("update", plural, None, &object);
        self.call(info, |caller| caller.replace_shared(plural, object, None)).await
    }

    pub(crate) async fn update_status(&self, plural: &str, object: Value) -> CallResult<Arc<Value>> {
        let info = call_info_of("update", plural, Some("status"), &object);
        self.call(info, |caller| caller.replace_shared(plural, object, Some("status"))).await
    }

    /// Applies a JSON patch to the object that the metadata of `object` names.
    pub(crate) async fn patch(
        &self,
        plural: &str,
        object: &Value,
        operations: Value,
    ) -> CallResult<Arc<Value>> {
        self.patch_at(plural, object, None, operations).await
    }

    /// Applies a JSON patch to the status of the object that the metadata of `object` names.
    pub(crate) async fn patch_status(
        &self,
        plural: &str,
        object: &Value,
        operations: Value,
    ) -> CallResult<Arc<Value>> {
        self.patch_at(plural, object, Some("status"), operations).await
    }

    async fn patch_at(
        &self,
        plural: &str,
        object: &Value,
        subresource: Option<&str>,
        operations: Value,
    ) -> CallResult<Arc<Value>> {
        let (namespace, name) = (super::object::namespace(object), super::object::name(object));
        let info = call_info_of("patch", plural, subresource, object);
        self.call(info, |caller| caller.json_patch_shared(plural, namespace, name, subresource, &operations))
            .await
    }

    /// Deletes the object with that name, whatever its uid.
    pub(crate) async fn delete(&self, plural: &str, namespace: Option<&str>, name: &str) -> CallResult<()> {
        self.delete_with(plural, namespace, name, Preconditions::default()).await
    }

    /// Deletes the object only if it has that uid.
    pub(crate) async fn delete_uid(
        &self,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
        uid: &str,
    ) -> CallResult<()> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
        self.delete_with(plural, namespace, name, preconditions).await
    }

    async fn delete_with(
        &self,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
        preconditions: Preconditions,
    ) -> CallResult<()> {
        let info = call_info("delete", plural, None, namespace, name);
        self.call(info, |caller| caller.delete(plural, namespace, name, preconditions)).await.map(drop)
    }
}

async fn delay(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

/// Describes a call for the fault rules. The [`Caller`] adds the name of the agent.
fn call_info(
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

fn call_info_of(verb: &str, plural: &str, subresource: Option<&str>, object: &Value) -> CallInfo {
    call_info(verb, plural, subresource, super::object::namespace(object), super::object::name(object))
}
