//! The fields of the custom resources: what is not listed is pruned, what has the wrong type is refused.
//!
//! Source: the CRDs of external-snapshotter 8.6 and Velero 1.18, whose schemas are structural. A name that is wrong in
//! a client's types therefore vanishes here as it would there. Kinds without a list here keep every field.

use serde_json::{Map, Value, json};

use crate::sim::api_server::meta;
use crate::sim::api_server::status::{Cause, Status};
use crate::sim::api_server::validate::refuse;
use crate::sim::resources::Resource;

/// Type of a field.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Boolean,
    Integer,
    /// An RFC 3339 time.
    Time,
    /// Anything, kept as it is.
    Open,
    Object(Fields),
    /// A list of objects.
    Objects(Fields),
    /// A list of strings.
    Texts,
}

type Fields = &'static [(&'static str, Type)];

use Type::{Boolean, Integer, Object, Objects, Open, Text, Texts, Time};

const ERROR: Type = Object(&[("time", Time), ("message", Text)]);
const REFERENCE: Type = Object(&[
    ("apiVersion", Text),
    ("fieldPath", Text),
    ("kind", Text),
    ("name", Text),
    ("namespace", Text),
    ("resourceVersion", Text),
    ("uid", Text),
]);

const VOLUME_SNAPSHOT: Fields = &[
    (
        "spec",
        Object(&[
            ("source", Object(&[("persistentVolumeClaimName", Text), ("volumeSnapshotContentName", Text)])),
            ("volumeSnapshotClassName", Text),
        ]),
    ),
    (
        "status",
        Object(&[
            ("boundVolumeSnapshotContentName", Text),
            ("creationTime", Time),
            ("readyToUse", Boolean),
            ("restoreSize", Open),
            ("error", ERROR),
            ("volumeGroupSnapshotName", Text),
        ]),
    ),
];

const VOLUME_SNAPSHOT_CONTENT: Fields = &[
    (
        "spec",
        Object(&[
            ("volumeSnapshotRef", REFERENCE),
            ("deletionPolicy", Text),
            ("driver", Text),
            ("volumeSnapshotClassName", Text),
            ("source", Object(&[("volumeHandle", Text), ("snapshotHandle", Text)])),
            ("sourceVolumeMode", Text),
        ]),
    ),
    (
        "status",
        Object(&[
            ("snapshotHandle", Text),
            ("creationTime", Integer),
            ("restoreSize", Integer),
            ("readyToUse", Boolean),
            ("error", ERROR),
            ("volumeGroupSnapshotHandle", Text),
        ]),
    ),
];

const CLASS: Fields = &[("driver", Text), ("parameters", Open), ("deletionPolicy", Text)];

const VOLUME_GROUP_SNAPSHOT: Fields = &[
    (
        "spec",
        Object(&[
            ("source", Object(&[("selector", SELECTOR), ("volumeGroupSnapshotContentName", Text)])),
            ("volumeGroupSnapshotClassName", Text),
        ]),
    ),
    (
        "status",
        Object(&[
            ("boundVolumeGroupSnapshotContentName", Text),
            ("creationTime", Time),
            ("readyToUse", Boolean),
            ("error", ERROR),
        ]),
    ),
];

const VOLUME_GROUP_SNAPSHOT_CONTENT: Fields = &[
    (
        "spec",
        Object(&[
            ("volumeGroupSnapshotRef", REFERENCE),
            ("deletionPolicy", Text),
            ("driver", Text),
            ("volumeGroupSnapshotClassName", Text),
            (
                "source",
                Object(&[
                    ("volumeHandles", Texts),
                    (
                        "groupSnapshotHandles",
                        Object(&[("volumeGroupSnapshotHandle", Text), ("volumeSnapshotHandles", Texts)]),
                    ),
                ]),
            ),
        ]),
    ),
    (
        "status",
        Object(&[
            ("volumeGroupSnapshotHandle", Text),
            ("creationTime", Time),
            ("readyToUse", Boolean),
            ("error", ERROR),
            // Of v1beta1 alone; the other list is of the newer versions.
            ("volumeSnapshotHandlePairList", Objects(&[("volumeHandle", Text), ("snapshotHandle", Text)])),
            (
                "volumeSnapshotInfoList",
                Objects(&[
                    ("volumeHandle", Text),
                    ("snapshotHandle", Text),
                    ("creationTime", Integer),
                    ("readyToUse", Boolean),
                    ("restoreSize", Integer),
                ]),
            ),
        ]),
    ),
];

const SELECTOR: Type = Object(&[
    ("matchLabels", Open),
    ("matchExpressions", Objects(&[("key", Text), ("operator", Text), ("values", Texts)])),
]);

