//! Enforces the permissions of the daemon as a cluster with RBAC does.
//!
//! Every call of every scenario passes through this module. A call that the permission table does not grant
//! gets a 403 reply. Each scenario that ends well therefore shows that the granted permissions are sufficient
//! for it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cluster::access::{self, Scope};
use axum::body::{Body, Bytes};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

const OWN_NAMESPACE: &str = "stillpoint";

/// Permissions of one daemon.
#[derive(Clone, Default)]
pub struct Rbac {
    /// Permissions that the table grants and the test removed, such as `patch volumesnapshots/status`.
    denied: Arc<Mutex<BTreeSet<String>>>,
    /// Permissions that were used: verb, group, resource.
    used: Arc<Mutex<BTreeSet<(String, String, String)>>>,
}

/// Verb and object of a request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) verb: String,
    group: String,
    pub(super) resource: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
}

impl Rbac {
    /// Removes a permission.
    pub fn deny(&self, words: &str) {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).insert(words.to_owned());
    }

    /// Restores all permissions.
    pub fn restore(&self) {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns verb, group and resource of every call so far.
    pub fn used(&self) -> BTreeSet<(String, String, String)> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replies with 403 if the permissions do not allow a call, otherwise forwards it to `router`.
    pub(super) async fn serve(&self, router: axum::Router, parts: Parts, bytes: Bytes) -> Response<Body> {
        if let Some(asked) = asked(&parts.method, &parts.uri) {
            let key = (asked.verb.clone(), asked.group.clone(), asked.resource.clone());
            self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
            if !self.allows(&asked) {
                return forbidden(&asked);
            }
            if asked.resource == "selfsubjectaccessreviews" {
                // The cluster may refuse the review. If it accepts, its reply does not reflect these
                // permissions.
                let answer = through(router, parts, bytes.clone()).await;
                return if answer.status().is_success() { self.review(&bytes) } else { answer };
            }
        }
        through(router, parts, bytes).await
    }

    fn allows(&self, asked: &Asked) -> bool {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |scope: Scope| match (scope, asked.namespace.as_deref()) {
            (Scope::Cluster, _) => true,
            (Scope::OwnNamespace, namespace) => namespace == Some(OWN_NAMESPACE),
        };
        !denied.contains(&format!("{} {}", asked.verb, asked.resource))
            && access::permissions().any(|permission| {
                (permission.verb, permission.grant.group, permission.grant.resource)
                    == (asked.verb.as_str(), asked.group.as_str(), asked.resource.as_str())
                    && holds(permission.grant.scope)
            })
    }

    fn review(&self, body: &[u8]) -> Response<Body> {
        let mut review: Value = serde_json::from_slice(body).expect("a review");
        let attributes = review["spec"]["resourceAttributes"].clone();
        let text = |field: &str| attributes[field].as_str().unwrap_or_default().to_owned();
        let below = attributes["subresource"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
        let asked = Asked {
            verb: text("verb"),
            group: text("group"),
            resource: text("resource") + &below,
            namespace: attributes["namespace"].as_str().map(str::to_owned),
            name: None,
        };
        review["status"] = json!({"allowed": self.allows(&asked)});
        respond(StatusCode::CREATED, &review)
    }
}

async fn through(router: axum::Router, parts: Parts, bytes: Bytes) -> Response<Body> {
    let answer = router.oneshot(Request::from_parts(parts, Body::from(bytes))).await;
    answer.unwrap_or_else(|never| match never {})
}

/// Parses a request. Returns `None` for a path that is not a resource: discovery and health.
pub(super) fn asked(method: &Method, uri: &http::Uri) -> Option<Asked> {
    let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let (plural, name, below) = match rest {
        [] => return None,
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(*name), None),
        [plural, name, below, ..] => (*plural, Some(*name), Some(*below)),
    };
    let watch = uri.query().is_some_and(|query| query.contains("watch=true"));
    let verb = match *method {
        Method::GET if watch => "watch",
        Method::GET if name.is_some() => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if name.is_some() => "delete",
        _ => "deletecollection",
    };
    let resource = below.map_or_else(|| plural.to_owned(), |below| format!("{plural}/{below}"));
    let name = name.map(str::to_owned).or_else(|| selected_name(uri));
    let (verb, group) = (verb.to_owned(), group.to_owned());
    Some(Asked { verb, group, resource, namespace, name })
}

/// Returns the single name that a list selects. The API server treats such a list as a request for the object
/// of that name (apiserver, `RequestInfo`).
fn selected_name(uri: &http::Uri) -> Option<String> {
    let selector = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("fieldSelector="))?;
    Some(selector.strip_prefix("metadata.name%3D")?.to_owned())
}

fn forbidden(asked: &Asked) -> Response<Body> {
    let message = format!(
        "{} is forbidden: User \"system:serviceaccount:stillpoint:stillpoint\" cannot {} resource \"{}\" in API group \
         \"{}\"",
        asked.resource, asked.verb, asked.resource, asked.group
    );
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": "Forbidden", "code": 403,
    });
    respond(StatusCode::FORBIDDEN, &status)
}

fn respond(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = code;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
