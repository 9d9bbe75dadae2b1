//! An actor's API client: each call passes the gate, takes a token, is made, and gives way to other tasks.
//!
//! Giving way is what lets the actors and their users interleave between any two calls, even where there is no
//! rate limit and so nothing to wait for.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::gate::Gate;
use super::throttle::Throttle;
use crate::sim::api_server::{Caller, Preconditions, Status};

/// A throttled client. Clones share the token bucket.
#[derive(Clone)]
pub(crate) struct Client {
    caller: Caller,
    bucket: Arc<Throttle>,
    gate: Gate,
}

/// What an API call answers.
pub(crate) type Answer<T> = Result<T, Status>;

impl Client {
    /// A client with a token bucket of its own.
    pub(crate) fn new(caller: Caller, qps: Option<f64>, gate: Gate) -> Self {
        Self { caller, bucket: Arc::new(Throttle::new(qps)), gate }
    }

    async fn call<T>(&self, call: impl FnOnce(&Caller) -> Answer<T>) -> Answer<T> {
        self.bucket.take().await;
        self.gate.pass().await;
        let answer = call(&self.caller);
        tokio::task::yield_now().await;
        answer
    }

    pub(crate) async fn get(&self, plural: &str, namespace: Option<&str>, name: &str) -> Answer<Value> {
        self.call(|caller| caller.get(plural, namespace, name)).await
    }

    /// Objects of one namespace whose labels have all the given values.
    pub(crate) async fn list(
        &self,
        plural: &str,
        namespace: Option<&str>,
        labels: &BTreeMap<String, String>,
    ) -> Answer<Vec<Value>> {
        self.call(|caller| caller.list(plural, namespace, labels)).await
    }

    pub(crate) async fn create(&self, plural: &str, object: Value) -> Answer<Value> {
        self.call(|caller| caller.create(plural, object)).await
    }

    /// Replaces the object without its status; a conflict when its resourceVersion is not the current one.
    pub(crate) async fn update(&self, plural: &str, object: Value) -> Answer<Value> {
        self.call(|caller| caller.update(plural, object)).await
    }

    /// Replaces the object's status.
    pub(crate) async fn update_status(&self, plural: &str, object: Value) -> Answer<Value> {
        self.call(|caller| caller.update_status(plural, object)).await
    }

    /// JSON patch of the object named by the metadata of `object`.
    pub(crate) async fn patch(&self, plural: &str, object: &Value, operations: Value) -> Answer<Value> {
        self.patch_at(plural, object, None, operations).await
    }

    /// JSON patch of the status of the object named by the metadata of `object`.
    pub(crate) async fn patch_status(
        &self,
        plural: &str,
        object: &Value,
        operations: Value,
    ) -> Answer<Value> {
        self.patch_at(plural, object, Some("status"), operations).await
    }

    async fn patch_at(
        &self,
        plural: &str,
        object: &Value,
        subresource: Option<&str>,
        operations: Value,
    ) -> Answer<Value> {
        let (namespace, name) = (super::object::namespace(object), super::object::name(object));
        self.call(|caller| caller.json_patch(plural, namespace, name, subresource, operations)).await
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
        self.call(|caller| caller.delete(plural, namespace, name, preconditions)).await.map(drop)
    }
}
