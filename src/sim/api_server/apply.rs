//! Server-side apply, for managers that apply.
//!
//! The fields of each manager are recorded in `metadata.managedFields`, in the usual format. A field that a
//! manager applied before and omits now is removed, unless another manager applies it too. A value that
//! another manager applied with a different value is a conflict, unless the apply is forced.
//!
//! Deliberately not here: ownership by plain writes (PUT, POST, patches). Such fields have no owner, and an
//! apply takes them without a conflict.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api_server::merge::{self, ListKind};
use crate::api_server::meta;
use crate::api_server::status::{Cause, Status};
use crate::resources::Resource;

/// The manager of an apply and its options.
pub(super) struct Applier<'a> {
    pub resource: &'a Resource,
    pub manager: &'a str,
    pub force: bool,
    /// The apply is a write to `/status`.
    pub status: bool,
    /// The time as `metav1.Time`.
    pub now: String,
}

/// The path of a field in the notation of `FieldsV1`: `f:name`, `k:{...}`, `v:...`.
type Path = Vec<String>;
type Fields = BTreeSet<Path>;

/// Returns the object after the apply. `current` is an empty object if the object did not exist.
///
/// # Errors
/// 409 with one cause per field that another manager applied with another value; 400 for managed fields in
/// the applied object.
pub(super) fn apply(applier: &Applier<'_>, current: &Value, applied: &Value) -> Result<Value, Status> {
    if !applied["metadata"]["managedFields"].is_null() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let applied = written_half(applier, applied);
    let mut next = current.clone();
    let mut managers = Managers::read(current);
    let mine = managers.take(applier);
    let wanted = fields_of(&applied);
    resolve_conflicts(applier, current, &applied, &wanted, &mut managers)?;
    for path in mine.fields.difference(&wanted) {
        if !managers.owns(path) {
            remove(&mut next, path, &wanted, &managers);
        }
    }
    merge::strategic(&mut next, &applied);
    managers.put(applier, mine, wanted, &current["apiVersion"], &applied["apiVersion"]);
    meta::set(&mut next, "managedFields", managers.write());
    Ok(next)
}

/// The part of the applied object that this endpoint (main resource or `/status`) writes.
fn written_half(applier: &Applier<'_>, applied: &Value) -> Value {
    let mut half = applied.clone();
    if applier.status {
        half = json!({"apiVersion": applied["apiVersion"], "kind": applied["kind"], "metadata": {}});
        meta::set_top(&mut half, "status", applied.get("status"));
        for field in ["name", "namespace", "uid", "resourceVersion"] {
            meta::copy(applied, &mut half, field);
        }
    } else if applier.resource.status_subresource {
        meta::set_top(&mut half, "status", None);
    }
    half
}

fn resolve_conflicts(
    applier: &Applier<'_>,
    current: &Value,
    applied: &Value,
    wanted: &Fields,
    managers: &mut Managers,
) -> Result<(), Status> {
    let mut causes = Vec::new();
    for path in wanted {
        let differs = value_at(current, path) != value_at(applied, path);
        for other in managers.entries.iter_mut().filter(|other| differs && other.fields.contains(path)) {
            if applier.force {
                other.fields.remove(path);
            } else {
                causes.push(Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: format!("conflict with {:?}", other.manager),
                    field: display_path(path),
                });
            }
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    let plural = if causes.len() == 1 { "" } else { "s" };
    let list: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.message, cause.field)).collect();
    let message = format!("Apply failed with {} conflict{plural}: {}", causes.len(), list.join(", "));
    let mut status = Status::new(409, "Conflict", message);
    status.details.causes = causes;
    Err(status)
}

/// The entry of one manager in `managedFields`.
#[derive(Default)]
struct Entry {
    manager: String,
    subresource: String,
    api_version: Value,
    time: String,
    fields: Fields,
}

struct Managers {
    entries: Vec<Entry>,
}

impl Managers {
    fn read(object: &Value) -> Self {
        let list = object["metadata"]["managedFields"].as_array();
        let entry = |value: &Value| Entry {
            manager: value["manager"].as_str().unwrap_or_default().to_owned(),
            subresource: value["subresource"].as_str().unwrap_or_default().to_owned(),
            api_version: value["apiVersion"].clone(),
            time: value["time"].as_str().unwrap_or_default().to_owned(),
            fields: unfold(&value["fieldsV1"]),
        };
        Self { entries: list.into_iter().flatten().map(entry).collect() }
    }

