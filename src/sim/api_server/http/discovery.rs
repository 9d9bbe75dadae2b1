//! The discovery documents: `/version`, `/api`, `/apis` and below, unaggregated and as one aggregated
//! document.

use serde_json::{Value, json};

use crate::api_server::Inner;
use crate::resources::{RESOURCES, Resource};

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// `/version`; the minor version is the newest of the observed real clusters.
pub(super) fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.2", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
    })
}

/// `/api`, unaggregated.
pub(super) fn core() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`, unaggregated.
pub(super) fn groups(inner: &Inner) -> Value {
    let groups: Vec<Value> = group_names(inner).filter_map(|name| describe_group(inner, name)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub(super) fn group(inner: &Inner, name: &str) -> Option<Value> {
    let mut group = describe_group(inner, name)?;
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Some(group)
}

/// `/api/v1` and `/apis/<group>/<version>`.
pub(super) fn group_version(inner: &Inner, group: &str, version: &str) -> Option<Value> {
    let mut rows = Vec::new();
    for resource in served(inner, group, version) {
        rows.push(json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": verbs(resource), "shortNames": resource.short_names,
            "categories": resource.categories,
        }));
        if resource.status_subresource {
            rows.push(json!({
                "name": format!("{}/status", resource.plural), "singularName": "",
                "namespaced": resource.namespaced, "kind": resource.kind, "verbs": STATUS_VERBS,
            }));
        }
    }
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!rows.is_empty()).then(
        || json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": rows}),
    )
}

/// `/api` (only the core group) or `/apis` (all others) as an APIGroupDiscoveryList of the given version.
pub(super) fn aggregated(inner: &Inner, core: bool, version: &str) -> Value {
    let names: Vec<&str> = if core { vec![""] } else { group_names(inner).collect() };
    let items: Vec<Value> = names.into_iter().map(|name| aggregated_group(inner, name)).collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    })
}

/// The versions of a group, the preferred one first; empty if the group is not served.
pub(super) fn versions_of(inner: &Inner, group: &str) -> Vec<&'static str> {
    let mut versions = Vec::new();
    for resource in RESOURCES.iter().filter(|resource| resource.group == group) {
        for version in inner.versions(resource) {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
    }
    versions
}

/// The groups except the core group, in the order of the registry.
pub(super) fn group_names(inner: &Inner) -> impl Iterator<Item = &'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for resource in RESOURCES {
        if !resource.group.is_empty() && !names.contains(&resource.group) {
            names.push(resource.group);
        }
    }
    names.retain(|name| !versions_of(inner, name).is_empty());
    names.into_iter()
}

/// The resources of one group and version.
pub(super) fn served(inner: &Inner, group: &str, version: &str) -> Vec<&'static Resource> {
    let here = |resource: &&Resource| resource.group == group && inner.versions(resource).contains(&version);
    RESOURCES.iter().filter(here).collect()
}

fn describe_group(inner: &Inner, name: &str) -> Option<Value> {
    let entry = |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions_of(inner, name).iter().map(entry).collect();
    let preferred = versions.first()?.clone();
    (!name.is_empty()).then(|| json!({"name": name, "versions": versions, "preferredVersion": preferred}))
}

fn aggregated_group(inner: &Inner, name: &str) -> Value {
    let version = |version: &&str| {
        let resources: Vec<Value> = served(inner, name, version)
            .into_iter()
            .map(|resource| aggregated_resource(resource, version))
            .collect();
        json!({"version": version, "freshness": "Current", "resources": resources})
    };
    let versions: Vec<Value> = versions_of(inner, name).iter().map(version).collect();
    json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": versions})
}

fn aggregated_resource(resource: &Resource, version: &str) -> Value {
    let kind = json!({"group": resource.group, "version": version, "kind": resource.kind});
    let mut row = json!({
        "resource": resource.plural, "responseKind": kind, "singularResource": resource.singular,
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" }, "verbs": verbs(resource),
        "shortNames": resource.short_names, "categories": resource.categories,
    });
    if resource.status_subresource {
        row["subresources"] = json!([{"subresource": "status", "responseKind": kind, "verbs": STATUS_VERBS}]);
    }
    row
}

fn verbs(resource: &Resource) -> &'static [&'static str] {
    if resource.create_only { &["create"] } else { &VERBS }
}