const BACKUP: Fields = &[
    (
        "spec",
        Object(&[
            ("metadata", Open),
            ("includedNamespaces", Texts),
            ("excludedNamespaces", Texts),
            ("includedResources", Texts),
            ("excludedResources", Texts),
            ("includedClusterScopedResources", Texts),
            ("excludedClusterScopedResources", Texts),
            ("includedNamespaceScopedResources", Texts),
            ("excludedNamespaceScopedResources", Texts),
            ("labelSelector", SELECTOR),
            ("orLabelSelectors", Open),
            ("snapshotVolumes", Boolean),
            ("ttl", Text),
            ("includeClusterResources", Boolean),
            ("hooks", Open),
            ("storageLocation", Text),
            ("volumeSnapshotLocations", Texts),
            ("defaultVolumesToRestic", Boolean),
            ("defaultVolumesToFsBackup", Boolean),
            ("orderedResources", Open),
            ("csiSnapshotTimeout", Text),
            ("itemOperationTimeout", Text),
            ("resourcePolicy", Open),
            ("snapshotMoveData", Boolean),
            ("datamover", Text),
            ("uploaderConfig", Open),
            ("volumeGroupSnapshotLabelKey", Text),
        ]),
    ),
    (
        "status",
        Object(&[
            ("version", Integer),
            ("formatVersion", Text),
            ("expiration", Time),
            ("phase", Text),
            ("queuePosition", Integer),
            ("validationErrors", Texts),
            ("startTimestamp", Time),
            ("completionTimestamp", Time),
            ("volumeSnapshotsAttempted", Integer),
            ("volumeSnapshotsCompleted", Integer),
            ("failureReason", Text),
            ("warnings", Integer),
            ("errors", Integer),
            ("progress", Object(&[("totalItems", Integer), ("itemsBackedUp", Integer)])),
            ("csiVolumeSnapshotsAttempted", Integer),
            ("csiVolumeSnapshotsCompleted", Integer),
            ("backupItemOperationsAttempted", Integer),
            ("backupItemOperationsCompleted", Integer),
            ("backupItemOperationsFailed", Integer),
            ("hookStatus", Object(&[("hooksAttempted", Integer), ("hooksFailed", Integer)])),
        ]),
    ),
];

fn fields_of(plural: &str) -> Option<Fields> {
    Some(match plural {
        "volumesnapshots" => VOLUME_SNAPSHOT,
        "volumesnapshotcontents" => VOLUME_SNAPSHOT_CONTENT,
        "volumesnapshotclasses" | "volumegroupsnapshotclasses" => CLASS,
        "volumegroupsnapshots" => VOLUME_GROUP_SNAPSHOT,
        "volumegroupsnapshotcontents" => VOLUME_GROUP_SNAPSHOT_CONTENT,
        "backups" => BACKUP,
        _ => return None,
    })
}

/// The fields of a kind as OpenAPI tells of them; none for a kind that keeps every field.
pub(super) fn open_api(resource: &Resource) -> Option<Map<String, Value>> {
    fields_of(resource.plural).map(properties)
}

fn properties(fields: Fields) -> Map<String, Value> {
    fields.iter().map(|(name, kind)| ((*name).to_owned(), open_api_type(*kind))).collect()
}

fn open_api_type(kind: Type) -> Value {
    match kind {
        Text => json!({"type": "string"}),
        Boolean => json!({"type": "boolean"}),
        Integer => json!({"type": "integer", "format": "int64"}),
        Time => json!({"type": "string", "format": "date-time"}),
        Open => json!({"x-kubernetes-preserve-unknown-fields": true}),
        Object(below) => json!({"type": "object", "properties": properties(below)}),
        Objects(below) => {
            json!({"type": "array", "items": {"type": "object", "properties": properties(below)}})
        }
        Texts => json!({"type": "array", "items": {"type": "string"}}),
    }
}

/// Fields that every custom resource has.
const ALWAYS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes what the schema does not know.
pub(super) fn prune(resource: &Resource, object: &mut Value) {
    if let (Some(fields), Some(map)) = (fields_of(resource.plural), object.as_object_mut()) {
        prune_map(map, fields, &ALWAYS);
    }
}

/// The paths of what the schema does not know.
pub(super) fn unknown(resource: &Resource, object: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let (Some(fields), Some(map)) = (fields_of(resource.plural), object.as_object()) {
        unknown_in(map, fields, &ALWAYS, &Path::Root, &mut unknown);
    }
    unknown
}

/// Where something is, written out only when it has to be told.
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, at) => write!(f, "{parent}[{at}]"),
        }
    }
}

/// Checks the types of what the schema knows.
///
/// # Errors
/// 422 with one cause per field of the wrong type.
pub(super) fn check(resource: &Resource, object: &Value) -> Result<(), Status> {
    let mut causes = Vec::new();
    if let Some(fields) = fields_of(resource.plural) {
        check_fields(object, fields, &Path::Root, &mut causes);
    }
    refuse(resource, meta::get(object, "name"), causes)
}

