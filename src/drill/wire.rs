//! Records every call between a daemon and the cluster, in order.
//!
//! Each call is recorded with the state at its instant: the last record on the disk, and the number of groups
//! in the cluster. The invariants about order are checked against this state. Counts of calls alone would not
//! be sufficient.

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
use crate::sim::api_server::ConnectionBroken;

/// Number of calls on a testbed after which a daemon is considered to loop: many times the calls of a hundred
/// groups.
const CALLS: usize = 20_000;
/// Duration of each call beyond `CALLS`. Simulated time must pass, or the timeout of the drill would never
/// expire.
const DELAY: Duration = Duration::from_secs(60);

/// One call of a daemon.
#[derive(Debug, Clone)]
pub struct Call {
    /// Time at which the call was sent.
    pub at: Timestamp,
    /// Time of the reply.
    pub answered: Timestamp,
    /// User-Agent of the daemon.
    pub agent: &'static str,
    /// Verb as RBAC names it.
    pub verb: String,
    /// Plural name, with `/status` for the subresource.
    pub resource: String,
    /// `None` for cluster-scoped objects.
    pub namespace: Option<String>,
    /// `None` for a collection or a generated name.
    pub name: Option<String>,
    /// Status code that the daemon received. Under faults it may differ from the actual result.
    pub code: u16,
    /// Position of the last record that was on the daemon's disk.
    pub durable: u64,
    /// Number of VolumeGroupSnapshots in the cluster.
    pub groups: usize,
}

impl Call {
    /// Whether the call changes an object of the snapshot APIs.
    pub fn writes(&self) -> bool {
        ["create", "update", "patch", "delete"].contains(&self.verb.as_str())
            && self.resource.starts_with("volume")
    }

    /// Whether the daemon received a successful reply.
    pub fn accepted(&self) -> bool {
        self.code < 300
    }
}

/// All calls of all daemons on a testbed, in order.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    /// Returns the calls so far.
    pub fn all(&self) -> Vec<Call> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connection of one daemon to the cluster.
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
    /// Returns the client of a daemon.
    pub(super) fn client(self) -> kube::Client {
        let service = tower::service_fn(move |request| {
            let wire = self.clone();
            async move {
                let response = wire.serve(request).await;
                // A connection that breaks before the reply gives an error, not a response.
                match response.extensions().get::<ConnectionBroken>() {
                    Some(ConnectionBroken) => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
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

    /// Counts the VolumeGroupSnapshots, except those with the label `FOREIGN`.
    fn groups(&self) -> usize {
        let groups = self.cluster.api().caller("drill").list("volumegroupsnapshots", None, &BTreeMap::new());
        let own = |group: &&Value| group["metadata"]["labels"][FOREIGN].is_null();
        groups.unwrap_or_default().iter().filter(own).count()
    }

    /// Describes the call and the state before it. Returns `None` for a path that is not a resource.
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
