//! Converts the spec of a Backup to the input of planning. Pure, apart from the types of the API.

use std::collections::BTreeSet;

use crate::cluster::kinds::{Backup, BackupSpec};
use crate::domain::atomicity::Demand;
use crate::domain::duration;
use crate::domain::ids::Uid;
use crate::domain::limits;
use crate::domain::plan::BackupRef;
use crate::domain::time::Millis;
use crate::engine::unknown_fields;
use crate::planning::{Request, RequestedFeatures, ResourceList, ignored, label_key, validate};

/// Options of the daemon that apply to every Backup.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    pub label_key: Option<String>,
    /// `--keep-group-name`: write the group name back into released members, so that Velero recognizes them.
    pub keep_group_name: bool,
    /// `--max-skew` and `--require-atomic`: the largest allowed difference between the cut times of the
    /// members.
    pub atomicity: Demand,
}

/// Name and uid of the Backup.
pub fn reference(backup: &Backup) -> BackupRef {
    BackupRef {
        namespace: backup.metadata.namespace.clone().unwrap_or_default(),
        name: backup.metadata.name.clone().unwrap_or_default(),
        uid: Uid(backup.metadata.uid.clone().unwrap_or_default()),
    }
}

/// Reads a Backup. Errors are everything that is invalid or unsupported in this release, as Velero's
/// `validationErrors`.
pub fn read(backup: &Backup, defaults: &Defaults) -> Result<Request, Vec<String>> {
    let spec = &backup.spec;
    let mut errors = unknown_fields::refuse(spec);
    let mut duration = |field: &str, value: &Option<String>| {
        value.as_deref().map_or(Ok(Millis(0)), duration::parse).unwrap_or_else(|error| {
            errors.push(format!("spec.{field}: {error}"));
            Millis(0)
        })
    };
    let cut_timeout = duration("csiSnapshotTimeout", &spec.csi_snapshot_timeout);
    let ready_timeout = duration("itemOperationTimeout", &spec.item_operation_timeout);
    let ttl = duration("ttl", &spec.ttl);
    let asked = RequestedFeatures { ttl: ttl > Millis(0), ..asked(spec, defaults) };
    errors.extend(validate(&asked));
    if !errors.is_empty() {
        return Err(limits::at_most(errors, limits::MAX_VALIDATION_ERRORS));
    }
    let cut_timeout = or_default(cut_timeout, limits::CSI_SNAPSHOT_TIMEOUT);
    Ok(Request {
        backup: reference(backup),
        warnings: ignored(&asked),
        label_key_explicit: is_set(spec.volume_group_snapshot_label_key.as_deref()),
        label_key: asked.label_key,
        included_namespaces: each_once(&spec.included_namespaces),
        annotations: backup.metadata.annotations.clone().unwrap_or_default(),
        cut_timeout,
        // The cut precedes readiness: a longer timeout for the cut also extends the readiness timeout.
        ready_timeout: or_default(ready_timeout, limits::ITEM_OPERATION_TIMEOUT).max(cut_timeout),
        keep_group_name: defaults.keep_group_name,
        atomicity: defaults.atomicity,
    })
}

/// Absent or zero means the default, as in Velero.
fn or_default(given: Millis, default: Millis) -> Millis {
    if given == Millis(0) { default } else { given }
}

