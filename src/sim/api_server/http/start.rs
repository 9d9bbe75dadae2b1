//! The start of an API server: a period in which it replies but refuses calls.
//!
//! Until RBAC is loaded, every user except the system's own is refused, also for discovery: 403, `clusterrole
//! "system:discovery" not found`. After that the storage of custom resources is initialized: 429 `storage is
//! (re)initializing`. `/readyz` fails until both are finished. Observed on Kubernetes 1.36.2.
//!
//! Actors are not affected: they start when the API server is ready.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use tokio::time::Instant;

use super::respond;
use crate::api_server::Inner;
use crate::api_server::http::Verb;
use crate::api_server::http::route::Place;
use crate::api_server::status::Status;

/// The user name of every caller.
const USER: &str = "system:serviceaccount:stillpoint:stillpoint";
/// The RBAC message while no role is loaded.
const NOT_LOADED: &str = "RBAC: [clusterrole.rbac.authorization.k8s.io \"system:discovery\" not found, \
    clusterrole.rbac.authorization.k8s.io \"system:basic-user\" not found, \
    clusterrole.rbac.authorization.k8s.io \"system:public-info-viewer\" not found]";

/// The start of an API server and the lengths of its two phases.
#[derive(Debug, Clone, Copy)]
pub(in crate::api_server) struct Start {
    forbids_until: Instant,
    initializes_until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Forbids,
    Initializes,
    Ready,
}

impl Start {
    /// A start that begins now: the server refuses every call for `forbids`, then custom resources for
    /// `initializes`.
    pub(in crate::api_server) fn now(forbids: Duration, initializes: Duration) -> Self {
        let forbids_until = Instant::now() + forbids;
        Self { forbids_until, initializes_until: forbids_until + initializes }
    }
}

fn phase(inner: &Inner) -> Phase {
    let now = Instant::now();
    match inner.start {
        Some(start) if now < start.forbids_until => Phase::Forbids,
        Some(start) if now < start.initializes_until => Phase::Initializes,
        _ => Phase::Ready,
    }
}

/// The reply of the health endpoints.
pub(super) fn health(inner: &Inner) -> Response<Body> {
    let failed = match phase(inner) {
        Phase::Ready => return respond(StatusCode::OK, "text/plain", Body::from("ok")),
        Phase::Forbids => "poststarthook/rbac/bootstrap-roles",
        Phase::Initializes => "poststarthook/crd-informer-synced",
    };
    let text = format!("[+]ping ok\n[-]{failed} failed: reason withheld\nreadyz check failed\n");
    respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", Body::from(text))
}

/// Refuses a document, e.g. discovery, if RBAC is not loaded.
pub(super) fn refuses_path(inner: &Inner, path: &str) -> Result<(), Status> {
    match phase(inner) {
        Phase::Forbids => {
            let message = format!("forbidden: User {USER:?} cannot get path {path:?}: {NOT_LOADED}");
            Err(Status::new(403, "Forbidden", message))
        }
        Phase::Initializes | Phase::Ready => Ok(()),
    }
}

/// Refuses a call for a resource, if the phase requires it.
pub(super) fn refuses(inner: &Inner, place: &Place, verb: Verb) -> Result<(), Status> {
    match phase(inner) {
        Phase::Forbids => Err(forbidden(place, verb)),
        Phase::Initializes if place.resource.custom => {
            let mut status = Status::new(429, "TooManyRequests", "storage is (re)initializing");
            status.details.retry_after_seconds = Some(1);
            Err(status)
        }
        Phase::Initializes | Phase::Ready => Ok(()),
    }
}

fn forbidden(place: &Place, verb: Verb) -> Status {
    let resource = place.resource;
    let scope = match &place.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let message = format!(
        "{} is forbidden: User {USER:?} cannot {} resource {:?} in API group {:?} {scope}: {NOT_LOADED}",
        resource.qualified_plural(),
        verb.name(),
        resource.plural,
        resource.group,
    );
    Status::new(403, "Forbidden", message)
}