    /// Takes out the entry of the applier; returns an empty one if there is none.
    fn take(&mut self, applier: &Applier<'_>) -> Entry {
        let subresource = if applier.status { "status" } else { "" };
        let at = self
            .entries
            .iter()
            .position(|entry| entry.manager == applier.manager && entry.subresource == subresource);
        at.map(|at| self.entries.remove(at)).unwrap_or_else(|| Entry {
            manager: applier.manager.to_owned(),
            subresource: subresource.to_owned(),
            ..Entry::default()
        })
    }

    fn put(&mut self, applier: &Applier<'_>, mine: Entry, wanted: Fields, stored: &Value, applied: &Value) {
        let same = mine.fields == wanted;
        let time = if same && !mine.time.is_empty() { mine.time } else { applier.now.clone() };
        let api_version = if stored.is_null() { applied.clone() } else { stored.clone() };
        self.entries.push(Entry { time, api_version, fields: wanted, ..mine });
        self.entries.retain(|entry| !entry.fields.is_empty());
        self.entries.sort_by(|a, b| (&a.manager, &a.subresource).cmp(&(&b.manager, &b.subresource)));
    }

    fn owns(&self, path: &Path) -> bool {
        self.entries.iter().any(|entry| entry.fields.contains(path))
    }

    fn owns_below(&self, prefix: &[String]) -> bool {
        self.entries.iter().any(|entry| entry.fields.iter().any(|path| path.starts_with(prefix)))
    }

    fn write(&self) -> Value {
        let entry = |entry: &Entry| {
            let mut value = json!({
                "manager": entry.manager, "operation": "Apply", "apiVersion": entry.api_version,
                "time": entry.time, "fieldsType": "FieldsV1", "fieldsV1": fold(&entry.fields),
            });
            if !entry.subresource.is_empty() {
                value["subresource"] = json!(entry.subresource);
            }
            value
        };
        self.entries.iter().map(entry).collect()
    }
}

/// The leaves of an applied object, without the fields that identify it.
fn fields_of(applied: &Value) -> Fields {
    const IDENTITY: [&str; 6] =
        ["name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation"];
    let mut object = applied.clone();
    for field in ["apiVersion", "kind"] {
        meta::set_top(&mut object, field, None);
    }
    for field in IDENTITY {
        meta::unset(&mut object, field);
    }
    let mut fields = Fields::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        collect(name, value, &mut vec![format!("f:{name}")], &mut fields);
    }
    fields.remove(&vec!["f:metadata".to_owned()]);
    fields
}

fn collect(field: &str, value: &Value, path: &mut Path, fields: &mut Fields) {
    match (value, merge::list_kind(field)) {
        (Value::Object(map), _) if !map.is_empty() => {
            for (name, value) in map {
                path.push(format!("f:{name}"));
                collect(name, value, path, fields);
                path.pop();
            }
        }
        (Value::Array(items), Some(kind)) => {
            for item in items {
                path.push(element(item, kind));
                match item {
                    Value::Object(_) => collect("", item, path, fields),
                    _ => {
                        fields.insert(path.clone());
                    }
                }
                path.pop();
            }
        }
        _ => {
            fields.insert(path.clone());
        }
    }
}

fn element(item: &Value, kind: ListKind) -> String {
    match kind {
        ListKind::Set => format!("v:{item}"),
        ListKind::By(key) => format!("k:{}", json!({ key: item[key] })),
    }
}

/// Builds the nested form of `fieldsV1`.
fn fold(fields: &Fields) -> Value {
    let mut root = Map::new();
    for path in fields {
        let mut level = &mut root;
        for step in path {
            let next = level.entry(step.clone()).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(map) = next else { break };
            level = map;
        }
    }
    Value::Object(root)
}

fn unfold(nested: &Value) -> Fields {
    fn walk(value: &Value, path: &mut Path, fields: &mut Fields) {
        match value.as_object() {
            Some(map) if !map.is_empty() => {
                for (step, below) in map {
                    path.push(step.clone());
                    walk(below, path, fields);
                    path.pop();
                }
            }
            _ if path.is_empty() => {}
            _ => {
                fields.insert(path.clone());
            }
        }
    }
    let mut fields = Fields::new();
    walk(nested, &mut Vec::new(), &mut fields);
    fields
}

