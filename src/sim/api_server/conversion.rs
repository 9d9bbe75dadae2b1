//! Converts objects between the stored and the requested version.
//!
//! The versions of a custom resource differ in `apiVersion` only (conversion strategy None), but a version
//! drops the fields that its schema lacks. Events are stored in the format of the core group.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::api_server::meta;
use crate::resources::Resource;

/// Fields of an Event: in the core group, in events.k8s.io.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Converts the stored object into the version. It is copied only if it differs.
pub(super) fn to_version<'a>(resource: &Resource, version: &str, stored: &'a Value) -> Cow<'a, Value> {
    let api_version = resource.api_version(version);
    let has_hidden_list =
        hidden_list(resource, version).is_some_and(|list| !stored["status"][list].is_null());
    if stored["apiVersion"] == api_version.as_str() && resource.group != "events.k8s.io" && !has_hidden_list {
        return Cow::Borrowed(stored);
    }
    let mut object = stored.clone();
    meta::set_top(&mut object, "apiVersion", Some(&json!(api_version)));
    if resource.group == "events.k8s.io" {
        rename_fields(&mut object, EVENT_FIELDS.iter().copied());
    }
    if let Some(list) = hidden_list(resource, version)
        && let Some(status) = object["status"].as_object_mut()
    {
        status.remove(list);
    }
    Cow::Owned(object)
}

/// The list in the status of a VolumeGroupSnapshotContent that the schema of the version lacks.
pub(super) fn hidden_list(resource: &Resource, version: &str) -> Option<&'static str> {
    match (resource.plural, version) {
        ("volumegroupsnapshotcontents", "v1beta1") => Some("volumeSnapshotInfoList"),
        ("volumegroupsnapshotcontents", _) => Some("volumeSnapshotHandlePairList"),
        _ => None,
    }
}

/// Converts an object of a request into the stored format. The caller sets its apiVersion.
pub(super) fn to_stored(resource: &Resource, mut object: Value) -> Value {
    if resource.group == "events.k8s.io" {
        rename_fields(&mut object, EVENT_FIELDS.iter().map(|(core, newer)| (*newer, *core)));
    }
    object
}

/// The object as PartialObjectMetadata.
pub(super) fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn rename_fields(object: &mut Value, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    if let Some(map) = object.as_object_mut() {
        for (from, to) in pairs {
            if let Some(value) = map.remove(from) {
                map.insert(to.to_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{RESOURCES, by_plural};

    #[test]
    fn each_version_has_its_own_member_list() {
        let contents = by_plural("volumegroupsnapshotcontents").expect("served");
        let stored = json!({"apiVersion": "x/v1", "status": {"readyToUse": true, "volumeSnapshotInfoList": [],
                "volumeSnapshotHandlePairList": []}});
        let old = to_version(contents, "v1beta1", &stored);
        assert_eq!(
            *old,
            json!({"apiVersion": "groupsnapshot.storage.k8s.io/v1beta1",
                "status": {"readyToUse": true, "volumeSnapshotHandlePairList": []}})
        );
        let new = &to_version(contents, "v1beta2", &stored)["status"];
        assert_eq!(*new, json!({"readyToUse": true, "volumeSnapshotInfoList": []}));
    }

    #[test]
    fn event_is_served_in_two_groups() {
        let newer = RESOURCES.iter().find(|one| one.group == "events.k8s.io").expect("served");
        let note = json!({"apiVersion": "events.k8s.io/v1", "regarding": {"name": "a"}, "note": "n"});
        let stored = to_stored(newer, note.clone());
        assert_eq!((&stored["involvedObject"]["name"], &stored["message"]), (&json!("a"), &json!("n")));
        assert_eq!(*to_version(newer, "v1", &stored), note);
    }
}
