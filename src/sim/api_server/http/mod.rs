//! The HTTP interface: one handler that routes, negotiates, counts, injects faults and replies.
//!
//! Promises: any Kubernetes client that uses JSON works, kubectl and kube among them, over a socket or with
//! the router as its in-memory transport. Failures are `Status` objects.
//!
//! Layout: `route` and `accept` parse the request; `read`, `watch` and `change` execute it; `table`,
//! `discovery` and `openapi` build documents.

mod accept;
mod change;
mod delayed;
mod discovery;
mod faults;
mod openapi;
mod protobuf;
mod read;
mod replicas;
mod route;
mod start;
mod table;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT, WARNING};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use futures::StreamExt;
use serde::Serialize;
use serde_json::Value;

pub use self::faults::{Answer, CallInfo, ConnectionBroken, FaultDecision, Faults, StreamEnd, StreamFault};
pub use self::replicas::Replicas;
pub(super) use self::start::Start;

use self::accept::ReplyFormat;
use self::route::{Place, Route};
use crate::api_server::meta;
use crate::api_server::status::Status;
use crate::api_server::text;
use crate::api_server::{ApiServer, Inner};

/// Maximum size of a request body, as in the real server.
const BODY_LIMIT: usize = 3 * 1024 * 1024;
const JSON: &str = "application/json";

pub(super) fn router(server: ApiServer) -> Router {
    Router::new().fallback(serve).with_state(server)
}

/// A parsed request for a resource.
struct Call {
    place: Place,
    verb: Verb,
    params: BTreeMap<String, String>,
    format: ReplyFormat,
    media: String,
    body: Bytes,
    /// Age of the state that the call reads.
    stale: Duration,
    /// The fault of the events of a watch.
    stream: StreamFault,
    /// Texts of the Warning headers.
    warnings: Mutex<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    fn of(method: &Method, place: &Place, params: &BTreeMap<String, String>) -> Option<Self> {
        let watch = params.get("watch").is_some_and(|value| value == "true" || value == "1");
        let one = place.name.is_some();
        let verb = match *method {
            Method::GET if watch => Self::Watch,
            Method::GET if one => Self::Get,
            Method::GET => Self::List,
            Method::POST if !one && place.namespace.is_some() == place.resource.namespaced => Self::Create,
            Method::PUT if one => Self::Update,
            Method::PATCH if one => Self::Patch,
            Method::DELETE if one && !place.status => Self::Delete,
            Method::DELETE if !one => Self::DeleteCollection,
            _ => return None,
        };
        (!place.resource.create_only || verb == Self::Create).then_some(verb)
    }

    /// The name under which the call is counted.
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete | Self::DeleteCollection => "delete",
        }
    }
}

impl Call {
    fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.param(name), "true" | "1")
    }
}

async fn serve(State(server): State<ApiServer>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    handle(&server, parts, body).await.unwrap_or_else(|status| failure(&status))
}

async fn handle(server: &ApiServer, parts: Parts, body: Body) -> Result<Response<Body>, Status> {
    let route =
        server.with(|inner| route::parse(inner, parts.uri.path())).ok_or_else(Status::no_such_path)?;
    let format = accept::negotiate(header(&parts, &ACCEPT))?;
    let Route::Place(place) = route else {
        if parts.method != Method::GET {
            return Err(Status::method_not_allowed());
        }
        return server
            .with(|inner| document(inner, &route, parts.uri.path(), format))?
            .ok_or_else(Status::no_such_path);
    };
    let params = Query::<BTreeMap<String, String>>::try_from_uri(&parts.uri)
        .map_err(|error| Status::bad_request(error.to_string()))?
        .0;
    let verb = Verb::of(&parts.method, &place, &params).ok_or_else(Status::method_not_allowed)?;
    let body = axum::body::to_bytes(body, BODY_LIMIT)
        .await
        .map_err(|_| Status::new(413, "RequestEntityTooLarge", format!("limit is {BODY_LIMIT} bytes")))?;
    let agent = header(&parts, &USER_AGENT).split('/').next().filter(|agent| !agent.is_empty());
    let media = header(&parts, &CONTENT_TYPE).to_owned();
    let (stale, stream) = (Duration::ZERO, StreamFault::default());
    let warnings = Mutex::default();
    let call = Call { place, verb, params, format, media, body, stale, stream, warnings };
    perform(server, agent.unwrap_or("unknown"), call).await
}

/// Counts the call, and executes it and replies as its fault decides.
async fn perform(server: &ApiServer, agent: &str, mut call: Call) -> Result<Response<Body>, Status> {
    let (place, verb) = (&call.place, call.verb.name());
    server.count(agent, verb, place.resource.plural, place.status.then_some("status"));
    server.with(|inner| start::refuses(inner, place, call.verb))?;
    let decision = server.decide(|| describe(agent, &call));
    call.stale = Duration::from_millis(decision.stale_ms);
    call.stream = decision.stream;
    delay(decision.before_ms).await;
    let result = if decision.happen {
        wait_for_progress(server, &call).await;
        replicas::route(server, &mut call).await?;
        execute(server, &call).map(|response| warn(server, &call, response))
    } else {
        Err(Status::of_code(500, None))
    };
    delay(decision.delay_ms).await;
    match decision.answer {
        Answer::Normal => result,
        Answer::Status(code, retry_after) => Err(Status::of_code(code, retry_after)),
        Answer::Drop => Ok(broken(true)),
        Answer::Cut => Ok(broken(false)),
    }
}

