//! Merge patch (RFC 7386) and strategic merge patch.
//!
//! A strategic merge requires the knowledge which lists are sets or maps. Only the lists of the served
//! built-in kinds are known here (see `list_kind`); every other list is replaced as a whole.

use serde_json::{Map, Value};

/// Applies a merge patch.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Some(map) = target.as_object_mut() {
        for (field, value) in patch {
            if value.is_null() {
                map.remove(field);
            } else {
                merge(map.entry(field.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// The identity of list items.
#[derive(Clone, Copy)]
pub(super) enum ListKind {
    /// A set of plain values.
    Set,
    /// A map with this member as key.
    By(&'static str),
}

/// The patch strategy of a list, by the name of its field.
pub(super) fn list_kind(field: &str) -> Option<ListKind> {
    Some(match field {
        "finalizers" => ListKind::Set,
        "ownerReferences" => ListKind::By("uid"),
        "conditions" => ListKind::By("type"),
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => ListKind::By("name"),
        "volumeMounts" => ListKind::By("mountPath"),
        "ports" => ListKind::By("containerPort"),
        _ => return None,
    })
}

/// Applies a strategic merge patch.
pub(super) fn strategic(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if patch.get("$patch").and_then(Value::as_str) == Some("replace") {
        *target = Value::Object(without_directives(patch));
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    retain_keys(map, patch);
    for (field, value) in patch {
        if let Some(list) = field.strip_prefix("$deleteFromPrimitiveList/") {
            delete_from_set(map, list, value);
        } else if field.starts_with('$') {
            // Directives other than deletions order or prune the list; they are ignored and the order is
            // kept.
        } else if value.is_null() {
            map.remove(field);
        } else if let (Some(kind), Some(items)) = (list_kind(field), value.as_array()) {
            merge_list(map.entry(field.clone()).or_insert_with(|| Value::Array(Vec::new())), items, kind);
        } else {
            strategic(map.entry(field.clone()).or_insert(Value::Null), value);
        }
    }
}

fn merge_list(target: &mut Value, items: &[Value], kind: ListKind) {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Some(list) = target.as_array_mut() else { return };
    if items.iter().any(|item| item["$patch"] == "replace") {
        *list = items.iter().filter(|item| item["$patch"].is_null()).cloned().collect();
        return;
    }
    for item in items {
        let same = |other: &Value| match kind {
            ListKind::Set => other == item,
            ListKind::By(key) => other[key] == item[key],
        };
        let at = list.iter().position(same);
        match (at, item["$patch"] == "delete") {
            (Some(at), true) => {
                list.remove(at);
            }
            (None, true) => {}
            (Some(at), false) => strategic(&mut list[at], item),
            (None, false) => list.push(item.clone()),
        }
    }
}

fn delete_from_set(map: &mut Map<String, Value>, list: &str, values: &Value) {
    if let (Some(Value::Array(items)), Some(values)) = (map.get_mut(list), values.as_array()) {
        items.retain(|item| !values.contains(item));
    }
}

fn retain_keys(map: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if let Some(keys) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|field, _| keys.iter().any(|key| key == field));
    }
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    patch
        .iter()
        .filter(|(field, _)| !field.starts_with('$'))
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patch_replaces_lists_and_removes_nulls() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
        merge(&mut object, &json!({"a": {"b": null, "d": 3}, "l": [3]}));
        assert_eq!(object, json!({"a": {"c": 2, "d": 3}, "l": [3]}));
    }

    #[test]
    fn strategic_patch_adds_and_removes_finalizers() {
        let mut object = json!({"metadata": {"finalizers": ["a", "b"]}});
        strategic(
            &mut object,
            &json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
        );
        assert_eq!(object["metadata"]["finalizers"], json!(["b", "c"]));
    }

    #[test]
    fn strategic_patch_merges_lists_by_key() {
        let mut object = json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "x"}, {"uid": "2"}]}});
        let patch = json!({"metadata": {"ownerReferences": [{"uid": "1", "$patch": "delete"}, {"uid": "2", "name": "y"}]}});
        strategic(&mut object, &patch);
        assert_eq!(object["metadata"]["ownerReferences"], json!([{"uid": "2", "name": "y"}]));
    }
}
