//! The wire between a daemon and the cluster: every call of a life passes here, and is written down in its order.
//!
//! Beside the call stands what was true at its instant: the last record that was on the disk, whether the group stood
//! and was protected. That is what the invariants about order are judged by; counts alone would not do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::domain::time::Timestamp;
use crate::drill::disruptions::FOREIGN;
use crate::drill::rbac::{Rbac, asked};
use crate::engine::clock::Clock;
use crate::journal::Disk;
use crate::sim::Cluster;
use crate::sim::api_server::Severed;

/// Calls of a stage after which a daemon is taken to go round in circles: many times those of a hundred groups.
const CALLS: usize = 20_000;
/// How long each call takes then. Time has to pass, or nobody would ever see that the end does not come.
const DELAY: Duration = Duration::from_secs(60);

/// One call of a daemon.
#[derive(Debug, Clone)]
pub struct Call {
    /// When it was sent.
    pub at: Timestamp,
    /// When it was answered.
    pub answered: Timestamp,
    /// User-Agent.
    pub agent: &'static str,
    /// As RBAC names it.
    pub verb: String,
    /// Plural name, with `/status` for the subresource.
    pub resource: String,
    /// Namespace, none for objects of the cluster.
    pub namespace: Option<String>,
    /// Name, none for a collection or a generated name.
    pub name: Option<String>,
    /// What the daemon was answered. Faults may make it differ from what happened.
    pub code: u16,
    /// Position of the last record that was on the daemon's disk.
    pub durable: u64,
    /// VolumeGroupSnapshots that stood in the cluster.
    pub groups: usize,
}

impl Call {
    /// Whether it changes an object of the snapshot APIs.
    pub fn writes(&self) -> bool {
        ["create", "update", "patch", "delete"].contains(&self.verb.as_str())
            && self.resource.starts_with("volume")
    }

    /// Whether the daemon was told that it happened.
    pub fn accepted(&self) -> bool {
        self.code < 300
    }
}

/// All calls of all daemons on a stage, in order.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    /// The calls so far.
    pub fn all(&self) -> Vec<Call> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one end of the wire is tied to.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) rbac: Rbac,
    pub(super) calls: Calls,
    pub(super) cluster: Cluster,
    pub(super) clock: Clock,
    pub(super) disk: Disk,
    pub(super) agent: &'static str,
}

impl Wire {
    /// The client of a daemon.
    pub(super) fn client(self) -> kube::Client {
        let service = tower::service_fn(move |request| {
            let wire = self.clone();
            async move {
                let response = wire.serve(request).await;
                // A connection that breaks before the reply is no response at all.
                match response.extensions().get::<Severed>() {
                    Some(Severed) => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
                    None => Ok(response),
                }
            }
        });
        kube::Client::new(service, "default")
    }

    async fn serve(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        parts.headers.insert(header::USER_AGENT, HeaderValue::from_static(self.agent));
        let bytes = body.collect().await.expect("a body in memory").to_bytes();
        let call = self.describe(&parts, &bytes);
        if self.calls.lock().len() >= CALLS {
            tokio::time::sleep(DELAY).await;
        }
        let answer = self.rbac.serve(self.cluster.api().router(), parts, bytes).await;
        if let Some(call) = call {
            self.calls.lock().push(Call {
                code: answer.status().as_u16(),
                answered: self.clock.now(),
                ..call
            });
        }
        answer
    }

    /// VolumeGroupSnapshots that are not a foreign hand's.
    fn groups(&self) -> usize {
        let groups = self.cluster.api().caller("drill").list("volumegroupsnapshots", None, &BTreeMap::new());
        let own = |group: &&Value| group["metadata"]["labels"][FOREIGN].is_null();
        groups.unwrap_or_default().iter().filter(own).count()
    }

    /// The call and what is true before it; none for what is no resource.
    fn describe(&self, parts: &http::request::Parts, bytes: &Bytes) -> Option<Call> {
        let asked = asked(&parts.method, &parts.uri)?;
        let named =
            || serde_json::from_slice::<Value>(bytes).ok()?["metadata"]["name"].as_str().map(str::to_owned);
        let name = if asked.verb == "create" { named() } else { asked.name };
        Some(Call {
            at: self.clock.now(),
            answered: self.clock.now(),
            agent: self.agent,
            verb: asked.verb,
            resource: asked.resource,
            namespace: asked.namespace,
            name,
            code: 0,
            durable: self.disk.durable(),
            groups: self.groups(),
        })
    }
}
