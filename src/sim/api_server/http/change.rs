//! Create, update, patch and delete over HTTP: translates the request body into a write.

use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api_server::apply::{self, Applier};
use crate::api_server::caller::key;
use crate::api_server::http::read::{self, ConvertedObject};
use crate::api_server::http::{Call, json as json_response, protobuf};
use crate::api_server::status::Status;
use crate::api_server::store::Key;
use crate::api_server::write::{self, DeleteResult, Preconditions, Target};
use crate::api_server::{Inner, conversion, meta, patch as patches, schema};
use crate::resources::Resource;

const OBJECT_MEDIA: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const CUSTOM_PATCH_MEDIA: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
const PATCH_MEDIA: &str = "application/json-patch+json, application/merge-patch+json, \
     application/strategic-merge-patch+json, application/apply-patch+yaml";

pub(super) fn create(inner: &mut Inner, call: &Call) -> Result<Response<Body>, Status> {
    let object = object_of_body(inner, call)?;
    if call.place.resource.create_only {
        return Ok(json_response(StatusCode::CREATED, &review(call.place.resource, object)));
    }
    let target = target(call)?;
    let made = write::create(&mut inner.store, &target, object)?;
    Ok(answer(inner, call, StatusCode::CREATED, &made))
}

pub(super) fn update(inner: &mut Inner, call: &Call) -> Result<Response<Body>, Status> {
    let object = object_of_body(inner, call)?;
    let target = target(call)?;
    let (name, named) = (&target.key.name, meta::get(&object, "name"));
    if named != name {
        let why = format!("the name of the object ({named}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(why));
    }
    let replace = |_: &Value| patches::may_replace(target.resource, &object).map(|()| object.clone());
    let next = write::update(&mut inner.store, &target, replace)?;
    Ok(answer(inner, call, StatusCode::OK, &next))
}

pub(super) fn patch(inner: &mut Inner, call: &Call) -> Result<Response<Body>, Status> {
    let target = target(call)?;
    let media = call.media.split(';').next().unwrap_or_default().trim();
    if media == "application/apply-patch+yaml" {
        return server_side_apply(inner, call, &target);
    }
    if !call.param("force").is_empty() {
        return Err(Status::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
        ));
    }
    let patch: Value = serde_json::from_slice(&call.body)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let resource = call.place.resource;
    // Patches are written against the requested version, so Events are converted to it before and back after.
    let version = call.place.version;
    let stored_version = inner.preferred(resource).map(|preferred| resource.api_version(preferred));
    let preserves_unknown = inner.store.preserves_unknown_fields(resource.plural);
    let change = |current: &Value| {
        let converted = conversion::to_version(resource, version, current);
        let next = match media {
            "application/json-patch+json" => patches::json(&converted, &patch)?,
            "application/merge-patch+json" => patches::merge(&converted, &patch),
            "application/strategic-merge-patch+json" if !resource.custom => {
                patches::strategic(&converted, &patch)
            }
            _ if resource.custom => return Err(unsupported_media(CUSTOM_PATCH_MEDIA)),
            _ => return Err(unsupported_media(PATCH_MEDIA)),
        };
        if !preserves_unknown {
            refuse_unknown_fields(call, &next)?;
        }
        let mut next = restore_hidden(conversion::to_stored(resource, next), &converted, current);
        meta::set_top(&mut next, "apiVersion", stored_version.map(Value::String).as_ref());
        Ok(next)
    };
    let next = write::update(&mut inner.store, &target, change)?;
    Ok(answer(inner, call, StatusCode::OK, &next))
}