fn value_at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, step| {
        if let Some(name) = step.strip_prefix("f:") {
            return value.get(name);
        }
        value.as_array()?.iter().find(|item| is_element(item, step))
    })
}

fn is_element(item: &Value, step: &str) -> bool {
    if let Some(value) = step.strip_prefix("v:") {
        return serde_json::from_str::<Value>(value).is_ok_and(|value| *item == value);
    }
    let key: BTreeMap<String, Value> =
        step.strip_prefix("k:").and_then(|key| serde_json::from_str(key).ok()).unwrap_or_default();
    !key.is_empty() && key.iter().all(|(name, value)| &item[name.as_str()] == value)
}

/// Removes a field. Removes a list item with its last field, if no other manager applies the item.
fn remove(object: &mut Value, path: &[String], wanted: &Fields, managers: &Managers) {
    let item = path.iter().position(|step| step.starts_with("k:"));
    let end = match item {
        Some(at)
            if !wanted.iter().any(|field| field.starts_with(&path[..=at]))
                && !managers.owns_below(&path[..=at]) =>
        {
            at + 1
        }
        _ => path.len(),
    };
    let Some((last, parents)) = path[..end].split_last() else { return };
    let mut parent = object;
    for step in parents {
        let next = match step.strip_prefix("f:") {
            Some(name) => parent.get_mut(name),
            None => {
                parent.as_array_mut().and_then(|list| list.iter_mut().find(|item| is_element(item, step)))
            }
        };
        let Some(next) = next else { return };
        parent = next;
    }
    match (parent, last.strip_prefix("f:")) {
        (Value::Object(map), Some(name)) => {
            map.remove(name);
        }
        (Value::Array(list), None) => list.retain(|item| !is_element(item, last)),
        _ => {}
    }
}

fn display_path(path: &[String]) -> String {
    path.iter()
        .map(|step| match step.strip_prefix("f:") {
            Some(name) => format!(".{name}"),
            None => format!("[{}]", step.get(2..).unwrap_or(step)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::by_plural;

    fn run(manager: &str, force: bool, current: &Value, applied: Value) -> Result<Value, Status> {
        let resource = by_plural("volumesnapshots").expect("served");
        let applier = Applier { resource, manager, force, status: false, now: "t".to_owned() };
        apply(&applier, current, &applied)
    }

    #[test]
    fn apply_removes_only_fields_of_its_manager() {
        let one = run("one", false, &json!({}), json!({"metadata": {"labels": {"a": "1", "b": "1"}}}))
            .expect("applied");
        let two = run("two", false, &one, json!({"metadata": {"labels": {"b": "1"}}})).expect("same value");
        let three = run("one", false, &two, json!({"metadata": {"labels": {"c": "1"}}})).expect("applied");
        assert_eq!(three["metadata"]["labels"], json!({"b": "1", "c": "1"}));
    }

    #[test]
    fn different_value_conflicts_unless_forced() {
        let one = run("one", false, &json!({}), json!({"spec": {"x": 1}})).expect("applied");
        let refused = run("two", false, &one, json!({"spec": {"x": 2}})).expect_err("conflict");
        assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.x");
        let forced = run("two", true, &one, json!({"spec": {"x": 2}})).expect("forced");
        assert_eq!(forced["spec"]["x"], 2);
        let managers = forced["metadata"]["managedFields"].as_array().expect("listed");
        assert_eq!(managers.len(), 1);
        assert_eq!(managers[0]["fieldsV1"], json!({"f:spec": {"f:x": {}}}));
    }

    #[test]
    fn repeated_apply_changes_nothing() {
        let object =
            json!({"metadata": {"finalizers": ["a/b"], "ownerReferences": [{"uid": "1", "name": "n"}]}});
        let one = run("one", false, &json!({}), object.clone()).expect("applied");
        assert_eq!(run("one", false, &one, object), Ok(one));
    }

    #[test]
    fn removes_item_of_keyed_list_as_whole() {
        let with = |uids: &[&str]| {
            let owners: Vec<Value> = uids.iter().map(|uid| json!({"uid": uid, "name": "n"})).collect();
            json!({"metadata": {"ownerReferences": owners}})
        };
        let one = run("one", false, &json!({}), with(&["1", "2"])).expect("applied");
        let two = run("one", false, &one, with(&["2"])).expect("applied");
        assert_eq!(two["metadata"]["ownerReferences"], json!([{"uid": "2", "name": "n"}]));
    }
}
