//! Finds fields of a Backup that are not in Velero's API. The API server drops or refuses them where the CRD
//! is strict. Where it retains them, a misspelled field would be ignored silently; the Backup fails instead.

use std::sync::LazyLock;

use serde_json::Value;

use crate::cluster::kinds::{self, BackupSpec};
use crate::domain::spelling;

/// The schema of the spec, from the CRD that is generated from the types.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let is_backup = |crd: &Value| crd["spec"]["names"]["kind"] == "Backup";
    let crds = kinds::crds();
    let mut crds = crds.iter().filter_map(|crd| serde_json::to_value(crd).ok());
    let crd = crds.find(is_backup).unwrap_or_default();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
});

/// One sentence for each field that is not in Velero's API, with its path as the user wrote it.
pub fn refuse(spec: &BackupSpec) -> Vec<String> {
    let mut errors = Vec::new();
    if let Ok(written) = serde_json::to_value(spec) {
        visit(&written, &SCHEMA, "spec", &mut errors);
    }
    errors
}

fn visit(written: &Value, schema: &Value, path: &str, errors: &mut Vec<String>) {
    match written {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                visit(item, &schema["items"], &format!("{path}[{at}]"), errors);
            }
        }
        Value::Object(fields) => {
            // A map of labels has no fields of its own.
            let Some(known) = schema["properties"].as_object() else { return };
            for (name, value) in fields {
                match known.get(name) {
                    Some(schema) => visit(value, schema, &format!("{path}.{name}"), errors),
                    None => errors.push(unknown(path, name, known.keys().map(String::as_str))),
                }
            }
        }
        _ => {}
    }
}

fn unknown<'a>(path: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let shown: String = name.chars().take(80).collect();
    let fix = match spelling::closest(name, known) {
        Some(meant) => format!("write {path}.{meant} if that is what you mean"),
        None => "remove it".to_owned(),
    };
    format!(
        "{path}.{shown}: Velero's Backup has no such field, and ignoring it could cut something else; {fix}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(spec: Value) -> Vec<String> {
        refuse(&serde_json::from_value(spec).expect("a spec"))
    }

    #[test]
    fn suggests_known_field_for_misspelled_one() {
        let errors =
            refused(json!({"includeNamespaces": ["other"], "retention": "1d", "snapshotMovedata": true}));
        let expected = [
            "spec.includeNamespaces: Velero's Backup has no such field, and ignoring it could cut something else; write \
             spec.includedNamespaces if that is what you mean",
            "spec.retention: Velero's Backup has no such field, and ignoring it could cut something else; remove it",
            "spec.snapshotMovedata: Velero's Backup has no such field, and ignoring it could cut something else; write \
             spec.snapshotMoveData if that is what you mean",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn unknown_fields_are_found_at_every_depth() {
        let errors = refused(json!({
            "labelSelector": {"matchLabel": {"app": "shop"}, "matchLabels": {"anything": "goes"}},
            "orLabelSelectors": [{}, {"matchExpressions": [{"key": "a", "operator": "Exists", "value": "b"}]}],
            "hooks": {"resource": []},
            "uploaderConfig": {"parallelFilesUploads": 3},
            "resourcePolicy": {"kind": "configmap", "name": "p", "namespace": "n"},
            "metadata": {"label": {}},
            "orderedResources": {"pods": "a/b"},
        }));
        let paths: Vec<&str> =
            errors.iter().filter_map(|error| error.split_once(':')).map(|(path, _)| path).collect();
        let expected = [
            "spec.hooks.resource",
            "spec.labelSelector.matchLabel",
            "spec.metadata.label",
            "spec.orLabelSelectors[1].matchExpressions[0].value",
            "spec.resourcePolicy.namespace",
            "spec.uploaderConfig.parallelFilesUploads",
        ];
        assert_eq!(paths, expected);
    }
}
