//! The schemas of the custom resources: unknown fields are pruned, values of the wrong type are refused.
//!
//! | module | content |
//! |---|---|
//! | `structural` | a structural schema, read from a CustomResourceDefinition, with defaults and pruning |
//! | `check` | the validation of a value |
//! | `tables` | the fields of the snapshot kinds |
//!
//! GroupSnapshot and Backup are validated against the shipped CRDs, the files of `deploy/`. A field with a
//! wrong name in a client's types is therefore dropped here, as on a real cluster. Kinds without a schema
//! keep every field.

mod check;
mod structural;
mod tables;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use self::structural::Schema;
use crate::api_server::meta;
use crate::api_server::status::Status;
use crate::api_server::validate::refuse;
use crate::resources::Resource;

/// The shipped CRDs.
const SHIPPED_CRDS: [&str; 2] =
    [include_str!("../../../../deploy/crds.yaml"), include_str!("../../../../deploy/backup-crd.yaml")];

/// The shipped CRDs by plural name. A file that cannot be parsed has no entry; a test detects that.
static DEFINITIONS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let read = |text: &&str| serde_saphyr::from_multiple::<Value>(text).unwrap_or_default();
    let named = |crd: Value| Some((crd["spec"]["names"]["plural"].as_str()?.to_owned(), crd));
    SHIPPED_CRDS.iter().flat_map(read).filter_map(named).collect()
});

static SCHEMAS: LazyLock<BTreeMap<&'static str, Schema>> = LazyLock::new(|| {
    let plurals = crate::resources::RESOURCES.iter().map(|resource| resource.plural);
    let schema = |plural| match crd(plural) {
        Some(crd) => Some(Schema::read(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])),
        None => tables::of(plural),
    };
    plurals.filter_map(|plural| Some((plural, schema(plural)?))).collect()
});

/// The shipped CRD of a resource.
pub(super) fn crd(plural: &str) -> Option<&'static Value> {
    DEFINITIONS.get(plural)
}

fn of(resource: &Resource) -> Option<&'static Schema> {
    SCHEMAS.get(resource.plural).filter(|_| resource.custom)
}

/// The fields of a kind in OpenAPI; `None` for a kind that keeps every field.
pub(super) fn open_api(resource: &Resource) -> Option<Map<String, Value>> {
    if let Some(crd) = crd(resource.plural) {
        return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].as_object().cloned();
    }
    of(resource).map(Schema::open_api)
}

/// Fields that every custom resource has.
const ALWAYS: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// Fields of `metav1.ObjectMeta`.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Removes null members: typed fields keep no null. A schema that was read from a CRD decides for its kind.
pub(super) fn prune_nulls(resource: &Resource, object: &mut Value) {
    if crd(resource.plural).is_none() {
        return meta::prune_nulls(object);
    }
    if let Some(metadata) = object.get_mut("metadata") {
        meta::prune_nulls(metadata);
    }
}

/// Removes unknown fields, and sets the defaults of the schema.
pub(super) fn prune(resource: &Resource, object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.retain(|name, _| METADATA.contains(&name.as_str()));
    if let (Some(schema), Some(map)) = (of(resource), object.as_object_mut()) {
        schema.prune_root(map, &ALWAYS);
        schema.default(map);
    }
}

/// The paths of unknown fields.
pub(super) fn unknown(resource: &Resource, object: &Value) -> Vec<String> {
    let mut unknown: Vec<String> = object["metadata"]
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .filter(|name| !METADATA.contains(&name.as_str()))
        .map(|name| format!("metadata.{name}"))
        .collect();
    if let (Some(schema), Some(map)) = (of(resource), object.as_object()) {
        schema.unknown_root(map, &ALWAYS, &mut unknown);
    }
    unknown
}

