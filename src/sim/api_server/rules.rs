//! The validation rules of the snapshot and group snapshot kinds, with their messages.
//!
//! Source: the CRDs of external-snapshotter 8.6 (`client/config/crd`). Their CEL rules are data here. A
//! transition rule on a field does not apply if the field is absent before or after; `required once set`
//! rules are one level higher for that reason.

use serde_json::Value;

use crate::api_server::meta;
use crate::api_server::status::{Cause, Status};
use crate::api_server::validate::refuse;
use crate::resources::Resource;

/// One rule; paths are JSON pointers.
enum Rule {
    /// The field must be present.
    Required(&'static str),
    /// One of a fixed set of strings.
    OneOf(&'static str, &'static [&'static str]),
    /// The field may not change between two present values.
    Immutable(&'static str, &'static str),
    /// A field of the parent may not be removed once it is set.
    RequiredOnceSet(&'static str, &'static str, &'static str),
    /// A field of the parent may neither change nor be removed once it is set.
    ImmutableOnceSet(&'static str, &'static str, &'static str),
    /// The parent has exactly one of two fields.
    ExactlyOne(&'static str, [&'static str; 2], &'static str),
    /// The parent has both fields.
    Both(&'static str, [&'static str; 2], &'static str),
    /// The field is not the empty string.
    NotEmpty(&'static str, &'static str),
}

use crate::pointer::At;
use Rule::{Both, ExactlyOne, Immutable, ImmutableOnceSet, NotEmpty, OneOf, Required, RequiredOnceSet};

const POLICIES: &[&str] = &["Delete", "Retain"];

const VOLUME_SNAPSHOT: &[Rule] = &[
    Required("/spec"),
    Required("/spec/source"),
    RequiredOnceSet(
        "/spec/source",
        "persistentVolumeClaimName",
        "persistentVolumeClaimName is required once set",
    ),
    RequiredOnceSet(
        "/spec/source",
        "volumeSnapshotContentName",
        "volumeSnapshotContentName is required once set",
    ),
    ExactlyOne(
        "/spec/source",
        ["volumeSnapshotContentName", "persistentVolumeClaimName"],
        "exactly one of volumeSnapshotContentName and persistentVolumeClaimName must be set",
    ),
    Immutable("/spec/source/persistentVolumeClaimName", "persistentVolumeClaimName is immutable"),
    Immutable("/spec/source/volumeSnapshotContentName", "volumeSnapshotContentName is immutable"),
    NotEmpty(
        "/spec/volumeSnapshotClassName",
        "volumeSnapshotClassName must not be the empty string when set",
    ),
];

const VOLUME_SNAPSHOT_CONTENT: &[Rule] = &[
    Required("/spec"),
    Required("/spec/deletionPolicy"),
    Required("/spec/driver"),
    Required("/spec/source"),
    Required("/spec/volumeSnapshotRef"),
    OneOf("/spec/deletionPolicy", POLICIES),
    RequiredOnceSet("/spec", "sourceVolumeMode", "sourceVolumeMode is required once set"),
    Immutable("/spec/sourceVolumeMode", "sourceVolumeMode is immutable"),
    RequiredOnceSet("/spec/source", "volumeHandle", "volumeHandle is required once set"),
    RequiredOnceSet("/spec/source", "snapshotHandle", "snapshotHandle is required once set"),
    ExactlyOne(
        "/spec/source",
        ["volumeHandle", "snapshotHandle"],
        "exactly one of volumeHandle and snapshotHandle must be set",
    ),
    Immutable("/spec/source/volumeHandle", "volumeHandle is immutable"),
    Immutable("/spec/source/snapshotHandle", "snapshotHandle is immutable"),
    Both(
        "/spec/volumeSnapshotRef",
        ["name", "namespace"],
        "both spec.volumeSnapshotRef.name and spec.volumeSnapshotRef.namespace must be set",
    ),
];

const VOLUME_SNAPSHOT_CLASS: &[Rule] =
    &[Required("/driver"), Required("/deletionPolicy"), OneOf("/deletionPolicy", POLICIES)];

const VOLUME_GROUP_SNAPSHOT: &[Rule] = &[
    Required("/spec"),
    Required("/spec/source"),
    RequiredOnceSet("/spec/source", "selector", "selector is required once set"),
    RequiredOnceSet(
        "/spec/source",
        "volumeGroupSnapshotContentName",
        "volumeGroupSnapshotContentName is required once set",
    ),
    ExactlyOne(
        "/spec/source",
        ["selector", "volumeGroupSnapshotContentName"],
        "exactly one of selector and volumeGroupSnapshotContentName must be set",
    ),
    Immutable("/spec/source/selector", "selector is immutable"),
    Immutable("/spec/source/volumeGroupSnapshotContentName", "volumeGroupSnapshotContentName is immutable"),
    NotEmpty(
        "/spec/volumeGroupSnapshotClassName",
        "volumeGroupSnapshotClassName must not be the empty string when set",
    ),
    Immutable(
        "/status/boundVolumeGroupSnapshotContentName",
        "boundVolumeGroupSnapshotContentName is immutable once set",
    ),
];

const VOLUME_GROUP_SNAPSHOT_CONTENT: &[Rule] = &[
    Required("/spec"),
    Required("/spec/deletionPolicy"),
    Required("/spec/driver"),
    Required("/spec/source"),
    Required("/spec/volumeGroupSnapshotRef"),
    OneOf("/spec/deletionPolicy", POLICIES),
    Both(
        "/spec/volumeGroupSnapshotRef",
        ["name", "namespace"],
        "both volumeGroupSnapshotRef.name and volumeGroupSnapshotRef.namespace must be set",
    ),
    ImmutableOnceSet(
        "/spec/volumeGroupSnapshotRef",
        "name",
        "volumeGroupSnapshotRef.name and volumeGroupSnapshotRef.namespace are immutable",
    ),
    ImmutableOnceSet(
        "/spec/volumeGroupSnapshotRef",
        "namespace",
        "volumeGroupSnapshotRef.name and volumeGroupSnapshotRef.namespace are immutable",
    ),
    ImmutableOnceSet(
        "/spec/volumeGroupSnapshotRef",
        "uid",
        "volumeGroupSnapshotRef.uid is immutable once set",
    ),
    Immutable("/spec/driver", "driver is immutable once set"),
    Immutable("/spec/volumeGroupSnapshotClassName", "volumeGroupSnapshotClassName is immutable once set"),
    RequiredOnceSet("/spec/source", "volumeHandles", "volumeHandles is required once set"),
    RequiredOnceSet("/spec/source", "groupSnapshotHandles", "groupSnapshotHandles is required once set"),
    ExactlyOne(
        "/spec/source",
        ["volumeHandles", "groupSnapshotHandles"],
        "exactly one of volumeHandles and groupSnapshotHandles must be set",
    ),
    Immutable("/spec/source/volumeHandles", "volumeHandles is immutable"),
    Immutable("/spec/source/groupSnapshotHandles", "groupSnapshotHandles is immutable"),
    Immutable("/status/volumeGroupSnapshotHandle", "volumeGroupSnapshotHandle is immutable once set"),
];

const VOLUME_GROUP_SNAPSHOT_CLASS: &[Rule] = &[
    Required("/driver"),
    Required("/deletionPolicy"),
    OneOf("/deletionPolicy", POLICIES),
    Immutable("/driver", "driver is immutable once set"),
    Immutable("/parameters", "parameters are immutable once set"),
    Immutable("/deletionPolicy", "deletionPolicy is immutable once set"),
];

fn rules_of(plural: &str) -> &'static [Rule] {
    match plural {
        "volumesnapshots" => VOLUME_SNAPSHOT,
        "volumesnapshotcontents" => VOLUME_SNAPSHOT_CONTENT,
        "volumesnapshotclasses" => VOLUME_SNAPSHOT_CLASS,
        "volumegroupsnapshots" => VOLUME_GROUP_SNAPSHOT,
        "volumegroupsnapshotcontents" => VOLUME_GROUP_SNAPSHOT_CONTENT,
        "volumegroupsnapshotclasses" => VOLUME_GROUP_SNAPSHOT_CLASS,
        _ => &[],
    }
}

/// Checks a new object, or a changed object against its previous state.
///
/// # Errors
/// 422 with one cause per violated rule.
pub(super) fn check(resource: &Resource, old: Option<&Value>, new: &Value) -> Result<(), Status> {
    if old.is_some_and(|old| is_unchanged(old, new)) {
        return Ok(());
    }
    let mut causes: Vec<Cause> =
        rules_of(resource.plural).iter().filter_map(|rule| rule.check(old, new)).collect();
    causes.dedup();
    refuse(resource, meta::get(new, "name"), causes)
}

/// Returns whether only the metadata changed, which have no rules here.
fn is_unchanged(old: &Value, new: &Value) -> bool {
    let (old, new) = (old.as_object().into_iter().flatten(), new.as_object().into_iter().flatten());
    old.filter(|(field, _)| *field != "metadata").eq(new.filter(|(field, _)| *field != "metadata"))
}

impl Rule {
    fn check(&self, old: Option<&Value>, new: &Value) -> Option<Cause> {
        let before = |path: &str| old.and_then(|old| old.at(path));
        match *self {
            Required(path) => required(new, path),
            OneOf(path, allowed) => {
                let value = new.at(path)?.as_str().unwrap_or_default();
                (!allowed.contains(&value)).then(|| Cause::unsupported(&field(path), value, allowed))
            }
            Immutable(path, why) => {
                let (was, is) = (before(path)?, new.at(path)?);
                (was != is).then(|| violation(path, is, why))
            }
            RequiredOnceSet(parent, name, why) => {
                before(parent)?.get(name)?;
                let is = new.at(parent)?;
                is.get(name).is_none().then(|| violation(parent, is, why))
            }
            ImmutableOnceSet(parent, name, why) => {
                let was = before(parent)?.get(name)?;
                let is = new.at(parent)?;
                (is.get(name) != Some(was)).then(|| violation(parent, is, why))
            }
            ExactlyOne(parent, names, why) => {
                let is = new.at(parent)?;
                let count = names.iter().filter(|name| is.get(**name).is_some()).count();
                (count != 1).then(|| violation(parent, is, why))
            }
            Both(parent, names, why) => {
                let is = new.at(parent)?;
                let all = names.iter().all(|name| is.get(*name).is_some());
                (!all).then(|| violation(parent, is, why))
            }
            NotEmpty(path, why) => {
                let is = new.at(path)?;
                (is == "").then(|| violation(path, is, why))
            }
        }
    }
}

/// Reports a missing field only if its parent exists, so that one omission gives one cause.
fn required(new: &Value, path: &str) -> Option<Cause> {
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    (new.at(parent).is_some() && new.at(path).is_none()).then(|| Cause::required(&field(path)))
}

fn violation(path: &str, value: &Value, why: &str) -> Cause {
    let kind = match value {
        Value::Object(_) => "\"object\"",
        Value::Array(_) => "\"array\"",
        Value::Bool(_) => "\"boolean\"",
        Value::Number(_) => "\"integer\"",
        Value::String(_) | Value::Null => "\"string\"",
    };
    Cause::invalid(&field(path), kind, why)
}

fn field(path: &str) -> String {
    path.trim_start_matches('/').replace('/', ".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::by_plural;

    fn violations(plural: &str, old: Option<Value>, new: Value) -> Vec<String> {
        let resource = by_plural(plural).expect("served");
        check(resource, old.as_ref(), &new)
            .err()
            .map(|status| status.details.causes.into_iter().map(|cause| cause.message).collect())
            .unwrap_or_default()
    }

    fn content(change: impl Fn(&mut Value)) -> Value {
        let mut content = json!({"metadata": {"name": "c"}, "spec": {
            "deletionPolicy": "Delete", "driver": "d", "source": {"volumeHandles": ["a", "b"]},
            "volumeGroupSnapshotRef": {"name": "g", "namespace": "n"}}});
        change(&mut content);
        content
    }

    #[test]
    fn selector_is_required_and_immutable() {
        let with =
            |selector: Value| json!({"metadata": {"name": "g"}, "spec": {"source": {"selector": selector}}});
        let none = json!({"metadata": {"name": "g"}, "spec": {"source": {}}});
        assert_eq!(violations("volumegroupsnapshots", None, with(json!({}))), [""; 0]);
        assert_eq!(
            violations("volumegroupsnapshots", None, none.clone()),
            [
                "Invalid value: \"object\": exactly one of selector and volumeGroupSnapshotContentName must be set"
            ]
        );
        let changed =
            violations("volumegroupsnapshots", Some(with(json!({}))), with(json!({"matchLabels": {}})));
        assert_eq!(changed, ["Invalid value: \"object\": selector is immutable"]);
        assert_eq!(violations("volumegroupsnapshots", Some(with(json!({}))), none).len(), 2);
    }

    #[test]
    fn content_policy_is_mutable_but_handles_are_not() {
        let change = |edit: fn(&mut Value)| {
            violations("volumegroupsnapshotcontents", Some(content(|_| ())), content(edit))
        };
        assert_eq!(change(|content| content["spec"]["deletionPolicy"] = json!("Retain")), [""; 0]);
        assert_eq!(
            change(|content| content["spec"]["deletionPolicy"] = json!("Keep")),
            ["Unsupported value: \"Keep\": supported values: \"Delete\", \"Retain\""]
        );
        assert_eq!(
            change(|content| content["spec"]["source"]["volumeHandles"] = json!(["a"])),
            ["Invalid value: \"array\": volumeHandles is immutable"]
        );
        assert_eq!(change(|content| content["spec"]["volumeGroupSnapshotRef"]["uid"] = json!("u")), [""; 0]);
    }

    #[test]
    fn transition_rule_ignores_removal_of_field() {
        let with = |status: Value| json!({"metadata": {"name": "g"}, "spec": {"source": {"selector": {}}}, "status": status});
        let bound = with(json!({"boundVolumeGroupSnapshotContentName": "a"}));
        assert_eq!(violations("volumegroupsnapshots", Some(bound.clone()), with(json!({}))), [""; 0]);
        let other = with(json!({"boundVolumeGroupSnapshotContentName": "b"}));
        assert_eq!(violations("volumegroupsnapshots", Some(bound), other).len(), 1);
    }

    #[test]
    fn snapshot_content_reference_stays_mutable() {
        let with = |name: &str| {
            json!({"metadata": {"name": "c"}, "spec": {"deletionPolicy": "Delete", "driver": "d",
            "source": {"snapshotHandle": "s"}, "volumeSnapshotRef": {"name": name, "namespace": "n"}}})
        };
        assert_eq!(violations("volumesnapshotcontents", Some(with("a")), with("b")), [""; 0]);
    }
}