fn is_known(name: &str, fields: Fields, always: &[&str]) -> bool {
    always.contains(&name) || fields.iter().any(|(field, _)| *field == name)
}

fn prune_map(map: &mut Map<String, Value>, fields: Fields, always: &[&str]) {
    map.retain(|name, _| is_known(name, fields, always));
    for (name, kind) in fields {
        match (kind, map.get_mut(*name)) {
            (Object(below), Some(Value::Object(map))) => prune_map(map, below, &[]),
            (Objects(below), Some(Value::Array(items))) => {
                items.iter_mut().filter_map(Value::as_object_mut).for_each(|map| prune_map(map, below, &[]));
            }
            _ => {}
        }
    }
}

fn unknown_in(
    map: &Map<String, Value>,
    fields: Fields,
    always: &[&str],
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) {
    let here = map.keys().filter(|name| !is_known(name, fields, always));
    unknown.extend(here.map(|name| Path::Field(path, name).to_string()));
    for (name, kind) in fields {
        let path = Path::Field(path, name);
        match (kind, map.get(*name)) {
            (Object(below), Some(Value::Object(map))) => unknown_in(map, below, &[], &path, unknown),
            (Objects(below), Some(Value::Array(items))) => {
                for (at, map) in
                    items.iter().enumerate().filter_map(|(at, item)| Some((at, item.as_object()?)))
                {
                    unknown_in(map, below, &[], &Path::Item(&path, at), unknown);
                }
            }
            _ => {}
        }
    }
}

fn check_fields(object: &Value, fields: Fields, path: &Path<'_>, causes: &mut Vec<Cause>) {
    for (name, kind) in fields {
        let value = &object[*name];
        if !value.is_null() {
            check_value(value, *kind, &Path::Field(path, name), causes);
        }
    }
}

fn check_value(value: &Value, kind: Type, path: &Path<'_>, causes: &mut Vec<Cause>) {
    let expected = match kind {
        Open => return,
        Text if value.is_string() => return,
        Boolean if value.is_boolean() => return,
        Integer if value.is_i64() || value.is_u64() => return,
        Time if value.as_str().is_some_and(is_time) => return,
        Object(below) if value.is_object() => return check_fields(value, below, path, causes),
        Objects(below) if value.is_array() => {
            let items = value.as_array().into_iter().flatten().enumerate();
            return items
                .for_each(|(at, item)| check_value(item, Object(below), &Path::Item(path, at), causes));
        }
        Texts if value.is_array() => {
            let items = value.as_array().into_iter().flatten().enumerate();
            return items.for_each(|(at, item)| check_value(item, Text, &Path::Item(path, at), causes));
        }
        Text => "string",
        Boolean => "boolean",
        Integer => "integer",
        Time => "date-time",
        Object(_) => "object",
        Objects(_) | Texts => "array",
    };
    let shown = format!("{:?}", type_name(value));
    let message = format!("{path} in body must be of type {expected}: {shown}");
    let mut cause = Cause::invalid(&path.to_string(), &shown, &message);
    "FieldValueTypeInvalid".clone_into(&mut cause.reason);
    causes.push(cause);
}

fn is_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sim::resources::by_plural;

    #[test]
    fn unknown_fields_are_pruned_at_every_depth() {
        let resource = by_plural("volumegroupsnapshotcontents").expect("served");
        let mut object = json!({"metadata": {"name": "a", "any": 1}, "spec": {"driver": "d", "Driver": "d"},
            "status": {"volumeSnapshotInfoList": [{"volumeHandle": "v", "volumeId": "v"}]}, "extra": {}});
        assert_eq!(
            unknown(resource, &object),
            ["extra", "spec.Driver", "status.volumeSnapshotInfoList[0].volumeId"]
        );
        prune(resource, &mut object);
        assert_eq!(
            object,
            json!({"metadata": {"name": "a", "any": 1}, "spec": {"driver": "d"},
                "status": {"volumeSnapshotInfoList": [{"volumeHandle": "v"}]}})
        );
    }

    #[test]
    fn the_creation_time_of_a_content_is_a_number_and_of_a_snapshot_a_time() {
        let message = |plural: &str, time: Value| {
            let object = json!({"metadata": {"name": "a"}, "status": {"creationTime": time}});
            let failed = check(by_plural(plural).expect("served"), &object).err();
            failed.map(|status| status.details.causes[0].message.clone())
        };
        assert_eq!(message("volumesnapshotcontents", json!(1_795_000_000_000_000_000_i64)), None);
        assert_eq!(message("volumesnapshots", json!("2026-11-20T18:03:04Z")), None);
        assert_eq!(
            message("volumesnapshotcontents", json!("2026-11-20T18:03:04Z")).as_deref(),
            Some(
                "Invalid value: \"string\": status.creationTime in body must be of type integer: \"string\""
            )
        );
        assert!(message("volumesnapshots", json!("yesterday")).is_some());
    }
}
