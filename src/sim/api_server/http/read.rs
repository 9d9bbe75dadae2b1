//! Get and list.
//!
//! A continued list returns the state of its first page; the token contains the version and the last object.
//! A call whose reads are stale (by a fault, or from the older of two replicas) reads the state of that time.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::api_server::caller::key;
use crate::api_server::http::accept::ReplyFormat;
use crate::api_server::http::table::{self, Include};
use crate::api_server::http::{Call, JSON, json as json_response, respond};
use crate::api_server::selector::Selection;
use crate::api_server::status::Status;
use crate::api_server::store::Key;
use crate::api_server::{Inner, conversion, text};
use crate::resources::Resource;

/// The position at which a list continues.
#[derive(Serialize, Deserialize)]
struct Continue {
    #[serde(rename = "rv")]
    version: u64,
    namespace: String,
    name: String,
}

pub(super) fn get(inner: &Inner, call: &Call) -> Result<Response<Body>, Status> {
    let place = &call.place;
    let name = place.name.as_deref().unwrap_or_default();
    let key = key(place.resource, place.namespace.as_deref().unwrap_or_default(), name);
    let stored = inner.store.get_at(&key, version_to_read(inner, call));
    let stored = stored.ok_or_else(|| Status::not_found(place.resource, name))?;
    Ok(one(inner, call, StatusCode::OK, &key, &stored))
}

/// Replies with one object in the requested format.
pub(super) fn one(
    inner: &Inner,
    call: &Call,
    code: StatusCode,
    key: &Key,
    stored: &Arc<Value>,
) -> Response<Body> {
    let ConvertedObject { object, text } = ConvertedObject::new(inner, call, key, stored);
    match (call.format, text) {
        (ReplyFormat::Table, _) => {
            let version = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            let now_ns = inner.store.clock.now_ns();
            let table = table::table(call.place.resource, &[object], version, include(call), now_ns);
            json_response(code, &table)
        }
        (ReplyFormat::Metadata, _) => json_response(code, &conversion::metadata_only(&object)),
        (ReplyFormat::Plain | ReplyFormat::Discovery(_), Some(text)) => respond(code, JSON, Body::from(text)),
        (ReplyFormat::Plain | ReplyFormat::Discovery(_), None) => json_response(code, &*object),
    }
}

/// An object in the requested version.
pub(super) struct ConvertedObject<'a> {
    object: Cow<'a, Value>,
    /// The JSON text of the object, if the store has it.
    text: Option<Bytes>,
}

impl<'a> ConvertedObject<'a> {
    pub fn new(inner: &Inner, call: &Call, key: &Key, stored: &'a Arc<Value>) -> Self {
        let object = conversion::to_version(call.place.resource, call.place.version, stored);
        let as_stored = matches!((call.format, &object), (ReplyFormat::Plain, Cow::Borrowed(_)));
        let text = as_stored.then(|| inner.store.text(key, stored)).flatten();
        Self { object, text }
    }
}

pub(super) fn include(call: &Call) -> Include {
    match call.param("includeObject") {
        "None" => Include::None,
        "Object" => Include::Object,
        _ => Include::Metadata,
    }
}

pub(super) fn selection(call: &Call) -> Result<Selection, Status> {
    let place = &call.place;
    let (labels, fields) = (call.param("labelSelector"), call.param("fieldSelector"));
    Selection::parse(place.resource, place.namespace.as_deref(), labels, fields)
}

pub(super) fn list(inner: &Inner, call: &Call) -> Result<Response<Body>, Status> {
    let selection = selection(call)?;
    let token = continue_token(call)?;
    let version = version_of_list(inner, call, token.as_ref())?;
    let after = token.map(|token| (token.namespace, token.name));
    let selects = |key: &Key, object: &Value| {
        let beyond = after.as_ref().is_none_or(|(ns, name)| (&key.namespace, &key.name) > (ns, name));
        beyond && selection.matches(object)
    };
    let selected = select(inner, call, &selection, version, selects)?;
    let page = page_size(call, selected.len());
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if page < selected.len()
        && let Some((last, _)) = page.checked_sub(1).and_then(|at| selected.get(at))
    {
        let token = Continue { version, namespace: last.namespace.clone(), name: last.name.clone() };
        metadata["continue"] = json!(URL_SAFE_NO_PAD.encode(json!(token).to_string()));
        if selection.selects_all() {
            metadata["remainingItemCount"] = json!(selected.len() - page);
        }
    }
    let items =
        selected.iter().take(page).map(|(key, stored)| ConvertedObject::new(inner, call, key, stored));
    Ok(list_of(inner, call, items.collect(), metadata))
}

