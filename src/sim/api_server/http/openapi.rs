//! OpenAPI v3, as far as kubectl reads it: the kinds, the support of field validation by the server, and the
//! fields of the kinds that have a schema here, for `kubectl explain`.
//!
//! Deliberately not here: the fields of metadata and of the built-in kinds, and the descriptions of kinds
//! that belong neither to Stillpoint nor to Velero.

use serde_json::{Map, Value, json};

use crate::api_server::http::discovery;
use crate::api_server::{Inner, schema};
use crate::resources::Resource;

/// `/openapi/v3`: the paths of the documents.
pub(super) fn index(inner: &Inner) -> Value {
    let mut paths = Map::new();
    for group in std::iter::once("").chain(discovery::group_names(inner)) {
        for version in discovery::versions_of(inner, group) {
            let path = group_path(group, version);
            let url = format!("/openapi/v3/{path}?hash={version}");
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// The document of one group and version.
pub(super) fn document(inner: &Inner, group: &str, version: &str) -> Option<Value> {
    let resources = discovery::served(inner, group, version);
    if resources.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for resource in resources {
        let scope = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
        let path = format!("/{}/{scope}{}/{{name}}", group_path(group, version), resource.plural);
        paths.insert(path, json!({"patch": patch_operation(resource, version)}));
        schemas.insert(schema_name(resource, version), schema(resource, version));
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

fn group_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn kind(resource: &Resource, version: &str) -> Value {
    json!({"group": resource.group, "version": version, "kind": resource.kind})
}

fn patch_operation(resource: &Resource, version: &str) -> Value {
    let query =
        |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    json!({
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": kind(resource, version),
        "parameters": [query("dryRun"), query("fieldManager"), query("fieldValidation"), query("force")],
        "responses": {"200": {"description": "OK"}},
    })
}

fn schema_name(resource: &Resource, version: &str) -> String {
    let group = if resource.group.is_empty() { "core" } else { resource.group };
    let reversed: Vec<&str> = group.split('.').rev().collect();
    format!("{}.{version}.{}", reversed.join("."), resource.kind)
}

fn schema(resource: &Resource, version: &str) -> Value {
    let fields = schema::open_api(resource);
    let keeps_unknown = fields.is_none();
    let mut properties = fields.unwrap_or_default();
    for field in ["apiVersion", "kind"] {
        properties.insert(field.to_owned(), json!({"type": "string"}));
    }
    let metadata = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    properties.insert("metadata".to_owned(), metadata);
    json!({
        "type": "object",
        "properties": properties,
        "x-kubernetes-preserve-unknown-fields": keeps_unknown,
        "x-kubernetes-group-version-kind": [kind(resource, version)],
    })
}
