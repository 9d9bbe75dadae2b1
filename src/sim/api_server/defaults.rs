//! The defaults that the API server adds to a new object of a built-in kind.
//!
//! Only defaults that a client reads: phases, the label and finalizer of a namespace, modes and policies of
//! volumes, the conditions of a CustomResourceDefinition.

use serde_json::{Value, json};

use crate::api_server::meta;
use crate::resources::{NAMESPACES, RESOURCES, Resource};

/// Sets the defaults of a new object; `now` is the time as `metav1.Time`.
pub(super) fn apply(resource: &Resource, object: &mut Value, now: &str) {
    if let Some(phase) = resource.initial_phase {
        object["status"] = json!({"phase": phase});
    }
    fill(resource, object);
    if resource.plural == "customresourcedefinitions" {
        establish(object, now);
    }
}

/// Sets the defaults that apply to every write, so that a PUT may omit them.
pub(super) fn fill(resource: &Resource, object: &mut Value) {
    match resource.plural {
        NAMESPACES => {
            let name = object["metadata"]["name"].clone();
            if !object["metadata"]["labels"].is_object() {
                object["metadata"]["labels"] = json!({});
            }
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"] = json!({"finalizers": ["kubernetes"]});
        }
        "persistentvolumeclaims" => default(object, "spec", "volumeMode", "Filesystem"),
        "persistentvolumes" => {
            default(object, "spec", "volumeMode", "Filesystem");
            default(object, "spec", "persistentVolumeReclaimPolicy", "Retain");
        }
        "storageclasses" => {
            top_default(object, "reclaimPolicy", "Delete");
            top_default(object, "volumeBindingMode", "Immediate");
        }
        "secrets" => top_default(object, "type", "Opaque"),
        _ => {}
    }
}

/// Sets the CustomResourceDefinition of a served resource to Established at once.
fn establish(object: &mut Value, now: &str) {
    let served =
        RESOURCES.iter().any(|one| one.custom && one.qualified_plural() == meta::get(object, "name"));
    if !served {
        return;
    }
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message});
    let versions = object["spec"]["versions"].as_array();
    let stored: Vec<Value> = versions
        .into_iter()
        .flatten()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    object["status"] = json!({
        "acceptedNames": object["spec"]["names"],
        "storedVersions": stored,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    });
}

fn default(object: &mut Value, parent: &str, field: &str, value: &str) {
    if object[parent].is_object() && object[parent][field].is_null() {
        object[parent][field] = json!(value);
    }
}

fn top_default(object: &mut Value, field: &str, value: &str) {
    if object[field].is_null() {
        object[field] = json!(value);
    }
}
