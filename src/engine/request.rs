//! From the spec of a Backup to what planning understands: pure, but for the types of the API.

use crate::cluster::kinds::{Backup, BackupSpec};
use crate::domain::atomicity::Demand;
use crate::domain::ids::Uid;
use crate::domain::limits;
use crate::domain::plan::BackupRef;
use crate::domain::time::Millis;
use crate::planning::{Asked, Request, label_key, validate};

/// What the daemon was started with that bears on every Backup.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// `--volume-group-snapshot-label-key`.
    pub label_key: Option<String>,
    /// `--keep-group-name`: put the name of the group back into released members, so that Velero knows them.
    pub keep_group_name: bool,
    /// `--max-skew` and `--require-atomic`: how far apart the members of a group may be cut.
    pub atomicity: Demand,
}

/// The Backup by name and uid.
pub fn reference(backup: &Backup) -> BackupRef {
    BackupRef {
        namespace: backup.metadata.namespace.clone().unwrap_or_default(),
        name: backup.metadata.name.clone().unwrap_or_default(),
        uid: Uid(backup.metadata.uid.clone().unwrap_or_default()),
    }
}

/// Reads a Backup; all that is wrong with it, or that this release does not do, as Velero's `validationErrors`.
pub fn read(backup: &Backup, defaults: &Defaults) -> Result<Request, Vec<String>> {
    let spec = &backup.spec;
    let key = label_key(spec.volume_group_snapshot_label_key.as_deref(), defaults.label_key.as_deref());
    let mut errors = validate(&asked(spec, &key));
    let mut duration = |field: &str, value: &Option<String>, default: Millis| {
        parse_duration(value.as_deref(), default).unwrap_or_else(|reason| {
            errors.push(format!("spec.{field}: {reason}"));
            default
        })
    };
    let cut_timeout =
        duration("csiSnapshotTimeout", &spec.csi_snapshot_timeout, limits::CSI_SNAPSHOT_TIMEOUT);
    let ready_timeout =
        duration("itemOperationTimeout", &spec.item_operation_timeout, limits::ITEM_OPERATION_TIMEOUT);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Request {
        backup: reference(backup),
        label_key: key,
        included_namespaces: spec.included_namespaces.clone().unwrap_or_default(),
        annotations: backup.metadata.annotations.clone().unwrap_or_default(),
        cut_timeout,
        // The cut comes before readiness: a longer wait for the cut makes the other one longer, too.
        ready_timeout: ready_timeout.max(cut_timeout),
        keep_group_name: defaults.keep_group_name,
        atomicity: defaults.atomicity,
    })
}

fn asked(spec: &BackupSpec, label_key: &str) -> Asked {
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    let both = |one: &Option<Vec<String>>, other: &Option<Vec<String>>| [list(one), list(other)].concat();
    let selects = |selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector| {
        selector.match_labels.as_ref().is_some_and(|labels| !labels.is_empty())
            || selector.match_expressions.as_ref().is_some_and(|expressions| !expressions.is_empty())
    };
    let older_fs_backup = spec.other.get("defaultVolumesToRestic").is_some_and(|value| value == true);
    Asked {
        label_key: label_key.to_owned(),
        included_namespaces: list(&spec.included_namespaces),
        excluded_namespaces: list(&spec.excluded_namespaces),
        included_resources: both(&spec.included_resources, &spec.included_namespace_scoped_resources),
        excluded_resources: both(&spec.excluded_resources, &spec.excluded_namespace_scoped_resources),
        label_selector: spec.label_selector.as_ref().is_some_and(selects),
        or_label_selectors: spec.or_label_selectors.as_ref().is_some_and(|all| !all.is_empty()),
        resource_policy: spec.resource_policy.is_some(),
        snapshot_move_data: spec.snapshot_move_data == Some(true),
        snapshot_volumes: spec.snapshot_volumes,
        hooks: spec.hooks.as_ref().is_some_and(has_hooks),
        ordered_resources: spec.ordered_resources.as_ref().is_some_and(|all| !all.is_empty()),
        default_volumes_to_fs_backup: spec.default_volumes_to_fs_backup == Some(true) || older_fs_backup,
    }
}

/// The Velero CLI writes `hooks: {}`, and `resources: []` is no hook either.
fn has_hooks(hooks: &serde_json::Value) -> bool {
    hooks.get("resources").and_then(|resources| resources.as_array()).is_some_and(|all| !all.is_empty())
}

/// A Go duration (`metav1.Duration`): `10m`, `1h30m0s`. Absent or zero is the default, as in Velero.
fn parse_duration(text: Option<&str>, default: Millis) -> Result<Millis, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(default) };
    let parsed: Result<jiff::SignedDuration, _> = text.parse();
    match parsed.ok().and_then(|duration| u64::try_from(duration.as_millis()).ok()) {
        Some(0) => Ok(default),
        Some(ms) => Ok(Millis(ms)),
        None => Err(format!("{text:?} is no duration; write it as 10m or 1h30m")),
    }
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
    fn defaults_are_veleros() {
        let request =
            read(&backup(BackupSpec::default()), &Defaults::default()).expect("an empty spec is valid");
        assert_eq!(request.label_key, "velero.io/volume-group");
        assert_eq!(request.cut_timeout, Millis::from_secs(600));
        assert_eq!(request.ready_timeout, Millis::from_secs(4 * 3600));
    }

    #[test]
    fn the_label_key_is_that_of_the_spec_then_of_the_flag() {
        let flag = Defaults { label_key: Some("flag/key".to_owned()), ..Defaults::default() };
        let spec = BackupSpec {
            volume_group_snapshot_label_key: Some("spec/key".to_owned()),
            ..BackupSpec::default()
        };
        assert_eq!(read(&backup(spec), &flag).expect("valid").label_key, "spec/key");
        assert_eq!(read(&backup(BackupSpec::default()), &flag).expect("valid").label_key, "flag/key");
    }

    #[test]
    fn durations_are_gos() {
        let check = |text: &str, expected: Result<u64, ()>| {
            let parsed = parse_duration(Some(text), Millis(7)).map(|ms| ms.0).map_err(|_| ());
            assert_eq!(parsed, expected, "{text}");
        };
        check("10m0s", Ok(600_000));
        check("1h30m", Ok(5_400_000));
        check("500ms", Ok(500));
        check("0s", Ok(7));
        check("", Ok(7));
        check("soon", Err(()));
        check("-5m", Err(()));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let spec = BackupSpec {
            snapshot_move_data: Some(true),
            csi_snapshot_timeout: Some("soon".to_owned()),
            ..BackupSpec::default()
        };
        let errors = read(&backup(spec), &Defaults::default()).expect_err("two mistakes");
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].contains("snapshotMoveData") && errors[1].contains("csiSnapshotTimeout"));
    }
}
