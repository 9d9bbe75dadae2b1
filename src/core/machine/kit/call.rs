//! Defines API calls as data.
//!
//! A call names its object (kind, namespace, name, uid) and what it does to it. Every patch tests the uid and
//! the values that it replaces, so that a call that arrives late, twice, or from an overtaken daemon fails
//! without damage. Two facts of the API server determine the patches (apimachinery uses evanphx/json-patch): a
//! `test` for null passes where the last part of the path is missing, and fails where an earlier part is. A
//! label of an object without any labels is therefore tested and written through the whole map.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::ids::ObjectId;
use crate::domain::observed::Entries;
use crate::domain::plan::RunPlan;
use crate::domain::problem::About;

/// The kinds of objects that effects change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    VolumeGroupSnapshot,
    VolumeGroupSnapshotContent,
    VolumeSnapshot,
    VolumeSnapshotContent,
    ConfigMap,
}

impl Kind {
    pub const ALL: &'static [Self] = &[
        Self::VolumeGroupSnapshot,
        Self::VolumeGroupSnapshotContent,
        Self::VolumeSnapshot,
        Self::VolumeSnapshotContent,
        Self::ConfigMap,
    ];

    /// The kind, as in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::VolumeGroupSnapshot => "VolumeGroupSnapshot",
            Self::VolumeGroupSnapshotContent => "VolumeGroupSnapshotContent",
            Self::VolumeSnapshot => "VolumeSnapshot",
            Self::VolumeSnapshotContent => "VolumeSnapshotContent",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// Whether it belongs to `groupsnapshot.storage.k8s.io`, which is served in several versions.
    pub fn is_of_group_api(self) -> bool {
        matches!(self, Self::VolumeGroupSnapshot | Self::VolumeGroupSnapshotContent)
    }
}

/// One call that changes an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace; empty for an object of the cluster.
    pub namespace: String,
    pub name: String,
    pub verb: Verb,
}

/// The change to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// POST of this object; `apiVersion`, `kind`, name and namespace are added when it is sent.
    Create(Value),
    /// JSON patch.
    Patch(Vec<Value>),
    /// JSON patch of the status subresource.
    PatchStatus(Vec<Value>),
    /// Background delete of exactly this object.
    Delete {
        uid: String,
        /// Its resourceVersion, if the object must be unchanged.
        resource_version: Option<String>,
    },
}

impl Verb {
    /// The verb, for users.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Patch(_) => "patch",
            Self::PatchStatus(_) => "patch status of",
            Self::Delete { .. } => "delete",
        }
    }
}

impl Call {
    pub fn create(kind: Kind, namespace: &str, name: &str, object: Value) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned(), verb: Verb::Create(object) }
    }

    pub fn patch(kind: Kind, id: &ObjectId, patch: Patch) -> Self {
        Self::on(kind, id, Verb::Patch(patch.into_operations()))
    }

    pub fn patch_status(kind: Kind, id: &ObjectId, patch: Patch) -> Self {
        Self::on(kind, id, Verb::PatchStatus(patch.into_operations()))
    }

    pub fn delete(kind: Kind, id: &ObjectId, resource_version: Option<&String>) -> Self {
        let verb = Verb::Delete { uid: id.uid.0.clone(), resource_version: resource_version.cloned() };
        Self::on(kind, id, verb)
    }

    fn on(kind: Kind, id: &ObjectId, verb: Verb) -> Self {
        Self { kind, namespace: id.namespace.clone(), name: id.name.clone(), verb }
    }
}

/// The calls of one effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Calls {
    One(Call),
    /// The second call follows once the first is done.
    InOrder(Call, Call),
    /// The second call follows only if the API server refused the first (422). The object has one of two
    /// shapes and each call tests for one of them, so at most one of them has an effect.
    Either(Call, Call),
    /// The run with this plan begins: its plan becomes the first record of its stream. The engine performs it.
    StartRun(RunPlan),
}

impl std::fmt::Display for Calls {
    /// Verb and object, for users.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Call { kind, namespace, name, verb } = match self {
            Self::One(call) | Self::InOrder(_, call) | Self::Either(call, _) => call,
            Self::StartRun(plan) => return write!(f, "start {plan}"),
        };
        write!(f, "{} {}", verb.name(), About::new(kind.name(), namespace, name))
    }
}

/// The intent of one step. It is recorded durably before its effects. The journal turns it into the token
/// that performing an effect requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The calls of each missing effect.
    pub effects: Vec<Calls>,
}

/// Entries to write into the labels or annotations of an object, and its present entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// All entries as observed; `None` if the object has no such map.
    pub seen: Entries,
    /// Entries to write.
    pub write: BTreeMap<String, String>,
}