/// Waits until a consistent list can be answered.
///
/// It is answered from the watch cache, after the cache has received all changes up to now: after the next
/// progress notification of etcd. The same holds for the start of a consistent streaming list. A get by name
/// reads from etcd.
async fn wait_for_progress(server: &ApiServer, call: &Call) {
    let consistent = match call.verb {
        Verb::List => call.param("resourceVersion").is_empty() && call.param("continue").is_empty(),
        Verb::Watch => call.flag("sendInitialEvents") && call.param("resourceVersion").is_empty(),
        _ => false,
    };
    if consistent {
        delay(server.with(|inner| inner.list_delay_ms)).await;
    }
}

async fn delay(milliseconds: u64) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

fn execute(server: &ApiServer, call: &Call) -> Result<Response<Body>, Status> {
    match call.verb {
        Verb::Get => server.with(|inner| read::get(inner, call)),
        Verb::List => server.with(|inner| read::list(inner, call)),
        Verb::Watch => watch::watch(server, call),
        Verb::Create => server.with(|inner| change::create(inner, call)),
        Verb::Update => server.with(|inner| change::update(inner, call)),
        Verb::Patch => server.with(|inner| change::patch(inner, call)),
        Verb::Delete => server.with(|inner| change::delete(inner, call)),
        Verb::DeleteCollection => server.with(|inner| change::delete_collection(inner, call)),
    }
}

fn describe(agent: &str, call: &Call) -> CallInfo {
    let name = call.place.name.clone().or_else(|| {
        let object: Option<Value> =
            (call.verb == Verb::Create).then(|| serde_json::from_slice(&call.body).ok()).flatten();
        let object = object?;
        Some(meta::get(&object, "name")).filter(|name| !name.is_empty()).map(str::to_owned)
    });
    CallInfo {
        agent: agent.to_owned(),
        verb: call.verb.name().to_owned(),
        plural: call.place.resource.plural.to_owned(),
        subresource: call.place.status.then(|| "status".to_owned()),
        namespace: call.place.namespace.clone(),
        name,
    }
}

/// The documents that describe the server; `None` if there is no such document.
///
/// # Errors
/// 403 while the server is starting.
fn document(
    inner: &Inner,
    route: &Route,
    path: &str,
    format: ReplyFormat,
) -> Result<Option<Response<Body>>, Status> {
    if let Route::Health = route {
        return Ok(Some(start::health(inner)));
    }
    start::refuses_path(inner, path)?;
    let document = match (route, format) {
        (Route::Core | Route::Groups, ReplyFormat::Discovery(version)) => {
            let list = discovery::aggregated(inner, matches!(route, Route::Core), version);
            let media = format!("{JSON};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
            return Ok(Some(respond(StatusCode::OK, &media, Body::from(list.to_string()))));
        }
        (Route::Version, _) => Some(discovery::version()),
        (Route::Core, _) => Some(discovery::core()),
        (Route::Groups, _) => Some(discovery::groups(inner)),
        (Route::Group(group), _) => discovery::group(inner, group),
        (Route::GroupVersion(group, version), _) => discovery::group_version(inner, group, version),
        (Route::OpenApi, _) => Some(openapi::index(inner)),
        (Route::OpenApiOf(group, version), _) => openapi::document(inner, group, version),
        (Route::Health | Route::Place(_), _) => None,
    };
    Ok(document.map(|document| json(StatusCode::OK, &document)))
}

fn header<'a>(parts: &'a Parts, name: &HeaderName) -> &'a str {
    parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn json(code: StatusCode, value: &impl Serialize) -> Response<Body> {
    respond(code, JSON, Body::from(text::of(value)))
}

fn respond(code: StatusCode, media: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    set_header(&mut response, CONTENT_TYPE, media);
    response
}

fn set_header(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn failure(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, &status.to_value());
    if let Some(seconds) = status.details.retry_after_seconds {
        set_header(&mut response, RETRY_AFTER, &seconds.to_string());
    }
    response
}

/// A reply whose connection breaks, after the headers and the first byte or before the headers.
fn broken(begun: bool) -> Response<Body> {
    let breaks = async {
        // Lets the sent data leave before the connection closes.
        tokio::task::yield_now().await;
        Err::<Bytes, _>(reset())
    };
    if begun {
        let body = futures::stream::once(async { Ok(Bytes::from_static(b"{")) });
        return respond(StatusCode::OK, JSON, Body::from_stream(body.chain(futures::stream::once(breaks))));
    }
    // An error at the first poll of the body ends the connection before the headers are sent.
    let body = futures::stream::once(async { Err::<Bytes, _>(reset()) });
    let mut response = respond(StatusCode::OK, JSON, Body::from_stream(body));
    response.extensions_mut().insert(ConnectionBroken);
    response
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")
}

/// Adds the Warning headers: for a deprecated version, for unknown fields.
fn warn(server: &ApiServer, call: &Call, mut response: Response<Body>) -> Response<Body> {
    let mut texts = call.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let place = &call.place;
    let preferred = server.with(|inner| inner.preferred(place.resource));
    if let ("v1beta1", Some(preferred)) = (place.version, preferred)
        && preferred != place.version
    {
        let old = place.resource.api_version(place.version);
        let new = place.resource.api_version(preferred);
        let kind = place.resource.kind;
        texts.push(format!("{old} {kind} is deprecated; use {new} {kind}"));
    }
    for text in texts {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}