/// Checks an object against the schema.
///
/// # Errors
/// 422 with one cause per violation.
pub(super) fn check(resource: &Resource, object: &Value) -> Result<(), Status> {
    let mut causes = Vec::new();
    if let Some(schema) = of(resource) {
        check::object(object, schema, &mut causes);
    }
    refuse(resource, meta::get(object, "name"), causes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::by_plural;

    fn served(plural: &str) -> &'static Resource {
        by_plural(plural).expect("served")
    }

    /// The violations in an object of that kind, in path order.
    fn causes(plural: &str, object: &Value) -> Vec<String> {
        let failed = check(served(plural), object).err();
        let causes = failed.into_iter().flat_map(|status| status.details.causes);
        causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    fn backup(spec: Value) -> Value {
        json!({"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {"name": "b"}, "spec": spec})
    }

    #[test]
    fn unknown_fields_are_pruned_at_every_depth() {
        let resource = served("volumegroupsnapshotcontents");
        let mut object = json!({"metadata": {"name": "a", "nickname": 1}, "spec": {"driver": "d", "Driver": "d"},
            "status": {"volumeSnapshotInfoList": [{"volumeHandle": "v", "volumeId": "v"}]}, "extra": {}});
        assert_eq!(
            unknown(resource, &object),
            ["metadata.nickname", "extra", "spec.Driver", "status.volumeSnapshotInfoList[0].volumeId"]
        );
        prune(resource, &mut object);
        assert_eq!(
            object,
            json!({"metadata": {"name": "a"}, "spec": {"driver": "d"},
                "status": {"volumeSnapshotInfoList": [{"volumeHandle": "v"}]}})
        );
    }

    #[test]
    fn creation_time_is_number_in_content_only() {
        let message = |plural: &str, time: Value| {
            causes(plural, &json!({"metadata": {"name": "a"}, "status": {"creationTime": time}})).pop()
        };
        assert_eq!(message("volumesnapshotcontents", json!(1_795_000_000_000_000_000_i64)), None);
        assert_eq!(message("volumesnapshots", json!("2026-11-20T18:03:04Z")), None);
        assert_eq!(
            message("volumesnapshotcontents", json!("2026-11-20T18:03:04Z")).as_deref(),
            Some(
                "status.creationTime: Invalid value: \"string\": status.creationTime in body must be of type integer: \
                 \"string\""
            )
        );
        assert_eq!(
            message("volumesnapshots", json!("yesterday")).as_deref(),
            Some(
                "status.creationTime: Invalid value: \"yesterday\": status.creationTime in body must be of type \
                 date-time: \"yesterday\""
            )
        );
    }

    #[test]
    fn backup_is_validated_against_shipped_crd() {
        let check = |spec: Value, expected: &[&str]| assert_eq!(causes("backups", &backup(spec)), expected);
        check(json!({}), &[]);
        check(json!({"includedNamespaces": null, "ttl": "1h", "hooks": {}}), &[]);
        check(
            json!({"includedNamespaces": "shop"}),
            &[
                "spec.includedNamespaces: Invalid value: \"string\": spec.includedNamespaces in body must be of type \
               array: \"string\"",
            ],
        );
        check(
            json!({"includedNamespaces": [1]}),
            &[
                "spec.includedNamespaces[0]: Invalid value: \"integer\": spec.includedNamespaces[0] in body must be of \
               type string: \"integer\"",
            ],
        );
        check(
            json!({"orderedResources": {"pods": 1}}),
            &[
                "spec.orderedResources.pods: Invalid value: \"integer\": spec.orderedResources.pods in body must be of \
               type string: \"integer\"",
            ],
        );
        check(
            json!({"resourcePolicy": {"kind": "configmap"}, "backupType": "Partial"}),
            &[
                "spec.backupType: Unsupported value: \"Partial\": supported values: \"Full\", \"Incremental\"",
                "spec.resourcePolicy.name: Required value",
            ],
        );
        check(
            json!({"hooks": {"resources": [{"name": "a", "pre": [{"exec": {"command": []}}, {}]}]}}),
            &[
                "spec.hooks.resources[0].pre[0].exec.command: Invalid value: 0: \
                 spec.hooks.resources[0].pre[0].exec.command in body should have at least 1 items",
                "spec.hooks.resources[0].pre[1].exec: Required value",
            ],
        );
        let mut without = backup(json!({}));
        without.as_object_mut().expect("an object").remove("spec");
        assert_eq!(causes("backups", &without), [""; 0], "the spec may be absent");
    }

    #[test]
    fn null_is_preserved_only_if_nullable() {
        let written = |spec: Value| {
            let mut object = json!({"metadata": {"name": "g", "labels": null}, "spec": spec});
            let resource = served("groupsnapshots");
            prune_nulls(resource, &mut object);
            prune(resource, &mut object);
            (object["spec"].clone(), causes("groupsnapshots", &object))
        };
        let spec = json!({"labelKey": "k", "group": "g", "driver": "d", "volumeGroupSnapshotClassName": "c"});
        let with = |name: &str, value: Value| {
            let mut spec = spec.clone();
            spec[name] = value;
            written(spec)
        };
        let (pruned, causes) = with("backupRef", Value::Null);
        assert!(
            pruned["backupRef"].is_null() && pruned.get("backupRef").is_some() && causes.is_empty(),
            "{causes:?}"
        );
        let (pruned, causes) = with("claims", Value::Null);
        assert_eq!((&pruned["claims"], causes.len()), (&json!([]), 0), "the default replaces null");
        let (_, causes) = with("driver", Value::Null);
        let expected =
            "spec.driver: Invalid value: \"null\": spec.driver in body must be of type string: \"null\"";
        assert_eq!(causes, [expected]);
    }

    /// The embedded cluster serves the shipped CRDs and checks all of their keywords.
    #[test]
    fn serves_shipped_crds_unchanged() {
        assert_eq!(DEFINITIONS.keys().collect::<Vec<_>>(), ["backups", "groupsnapshots"]);
        for (plural, crd) in DEFINITIONS.iter() {
            let (resource, spec) = (served(plural), &crd["spec"]);
            let names = &spec["names"];
            assert_eq!(crd["metadata"]["name"], resource.qualified_plural());
            assert_eq!((&spec["group"], &names["kind"]), (&json!(resource.group), &json!(resource.kind)));
            assert_eq!(names["singular"], resource.singular);
            let short: Vec<&str> =
                names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            assert_eq!(short, resource.short_names);
            assert_eq!(spec["scope"] == "Namespaced", resource.namespaced);
            let versions = spec["versions"].as_array().expect("versions");
            assert_eq!(versions.len(), 1);
            assert_eq!(versions[0]["name"], resource.versions[0]);
            assert_eq!(versions[0]["subresources"]["status"].is_object(), resource.status_subresource);
            let columns = versions[0]["additionalPrinterColumns"].as_array().expect("columns");
            let printed: Vec<&str> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
            let served: Vec<String> =
                resource.columns.iter().map(|column| column.name.to_uppercase()).collect();
            assert_eq!(served, printed, "{plural}");
            let unchecked = structural::unknown_keywords(&versions[0]["schema"]["openAPIV3Schema"]);
            assert_eq!(unchecked, [""; 0], "{plural}: CEL rules are not evaluated here");
        }
    }
}