pub(super) fn delete(inner: &mut Inner, call: &Call) -> Result<Response<Body>, Status> {
    let options = read::delete_options(call)?;
    let mut target = target(call)?;
    target.dry_run |= options.get("dryRun").is_some_and(|dry_run| dry_run == &json!(["All"]));
    let wanted = |field: &str| options.get("preconditions")?.get(field)?.as_str().map(str::to_owned);
    let preconditions = Preconditions { uid: wanted("uid"), resource_version: wanted("resourceVersion") };
    let policy =
        options.get("propagationPolicy").and_then(Value::as_str).unwrap_or(call.param("propagationPolicy"));
    let delete = if policy == "Orphan" { write::delete_orphaning } else { write::delete };
    match delete(&mut inner.store, &target, &preconditions)? {
        DeleteResult::Pending(object) => Ok(answer(inner, call, StatusCode::OK, &object)),
        DeleteResult::Removed(object) => Ok(json_response(StatusCode::OK, &success(&target, &object))),
    }
}

pub(super) fn delete_collection(inner: &mut Inner, call: &Call) -> Result<Response<Body>, Status> {
    let selection = read::selection(call)?;
    let keys: Vec<Key> = inner
        .store
        .range(call.place.resource.plural, None)
        .filter(|(_, object)| selection.matches(object))
        .map(|(key, _)| key.clone())
        .collect();
    let mut items = Vec::new();
    for key in keys {
        let target = Target { key, ..target(call)? };
        let (DeleteResult::Pending(object) | DeleteResult::Removed(object)) =
            write::delete(&mut inner.store, &target, &Preconditions::default())?;
        items.push((target.key, object));
    }
    let items = items.iter().map(|(key, object)| ConvertedObject::new(inner, call, key, object)).collect();
    let metadata = json!({"resourceVersion": inner.store.version().to_string()});
    Ok(read::list_of(inner, call, items, metadata))
}

fn server_side_apply(inner: &mut Inner, call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let manager = call.param("fieldManager");
    if manager.is_empty() {
        let why = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
        return Err(Status::new(422, "Invalid", why));
    }
    let applied = set_type(inner, call, parse(&call.body)?)?;
    let applier = Applier {
        resource: target.resource,
        manager,
        force: call.flag("force"),
        status: target.status,
        now: inner.store.clock.rfc3339(),
    };
    if inner.store.has(&target.key) {
        let next =
            write::update(&mut inner.store, target, |current| apply::apply(&applier, current, &applied))?;
        return Ok(answer(inner, call, StatusCode::OK, &next));
    }
    if target.status {
        return Err(Status::not_found(target.resource, &target.key.name));
    }
    if !meta::get(&applied, "uid").is_empty() || !meta::get(&applied, "resourceVersion").is_empty() {
        let why = "uid mismatch: the provided object specified uid or resourceVersion, and no existing object was found";
        return Err(Status::conflict(target.resource, &target.key.name, why));
    }
    let mut object = apply::apply(&applier, &json!({"metadata": {}}), &applied)?;
    meta::set(&mut object, "name", json!(target.key.name));
    let made = write::create(&mut inner.store, target, object)?;
    Ok(answer(inner, call, StatusCode::CREATED, &made))
}

/// Restores fields that the requested version hides, so that a patch through it does not remove them.
fn restore_hidden(mut next: Value, converted: &Value, current: &Value) -> Value {
    for list in ["volumeSnapshotInfoList", "volumeSnapshotHandlePairList"] {
        let hidden = &current["status"][list];
        if !hidden.is_null() && converted["status"][list].is_null() && next["status"].is_object() {
            next["status"][list] = hidden.clone();
        }
    }
    next
}

fn target(call: &Call) -> Result<Target, Status> {
    let place = &call.place;
    let dry_run = match call.param("dryRun") {
        "" => false,
        "All" => true,
        other => {
            return Err(Status::bad_request(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            )));
        }
    };
    let namespace = place.namespace.as_deref().unwrap_or_default();
    let key = key(place.resource, namespace, place.name.as_deref().unwrap_or_default());
    Ok(Target { resource: place.resource, key, status: place.status, dry_run })
}

