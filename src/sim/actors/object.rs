//! Reads and changes Kubernetes objects in JSON.
//!
//! Absent, null and the empty string are equal when read, as in the Go types of the real controllers.

use crate::pointer::At;
use serde_json::{Map, Value, json};

/// The string at `pointer` (RFC 6901); `None` if it is absent or empty.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.at(pointer).and_then(Value::as_str).filter(|found| !found.is_empty())
}

/// The boolean at `pointer`, if there is one.
pub(crate) fn flag(object: &Value, pointer: &str) -> Option<bool> {
    object.at(pointer).and_then(Value::as_bool)
}

/// The number at `pointer`, if there is one.
pub(crate) fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.at(pointer).and_then(Value::as_i64)
}

/// The items at `pointer`; empty if the list is absent.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.at(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings at `pointer`.
pub(crate) fn texts(object: &Value, pointer: &str) -> Vec<String> {
    items(object, pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// `metadata.name`; empty for an object without one.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name").unwrap_or_default()
}

/// `metadata.namespace` of a namespaced object.
pub(crate) fn namespace(object: &Value) -> Option<&str> {
    text(object, "/metadata/namespace")
}

/// `metadata.uid`; empty for an object without one.
pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid").unwrap_or_default()
}

/// The key of work queues and caches: `namespace/name`, or `name` for cluster-scoped objects.
pub(crate) fn key(object: &Value) -> String {
    join(namespace(object), name(object))
}

/// `namespace/name` or `name`.
pub(crate) fn join(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// Splits a key into namespace and name.
pub(crate) fn split(key: &str) -> (Option<&str>, &str) {
    match key.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, key),
    }
}

/// `metadata.resourceVersion` as a number; zero if it is absent.
pub(crate) fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").and_then(|found| found.parse().ok()).unwrap_or(0)
}

/// Whether the object has a deletionTimestamp.
pub(crate) fn is_deleting(object: &Value) -> bool {
    text(object, "/metadata/deletionTimestamp").is_some()
}

pub(crate) fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    items(object, "/metadata/finalizers").iter().any(|found| found.as_str() == Some(finalizer))
}

/// The object's finalizers without the given ones.
pub(crate) fn without_finalizers(object: &Value, remove: &[&str]) -> Value {
    items(object, "/metadata/finalizers")
        .iter()
        .filter(|found| !found.as_str().is_some_and(|found| remove.contains(&found)))
        .cloned()
        .collect()
}

pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// Whether an annotation is present, whatever its value.
pub(crate) fn has_annotation(object: &Value, key: &str) -> bool {
    annotation(object, key).is_some()
}

/// The annotations of the object with one annotation added.
pub(crate) fn annotations_with(object: &Value, key: &str, value: &str) -> Value {
    let mut annotations =
        object.at("/metadata/annotations").and_then(Value::as_object).cloned().unwrap_or_default();
    annotations.insert(key.to_owned(), json!(value));
    Value::Object(annotations)
}

/// The JSON pointer of an annotation.
pub(crate) fn annotation_pointer(key: &str) -> String {
    format!("/metadata/annotations/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Sets the value at `path` and creates the parent objects.
pub(crate) fn set(object: &mut Value, path: &[&str], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = object;
    for step in parents {
        at = members(at).entry(*step).or_insert_with(|| json!({}));
    }
    members(at).insert((*last).to_owned(), value);
}

/// Removes the value at `path`, if it is present.
pub(crate) fn unset(object: &mut Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = Some(object);
    for step in parents {
        at = at.and_then(|found| found.get_mut(step));
    }
    if let Some(found) = at.and_then(Value::as_object_mut) {
        found.remove(*last);
    }
}

/// The value as a JSON object. Any other value is replaced by an empty object.
fn members(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(found) => found,
        _ => unreachable!("made an object above"),
    }
}

/// Whether the object has a non-null `status`.
pub(crate) fn has_status(object: &Value) -> bool {
    object.get("status").is_some_and(|status| !status.is_null())
}

/// Returns whether two values under `status` differ as Go pointers do: two present values count as different,
/// because the real controllers compare the addresses.
pub(crate) fn both_present(a: &Value, b: &Value, pointer: &str) -> bool {
    let present = |value: &Value| value.at(pointer).is_some_and(|found| !found.is_null());
    present(a) && present(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_value_at_missing_path() {
        let mut object = json!({"metadata": {"name": "a"}});
        set(&mut object, &["status", "readyToUse"], json!(true));
        assert_eq!(object, json!({"metadata": {"name": "a"}, "status": {"readyToUse": true}}));
        unset(&mut object, &["status", "readyToUse"]);
        assert_eq!(object["status"], json!({}));
    }

    #[test]
    fn annotation_pointer_escapes_slash() {
        assert_eq!(annotation_pointer("a.b/c~d"), "/metadata/annotations/a.b~1c~0d");
    }

    #[test]
    fn absent_null_and_empty_are_equal() {
        for object in [json!({}), json!({"spec": {"class": null}}), json!({"spec": {"class": ""}})] {
            assert_eq!(text(&object, "/spec/class"), None);
        }
    }
}
