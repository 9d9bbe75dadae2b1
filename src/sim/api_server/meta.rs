//! Reads and writes fields of `metadata` in plain JSON.

use serde_json::{Map, Value};

/// A string of `metadata`; empty if absent.
pub(super) fn get<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

pub(super) fn set(object: &mut Value, field: &str, value: Value) {
    if let Some(metadata) = fields(object) {
        metadata.insert(field.to_owned(), value);
    }
}

pub(super) fn unset(object: &mut Value, field: &str) {
    if let Some(metadata) = fields(object) {
        metadata.remove(field);
    }
}

/// Removes a field from `metadata` and returns it.
pub(super) fn take(object: &mut Value, field: &str) -> Option<Value> {
    fields(object)?.remove(field)
}

/// Copies the field from `from` to `to`, or removes it if it is absent there.
pub(super) fn copy(from: &Value, to: &mut Value, field: &str) {
    copy_all(from, to, &[field]);
}

/// Copies the fields from `from` to `to`, or removes those that are absent there.
pub(super) fn copy_all(from: &Value, to: &mut Value, names: &[&str]) {
    let (from, Some(to)) = (from["metadata"].as_object(), fields(to)) else { return };
    for name in names {
        match from.and_then(|from| from.get(*name)) {
            Some(value) if to.get(*name) == Some(value) => {}
            Some(value) => drop(to.insert((*name).to_owned(), value.clone())),
            None => drop(to.remove(*name)),
        }
    }
}

/// Returns whether a field of `metadata` is equal in both; absent equals absent.
pub(super) fn same(one: &Value, other: &Value, field: &str) -> bool {
    one["metadata"].get(field) == other["metadata"].get(field)
}

pub(super) fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"]
        .as_array()
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

pub(super) fn is_terminating(object: &Value) -> bool {
    !get(object, "deletionTimestamp").is_empty()
}

/// Sets a top-level field of an object, or removes it.
pub(super) fn set_top(object: &mut Value, field: &str, value: Option<&Value>) {
    if let Some(map) = object.as_object_mut() {
        match value {
            Some(value) if map.get(field) == Some(value) => {}
            Some(value) => drop(map.insert(field.to_owned(), value.clone())),
            None => drop(map.remove(field)),
        }
    }
}

/// Removes null members at every depth: typed fields and structural schemas keep no null.
pub(super) fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, member| !member.is_null());
            map.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

/// Removes empty lists and maps of `metadata`, which Go omits.
pub(super) fn prune_empty(object: &mut Value) {
    if let Some(metadata) = fields(object) {
        for field in ["labels", "annotations", "finalizers", "ownerReferences", "managedFields"] {
            let empty = match metadata.get(field) {
                Some(Value::Array(list)) => list.is_empty(),
                Some(Value::Object(map)) => map.is_empty(),
                _ => false,
            };
            if empty {
                metadata.remove(field);
            }
        }
    }
}

fn fields(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.as_object_mut()?.entry("metadata").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}