/// The object of a POST or PUT, in the stored format.
fn object_of_body(inner: &Inner, call: &Call) -> Result<Value, Status> {
    let object = match call.media.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" | "application/yaml" => parse(&call.body)?,
        protobuf::MEDIA => protobuf::object(&call.body).ok_or_else(|| unsupported_media(OBJECT_MEDIA))?,
        _ => return Err(unsupported_media(OBJECT_MEDIA)),
    };
    set_type(inner, call, object)
}

/// Checks type and namespace of the object against the path.
fn set_type(inner: &Inner, call: &Call, object: Value) -> Result<Value, Status> {
    let place = &call.place;
    let wanted = place.resource.api_version(place.version);
    let (api_version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
    if !object.is_object() || kind.is_none() {
        return Err(Status::bad_request("Object 'Kind' is missing in the body of the request"));
    }
    if api_version != Some(wanted.as_str()) {
        let is = api_version.unwrap_or_default();
        return Err(Status::bad_request(format!(
            "the API version in the data ({is}) does not match the expected API version ({wanted})"
        )));
    }
    if kind != Some(place.resource.kind) {
        let is = kind.unwrap_or_default();
        let expected = place.resource.kind;
        return Err(Status::bad_request(format!(
            "the kind in the data ({is}) does not match the expected kind ({expected})"
        )));
    }
    let (inside, outside) = (meta::get(&object, "namespace"), place.namespace.as_deref().unwrap_or_default());
    if place.resource.namespaced && !inside.is_empty() && inside != outside {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    refuse_unknown(inner, call, &object)?;
    let object = conversion::to_stored(place.resource, object);
    Ok(if place.resource.create_only { object } else { inner.with_storage_type(place.resource, object) })
}

fn refuse_unknown(inner: &Inner, call: &Call, object: &Value) -> Result<(), Status> {
    if inner.store.preserves_unknown_fields(call.place.resource.plural) {
        Ok(())
    } else {
        refuse_unknown_fields(call, object)
    }
}

/// Rejects unknown fields with `fieldValidation=Strict`. Otherwise they are dropped, with a warning unless
/// the value is `Ignore`.
fn refuse_unknown_fields(call: &Call, object: &Value) -> Result<(), Status> {
    let wanted = call.param("fieldValidation");
    if wanted == "Ignore" {
        return Ok(());
    }
    let unknown = schema::unknown(call.place.resource, object);
    let list: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    if wanted != "Strict" || list.is_empty() {
        call.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(list);
        return Ok(());
    }
    let (kind, version) = (call.place.resource.kind, call.place.version);
    Err(Status::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
        list.join(", ")
    )))
}

fn parse(body: &[u8]) -> Result<Value, Status> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let text = std::str::from_utf8(body).map_err(|error| Status::bad_request(error.to_string()))?;
    serde_saphyr::from_str(text)
        .map_err(|error| Status::bad_request(format!("error decoding the body: {error}")))
}

/// Every access review is allowed: every caller has all permissions and is the same user.
fn review(resource: &Resource, mut object: Value) -> Value {
    object["status"] = match resource.plural {
        "selfsubjectrulesreviews" => json!({
            "incomplete": false,
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }),
        "selfsubjectreviews" => {
            json!({"userInfo": {"username": "stillpoint-sim", "groups": ["system:masters", "system:authenticated"]}})
        }
        _ => json!({"allowed": true}),
    };
    object
}

fn answer(inner: &Inner, call: &Call, code: StatusCode, stored: &Arc<Value>) -> Response<Body> {
    let place = &call.place;
    // The server may have generated the name of a new object.
    let key = key(place.resource, place.namespace.as_deref().unwrap_or_default(), meta::get(stored, "name"));
    read::one(inner, call, code, &key, stored)
}

fn success(target: &Target, object: &Value) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {
            "name": target.key.name, "group": target.resource.group, "kind": target.resource.plural,
            "uid": object["metadata"]["uid"],
        },
    })
}

fn unsupported_media(accepted: &str) -> Status {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    );
    Status::new(415, "UnsupportedMediaType", message)
}
