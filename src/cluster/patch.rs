//! Builds JSON patches (RFC 6902) that test what they replace.
//!
//! Two facts of the API server determine them (apimachinery uses evanphx/json-patch): a `test` for null
//! passes where the last part of the path is missing, and fails where an earlier part is. A label of an
//! object without any labels is therefore tested and written through the whole map.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::machine::group::effect::Entry;

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

/// Whether the object has all of these entries already.
pub fn holds(entry: &Entry) -> bool {
    let empty = BTreeMap::new();
    let seen = entry.seen.as_ref().unwrap_or(&empty);
    entry.write.iter().all(|(key, value)| seen.get(key) == Some(value))
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