fn is_set(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn each_once(names: &Option<Vec<String>>) -> Vec<String> {
    let names: BTreeSet<&String> = names.iter().flatten().collect();
    names.into_iter().cloned().collect()
}

fn asked(spec: &BackupSpec, defaults: &Defaults) -> RequestedFeatures {
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    let lists = |lists: [(&'static str, &Option<Vec<String>>); 2]| {
        lists.map(|(field, names)| ResourceList { field, names: list(names) }).into()
    };
    let key = spec.volume_group_snapshot_label_key.as_deref();
    RequestedFeatures {
        label_key: label_key(key, defaults.label_key.as_deref()),
        label_key_of_flag: !is_set(key) && is_set(defaults.label_key.as_deref()),
        included_namespaces: each_once(&spec.included_namespaces),
        excluded_namespaces: list(&spec.excluded_namespaces),
        included_resources: lists([
            ("includedResources", &spec.included_resources),
            ("includedNamespaceScopedResources", &spec.included_namespace_scoped_resources),
        ]),
        excluded_resources: lists([
            ("excludedResources", &spec.excluded_resources),
            ("excludedNamespaceScopedResources", &spec.excluded_namespace_scoped_resources),
        ]),
        older_filters: set([
            ("includedResources", !list(&spec.included_resources).is_empty()),
            ("excludedResources", !list(&spec.excluded_resources).is_empty()),
            ("includeClusterResources", spec.include_cluster_resources.is_some()),
        ]),
        scoped_filters: set([
            ("includedClusterScopedResources", !list(&spec.included_cluster_scoped_resources).is_empty()),
            ("excludedClusterScopedResources", !list(&spec.excluded_cluster_scoped_resources).is_empty()),
            ("includedNamespaceScopedResources", !list(&spec.included_namespace_scoped_resources).is_empty()),
            ("excludedNamespaceScopedResources", !list(&spec.excluded_namespace_scoped_resources).is_empty()),
        ]),
        label_selector: spec.label_selector.as_ref().is_some_and(|selector| selector.is_restrictive()),
        or_label_selectors: spec.or_label_selectors.as_ref().is_some_and(|all| !all.is_empty()),
        resource_policy: spec.resource_policy.is_some(),
        snapshot_move_data: spec.snapshot_move_data == Some(true),
        snapshot_volumes: spec.snapshot_volumes,
        // The Velero CLI writes `hooks: {}`. `resources: []` is not a hook either.
        hooks: spec
            .hooks
            .as_ref()
            .and_then(|hooks| hooks.resources.as_ref())
            .is_some_and(|all| !all.is_empty()),
        ordered_resources: spec.ordered_resources.as_ref().is_some_and(|all| !all.is_empty()),
        default_volumes_to_fs_backup: spec.default_volumes_to_fs_backup == Some(true),
        default_volumes_to_restic: spec.default_volumes_to_restic == Some(true),
        ttl: false,
        storage_location: is_set(spec.storage_location.as_deref()),
        volume_snapshot_locations: !list(&spec.volume_snapshot_locations).is_empty(),
        include_cluster_resources: spec.include_cluster_resources == Some(true),
        included_cluster_scoped_resources: !list(&spec.included_cluster_scoped_resources).is_empty(),
        of_data_mover: set([
            ("datamover", is_set(spec.datamover.as_deref())),
            (
                "uploaderConfig",
                spec.uploader_config.as_ref().is_some_and(|c| c.parallel_files_upload.is_some()),
            ),
            ("backupType", is_set(spec.backup_type.as_deref())),
        ]),
    }
}

/// Names of the fields that are set.
fn set<const N: usize>(fields: [(&'static str, bool); N]) -> Vec<&'static str> {
    fields.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(spec: BackupSpec) -> Backup {
        let mut backup = Backup::new("nightly", spec);
        backup.metadata.namespace = Some("stillpoint".to_owned());
        backup.metadata.uid = Some("uid-1".to_owned());
        backup
    }

    #[test]
    fn defaults_match_velero() {
        let request =
            read(&backup(BackupSpec::default()), &Defaults::default()).expect("an empty spec is valid");
        assert_eq!(request.label_key, "velero.io/volume-group");
        assert_eq!(request.cut_timeout, Millis::from_secs(600));
        assert_eq!(request.ready_timeout, Millis::from_secs(4 * 3600));
    }

    #[test]
    fn label_key_of_spec_precedes_flag() {
        let flag = Defaults { label_key: Some("flag/key".to_owned()), ..Defaults::default() };
        let spec = BackupSpec {
            volume_group_snapshot_label_key: Some("spec/key".to_owned()),
            ..BackupSpec::default()
        };
        assert_eq!(read(&backup(spec), &flag).expect("valid").label_key, "spec/key");
        assert_eq!(read(&backup(BackupSpec::default()), &flag).expect("valid").label_key, "flag/key");
    }

    #[test]
    fn every_duration_field_accepts_go_durations() {
        let check = |text: &str, expected: Option<u64>| {
            let given = || Some(text.to_owned());
            let spec = BackupSpec {
                csi_snapshot_timeout: given(),
                item_operation_timeout: given(),
                ttl: given(),
                ..BackupSpec::default()
            };
            match (read(&backup(spec), &Defaults::default()), expected) {
                (Ok(request), Some(ms)) => assert_eq!(request.cut_timeout, Millis(ms), "{text}"),
                (Err(errors), None) => {
                    let fields = ["spec.csiSnapshotTimeout: ", "spec.itemOperationTimeout: ", "spec.ttl: "];
                    assert_eq!(errors.len(), fields.len(), "{errors:?}");
                    let named = errors.iter().zip(fields).all(|(error, field)| error.starts_with(field));
                    assert!(named && errors[0].contains("invalid duration"), "{errors:?}");
                }
                (read, _) => panic!("{text}: {read:?}"),
            }
        };
        check("10m0s", Some(600_000));
        check("1.5h", Some(5_400_000));
        check("0s", Some(600_000));
        for malformed in ["soon", "-5m", "", "1d", "10 m", "3000000h"] {
            check(malformed, None);
        }
    }

    #[test]
    fn warns_about_ignored_fields_unless_zero() {
        let spec: BackupSpec = serde_json::from_value(serde_json::json!({
            "ttl": "720h", "storageLocation": "default", "volumeSnapshotLocations": ["aws"],
            "metadata": {"labels": {"a": "b"}}, "includeClusterResources": true, "datamover": "velero",
        }))
        .expect("a spec");
        let request = read(&backup(spec), &Defaults::default()).expect("none is refused");
        assert_eq!(request.warnings.len(), 5, "{:?}", request.warnings);
        // The spec that the Velero CLI writes for a Backup without any flag.
        let spec: BackupSpec = serde_json::from_value(serde_json::json!({
            "csiSnapshotTimeout": "0s", "hooks": {}, "includedNamespaces": ["*"], "itemOperationTimeout": "0s",
            "metadata": {}, "snapshotMoveData": false, "ttl": "0s", "excludedNamespaces": null,
            "includeClusterResources": null, "defaultVolumesToFsBackup": false, "labelSelector": null,
            "storageLocation": "", "uploaderConfig": {},
        }))
        .expect("a spec");
        let request = read(&backup(spec), &Defaults::default()).expect("nothing is asked for");
        assert_eq!(request.warnings, [""; 0]);
        assert!(request.all_namespaces() && !request.label_key_explicit);
    }

    #[test]
    fn namespaces_are_deduplicated() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let spec =
            BackupSpec { included_namespaces: names(&["shop", "gone", "shop"]), ..BackupSpec::default() };
        let request = read(&backup(spec), &Defaults::default()).expect("valid");
        assert_eq!(request.included_namespaces, ["gone", "shop"]);
        let spec = BackupSpec { included_namespaces: names(&["*", "*"]), ..BackupSpec::default() };
        assert!(read(&backup(spec), &Defaults::default()).expect("valid").all_namespaces());
    }

    #[test]
    fn refused_fields_are_named_as_in_spec() {
        for (field, value) in [
            ("defaultVolumesToRestic", serde_json::json!(true)),
            ("defaultVolumesToFsBackup", serde_json::json!(true)),
            ("includedNamespaceScopedResources", serde_json::json!(["pods"])),
            ("includedResources", serde_json::json!(["pods"])),
            ("excludedNamespaceScopedResources", serde_json::json!(["pvc"])),
            ("hooks", serde_json::json!({"resources": [{"name": "freeze"}]})),
            ("orLabelSelectors", serde_json::json!([{"matchLabels": {"a": "b"}}])),
        ] {
            let spec: BackupSpec =
                serde_json::from_value(serde_json::json!({ (field): value })).expect("a spec");
            let errors = read(&backup(spec), &Defaults::default()).expect_err(field);
            assert!(
                errors.len() == 1 && errors[0].starts_with(&format!("spec.{field}: ")),
                "{field}: {errors:?}"
            );
        }
    }

    #[test]
    fn reports_all_errors_at_once() {
        let spec = BackupSpec {
            snapshot_move_data: Some(true),
            csi_snapshot_timeout: Some("soon".to_owned()),
            ..BackupSpec::default()
        };
        let errors = read(&backup(spec), &Defaults::default()).expect_err("two mistakes");
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].contains("csiSnapshotTimeout") && errors[1].contains("snapshotMoveData"));
    }
}