/// The selected objects as of `version`. At the current version, a selection with a name reads only that
/// object. Objects that are not selected are not copied.
fn select(
    inner: &Inner,
    call: &Call,
    selection: &Selection,
    version: u64,
    selects: impl Fn(&Key, &Value) -> bool,
) -> Result<Vec<(Key, Arc<Value>)>, Status> {
    let (store, resource) = (&inner.store, call.place.resource);
    let namespace = selection.namespace.as_deref();
    if version == store.version() {
        let named = selection.name().filter(|_| namespace.is_some() || !resource.namespaced);
        let found: &mut dyn Iterator<Item = (&Key, Arc<Value>)> = match named {
            Some(name) => &mut store.entry(&key(resource, namespace.unwrap_or_default(), name)).into_iter(),
            None => &mut store.range(resource.plural, namespace),
        };
        let found = found.filter(|(key, object)| selects(key, object));
        return Ok(found.map(|(key, object)| (key.clone(), object)).collect());
    }
    let then = store.objects_at(resource.plural, version).map_err(|_| too_old_to_continue())?;
    Ok(then.into_iter().filter(|(key, object)| selects(key, object)).collect())
}

/// A list in the requested format.
pub(super) fn list_of(
    inner: &Inner,
    call: &Call,
    items: Vec<ConvertedObject<'_>>,
    metadata: Value,
) -> Response<Body> {
    let resource = call.place.resource;
    match call.format {
        ReplyFormat::Table => {
            let now_ns = inner.store.clock.now_ns();
            let items: Vec<_> = items.into_iter().map(|item| item.object).collect();
            json_response(StatusCode::OK, &table::table(resource, &items, metadata, include(call), now_ns))
        }
        ReplyFormat::Metadata => {
            let items: Vec<Value> =
                items.iter().map(|item| conversion::metadata_only(&item.object)).collect();
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items});
            json_response(StatusCode::OK, &list)
        }
        ReplyFormat::Plain | ReplyFormat::Discovery(_) => {
            let list = plain_list(call.place.resource, call.place.version, &items, &metadata);
            respond(StatusCode::OK, JSON, Body::from(list))
        }
    }
}

/// A list built from the texts of its items, with its fields in alphabetical order like all objects here.
fn plain_list(
    resource: &Resource,
    version: &str,
    items: &[ConvertedObject<'_>],
    metadata: &Value,
) -> Vec<u8> {
    let mut list = format!(r#"{{"apiVersion":"{}","items":["#, resource.api_version(version)).into_bytes();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            list.push(b',');
        }
        match &item.text {
            Some(text) if resource.custom => list.extend_from_slice(text),
            _ => list.extend(text::of(&Item { object: &item.object, typed: resource.custom })),
        }
    }
    list.extend(format!(r#"],"kind":"{}","metadata":{metadata}}}"#, resource.list_kind).into_bytes());
    list
}

/// An item of a list. Items of built-in kinds have no type, items of custom kinds have one.
struct Item<'a> {
    object: &'a Value,
    typed: bool,
}

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.object.as_object().into_iter().flatten();
        let mut map = serializer.serialize_map(None)?;
        for (field, value) in
            fields.filter(|(field, _)| self.typed || *field != "apiVersion" && *field != "kind")
        {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

fn page_size(call: &Call, all: usize) -> usize {
    // A list from the cache (resourceVersion 0) is never split into pages.
    let cached = call.param("resourceVersion") == "0" && call.param("continue").is_empty();
    match call.param("limit").parse::<usize>() {
        Ok(limit) if limit > 0 && !cached => limit.min(all),
        _ => all,
    }
}

/// The version that the call reads: the newest one, or an older one if its reads are stale.
pub(super) fn version_to_read(inner: &Inner, call: &Call) -> u64 {
    match call.stale {
        Duration::ZERO => inner.store.version(),
        age => Instant::now().checked_sub(age).map_or(0, |then| inner.store.version_at(then)),
    }
}

fn version_of_list(inner: &Inner, call: &Call, token: Option<&Continue>) -> Result<u64, Status> {
    let now = version_to_read(inner, call);
    if !call.stale.is_zero() {
        return Ok(now);
    }
    if let Some(token) = token {
        return Ok(token.version.min(now));
    }
    let wanted = version_param(call)?.unwrap_or(0);
    if wanted > now {
        return Err(too_large(wanted, now));
    }
    let exact = call.param("resourceVersionMatch") == "Exact" && wanted > 0;
    Ok(if exact { wanted } else { now })
}

/// The `resourceVersion` parameter.
///
/// # Errors
/// 400 if it is not a number.
pub(super) fn version_param(call: &Call) -> Result<Option<u64>, Status> {
    match call.param("resourceVersion") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!("Invalid value: {text:?}: resourceVersion is not a number"))
        }),
    }
}

pub(super) fn too_large(wanted: u64, now: u64) -> Status {
    let mut status =
        Status::new(504, "Timeout", format!("Too large resource version: {wanted}, current: {now}"))
            .because("ResourceVersionTooLarge", "Too large resource version");
    status.details.retry_after_seconds = Some(1);
    status
}

fn continue_token(call: &Call) -> Result<Option<Continue>, Status> {
    let token = call.param("continue");
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .map(Some)
        .ok_or_else(|| Status::bad_request("continue key is not valid: invalid format"))
}

fn too_old_to_continue() -> Status {
    Status::expired("The provided continue parameter is too old to display a consistent list result.")
}

/// The delete options. Query parameters and a body of DeleteOptions have the same meaning; the body takes
/// precedence.
pub(super) fn delete_options(call: &Call) -> Result<Map<String, Value>, Status> {
    if call.body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(&call.body).map_err(|error| Status::bad_request(format!("DeleteOptions: {error}")))
}
