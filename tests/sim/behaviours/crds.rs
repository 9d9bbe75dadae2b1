//! The shipped CRDs as the API server enforces them: `kubectl create --dry-run=server` of every example.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use stillpoint::sim::Config;

use crate::lab::{Lab, Reply};

const BACKUPS: &str = "/apis/velero.io/v1/namespaces/stillpoint/backups";
const GROUP_SNAPSHOTS: &str = "/apis/stillpoint.dev/v1alpha1/namespaces/stillpoint/groupsnapshots";

async fn lab() -> Lab {
    let lab = Lab::new(0, Config::default()).await;
    if lab.get("namespaces", "stillpoint").is_none() {
        lab.create_namespace("stillpoint");
    }
    lab
}

/// The example Backups by file name.
fn examples() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/objects");
    let files = fs::read_dir(root.join("backups")).expect("the examples").flatten().map(|entry| entry.path());
    let mut files: Vec<_> = files.chain([root.join("backup.yaml")]).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).expect("a readable file");
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        (name, serde_saphyr::from_str(&text).expect("YAML"))
    };
    files.iter().map(read).collect()
}

async fn dry_run(lab: &Lab, object: &Value) -> Reply {
    let path = format!("{BACKUPS}?dryRun=All&fieldValidation=Strict&fieldManager=kubectl-create");
    lab.http("POST", &path, Some(object.clone())).await
}

#[tokio::test(start_paused = true)]
async fn every_example_passes_server_side_dry_run() {
    let lab = lab().await;
    for (file, object) in examples() {
        let reply = dry_run(&lab, &object).await;
        println!("{file}: {} {}", reply.status, reply.body["kind"]);
        assert_eq!(reply.status, 201, "{file}: {}", reply.text);
        assert_eq!(reply.body["spec"], object.get("spec").cloned().unwrap_or(Value::Null), "{file}");
        assert!(reply.headers.get("warning").is_none(), "{file}");
    }
    assert!(lab.list("backups").is_empty(), "nothing is stored");
}

/// Paths of the leaves that a CRD names.
fn fields(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        Some(properties) => {
            properties.iter().for_each(|(name, schema)| fields(schema, &format!("{path}.{name}"), found));
        }
        None if schema["items"]["properties"].is_object() => {
            fields(&schema["items"], &format!("{path}[]"), found)
        }
        None => drop(found.insert(path.to_owned())),
    }
}

/// The paths in `fields` that an object uses.
fn used(value: &Value, path: &str, fields: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    if fields.contains(path) {
        found.insert(path.to_owned());
        return;
    }
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| used(value, &format!("{path}.{name}"), fields, found))
        }
        Value::Array(items) => items.iter().for_each(|item| used(item, &format!("{path}[]"), fields, found)),
        _ => {}
    }
}

#[test]
fn examples_use_every_backup_field() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/backup-crd.yaml"));
    let crd: Value = serde_saphyr::from_str(&text.expect("the CRD")).expect("YAML");
    let (mut all, mut seen) = (BTreeSet::new(), BTreeSet::new());
    fields(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut all);
    examples().iter().for_each(|(_, object)| used(object, "", &all, &mut seen));
    let missing: Vec<_> = all.difference(&seen).collect();
    assert!(missing.is_empty() && all.len() > 50, "no example uses {missing:?}");
}

#[tokio::test(start_paused = true)]
async fn rejects_invalid_backup_and_names_field() {
    let lab = lab().await;
    let with = |spec: Value| {
        json!({"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {"name": "b", "namespace": "stillpoint"},
            "spec": spec})
    };
    let cases = [
        (
            with(json!({"includeNamespaces": ["shop"]})),
            400,
            "strict decoding error: unknown field \"spec.includeNamespaces\"",
        ),
        (with(json!({"hooks": {"resource": []}})), 400, "unknown field \"spec.hooks.resource\""),
        (with(json!({"includedNamespaces": "shop"})), 422, "must be of type array: \"string\""),
        (with(json!({"snapshotMoveData": "true"})), 422, "must be of type boolean: \"string\""),
        (
            with(json!({"resourcePolicy": {"kind": "configmap"}})),
            422,
            "spec.resourcePolicy.name: Required value",
        ),
        (with(json!({"backupType": "Partial"})), 422, "spec.backupType: Unsupported value: \"Partial\""),
        (with(json!([])), 422, "spec in body must be of type object: \"array\""),
    ];
    for (object, code, message) in cases {
        let reply = dry_run(&lab, &object).await;
        let actual = reply.body["message"].as_str().unwrap_or_default();
        assert!(reply.status == code && actual.contains(message), "{code} {message}: {}", reply.text);
    }
    let mut object = with(json!({}));
    for (metadata, code, message) in [
        (json!({"name": "B"}), 422, "metadata.name: Invalid value: \"B\""),
        (json!({"name": "b", "labels": {"a": "x".repeat(64)}}), 422, "must be no more than 63 bytes"),
        (json!({"name": "b", "annotations": {"a b": ""}}), 422, "metadata.annotations: Invalid value"),
        (json!({"name": "b", "annotations": {"a": "x".repeat(262_145)}}), 422, "Too long"),
        (json!({"name": "b", "label": {}}), 400, "unknown field \"metadata.label\""),
    ] {
        object["metadata"] = metadata;
        let reply = dry_run(&lab, &object).await;
        let actual = reply.body["message"].as_str().unwrap_or_default();
        assert!(reply.status == code && actual.contains(message), "{message}: {actual:.300}");
    }
}

#[tokio::test(start_paused = true)]
async fn warns_about_dropped_unknown_fields_without_strict_validation() {
    let lab = lab().await;
    let object = json!({"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {"name": "b"},
        "spec": {"includeNamespaces": ["shop"], "ttl": "1h"}});
    let reply = lab.http("POST", BACKUPS, Some(object)).await;
    assert_eq!((reply.status, &reply.body["spec"]), (201, &json!({"ttl": "1h"})));
    let warning = reply.headers.get("warning").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(warning.contains("unknown field \\\"spec.includeNamespaces\\\""), "{warning}");
    // A patch is validated against the same CRD.
    let patch = |patch: Value| {
        let (lab, path) = (&lab, format!("{BACKUPS}/b?fieldValidation=Strict"));
        async move { lab.http_as("application/merge-patch+json", "PATCH", &path, Some(patch)).await }
    };
    assert_eq!(patch(json!({"spec": {"ttls": "1h"}})).await.status, 400);
    assert_eq!(patch(json!({"status": {"phase": "Done"}})).await.status, 422);
    assert_eq!(patch(json!({"status": {"phase": "Completed", "startTimestamp": "now"}})).await.status, 422);
    assert_eq!(patch(json!({"status": {"phase": "Completed"}})).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn validates_group_snapshot_against_its_crd() {
    let lab = lab().await;
    let object = |spec: Value| json!({"apiVersion": "stillpoint.dev/v1alpha1", "kind": "GroupSnapshot", "metadata": {"name": "g"}, "spec": spec});
    let spec = json!({"labelKey": "k", "group": "g", "driver": "d", "volumeGroupSnapshotClassName": "c"});
    let mut without = spec.clone();
    without.as_object_mut().expect("an object").remove("driver");
    let reply = lab.http("POST", GROUP_SNAPSHOTS, Some(object(without))).await;
    assert!(reply.status == 422 && reply.text.contains("spec.driver: Required value"), "{}", reply.text);
    let reply = lab.http("POST", GROUP_SNAPSHOTS, Some(object(spec))).await;
    assert_eq!((reply.status, &reply.body["spec"]["claims"]), (201, &json!([])), "the default is set");
}