impl Entry {
    /// The wanted entries that are missing.
    pub fn missing(seen: &Entries, wanted: BTreeMap<String, String>) -> Self {
        let write = wanted
            .into_iter()
            .filter(|(key, value)| seen.as_ref().and_then(|seen| seen.get(key)) != Some(value))
            .collect();
        Self { seen: seen.clone(), write }
    }

    /// Whether the object has all of these entries already.
    pub fn holds(&self) -> bool {
        let empty = BTreeMap::new();
        let seen = self.seen.as_ref().unwrap_or(&empty);
        self.write.iter().all(|(key, value)| seen.get(key) == Some(value))
    }
}

/// A patch under construction.
#[derive(Debug, Default)]
pub struct Patch(Vec<Value>);

impl Patch {
    /// A patch of the object with this uid and no other.
    pub fn of(uid: &str) -> Self {
        Self::default().test("/metadata/uid", uid)
    }

    /// Fails unless the value at `path` is this one; null represents a missing value.
    pub fn test(mut self, path: &str, value: impl Into<Value>) -> Self {
        self.0.push(json!({ "op": "test", "path": path, "value": value.into() }));
        self
    }

    /// Writes a value, whether there is one or not.
    pub fn add(mut self, path: &str, value: impl Into<Value>) -> Self {
        self.0.push(json!({ "op": "add", "path": path, "value": value.into() }));
        self
    }

    /// Removes an existing value.
    pub fn remove(mut self, path: &str) -> Self {
        self.0.push(json!({ "op": "remove", "path": path }));
        self
    }

    /// Tests the old value and changes it to the new one; null represents a missing value.
    pub fn change(self, path: &str, old: impl Into<Value>, new: impl Into<Value>) -> Self {
        let (old, new) = (old.into(), new.into());
        let tested = self.test(path, old.clone());
        match () {
            () if old == new => tested,
            () if new.is_null() => tested.remove(path),
            () => tested.add(path, new),
        }
    }

    /// Writes entries into a map of strings (`/metadata/labels`, `/metadata/annotations`) and tests what they
    /// replace.
    pub fn entries(self, path: &str, entry: &Entry) -> Self {
        if entry.write.is_empty() {
            return self;
        }
        match entry.seen.as_ref().filter(|seen| !seen.is_empty()) {
            None => self.test(path, Value::Null).add(path, json!(entry.write)),
            Some(seen) => entry.write.iter().fold(self, |patch, (key, value)| {
                patch.change(&format!("{path}/{}", escape(key)), json!(seen.get(key)), value.as_str())
            }),
        }
    }

    pub fn into_operations(self) -> Vec<Value> {
        self.0
    }
}

/// A key as one part of a JSON pointer (RFC 6901).
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(seen: Option<&[(&str, &str)]>, write: &[(&str, &str)]) -> Vec<Value> {
        let map =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let entry = Entry { seen: seen.map(map), write: map(write) };
        Patch::default().entries("/metadata/labels", &entry).into_operations()
    }

    #[test]
    fn tests_and_writes_missing_map_as_whole() {
        let expected = [
            json!({"op": "test", "path": "/metadata/labels", "value": null}),
            json!({"op": "add", "path": "/metadata/labels", "value": {"a/b": "1"}}),
        ];
        assert_eq!(entries(None, &[("a/b", "1")]), expected);
        assert_eq!(entries(Some(&[]), &[("a/b", "1")]), expected, "an empty map is not stored");
    }

    #[test]
    fn tests_entries_of_existing_map_one_by_one() {
        assert_eq!(
            entries(
                Some(&[("a/b", "0"), ("same", "s"), ("else", "x")]),
                &[("a/b", "1"), ("new", "n"), ("same", "s")]
            ),
            [
                json!({"op": "test", "path": "/metadata/labels/a~1b", "value": "0"}),
                json!({"op": "add", "path": "/metadata/labels/a~1b", "value": "1"}),
                json!({"op": "test", "path": "/metadata/labels/new", "value": null}),
                json!({"op": "add", "path": "/metadata/labels/new", "value": "n"}),
                json!({"op": "test", "path": "/metadata/labels/same", "value": "s"}),
            ]
        );
        assert!(entries(None, &[]).is_empty());
    }

    #[test]
    fn clearing_absent_entry_only_tests() {
        let patch = Patch::default().change("/status/x", Value::Null, Value::Null).into_operations();
        assert_eq!(patch, [json!({"op": "test", "path": "/status/x", "value": null})]);
    }
}
