//! Validates the features that a Backup requests, before any group is formed.
//!
//! A field that would change which volumes are cut, or the actions around the cut, is refused if this release
//! does not support it. A Backup that silently does less than its spec is worse than one that fails its
//! validation. A field without influence on the cut (storage location, retention time) is ignored with a
//! warning. Each message has the field as the user wrote it, the reason and the fix. Refusals become
//! `status.validationErrors`.

use std::collections::BTreeSet;

/// A list of resources with the name of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceList {
    /// `includedResources`, `excludedNamespaceScopedResources`, and so on.
    pub field: &'static str,
    pub names: Vec<String>,
}

/// The fields of a Backup that this release reads but does not support in every form, as given by the user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestedFeatures {
    /// Label key that groups PVCs, with defaults applied.
    pub label_key: String,
    /// Whether the key comes from `--volume-group-snapshot-label-key`.
    pub label_key_of_flag: bool,
    /// `spec.includedNamespaces`.
    pub included_namespaces: Vec<String>,
    /// `spec.excludedNamespaces`.
    pub excluded_namespaces: Vec<String>,
    /// Lists of resources that include PVCs or omit them.
    pub included_resources: Vec<ResourceList>,
    /// Lists of resources that exclude.
    pub excluded_resources: Vec<ResourceList>,
    /// The old-style filters that are set: `includedResources`, `excludedResources`,
    /// `includeClusterResources`.
    pub older_filters: Vec<&'static str>,
    /// The new-style filters that are set: those by scope.
    pub scoped_filters: Vec<&'static str>,
    /// Whether `spec.labelSelector` selects anything.
    pub label_selector: bool,
    /// Whether `spec.orLabelSelectors` has an entry.
    pub or_label_selectors: bool,
    /// Whether `spec.resourcePolicy` names a ConfigMap.
    pub resource_policy: bool,
    /// `spec.snapshotMoveData`.
    pub snapshot_move_data: bool,
    /// `spec.snapshotVolumes`; `None` if absent.
    pub snapshot_volumes: Option<bool>,
    /// Whether `spec.hooks` has an entry.
    pub hooks: bool,
    /// Whether `spec.orderedResources` has an entry.
    pub ordered_resources: bool,
    /// `spec.defaultVolumesToFsBackup`.
    pub default_volumes_to_fs_backup: bool,
    /// `spec.defaultVolumesToRestic`, the older name of that field.
    pub default_volumes_to_restic: bool,
    /// Whether `spec.ttl` is not zero.
    pub ttl: bool,
    /// Whether `spec.storageLocation` is set.
    pub storage_location: bool,
    /// Whether `spec.volumeSnapshotLocations` has an entry.
    pub volume_snapshot_locations: bool,
    /// `spec.includeClusterResources`.
    pub include_cluster_resources: bool,
    /// Whether `spec.includedClusterScopedResources` has an entry.
    pub included_cluster_scoped_resources: bool,
    /// Those of `spec.datamover`, `spec.uploaderConfig` and `spec.backupType` that are set.
    pub of_data_mover: Vec<&'static str>,
}

/// One message for each requested feature that this release does not support. If empty, the Backup can be
/// planned.
pub fn validate(asked: &RequestedFeatures) -> Vec<String> {
    let refused = [
        label_key(asked),
        namespaces(asked),
        excluded_namespaces(asked),
        filters(asked),
        included_resources(asked),
        excluded_resources(asked),
        flag(asked.label_selector, "labelSelector", SELECTOR),
        flag(asked.or_label_selectors, "orLabelSelectors", SELECTOR),
        flag(asked.resource_policy, "resourcePolicy", POLICY),
        flag(asked.snapshot_move_data, "snapshotMoveData", MOVE_DATA),
        flag(asked.snapshot_volumes == Some(false), "snapshotVolumes", NO_VOLUMES),
        flag(asked.hooks, "hooks", HOOKS),
        flag(asked.ordered_resources, "orderedResources", ORDER),
        flag(asked.default_volumes_to_fs_backup, "defaultVolumesToFsBackup", FS_BACKUP),
        flag(asked.default_volumes_to_restic, "defaultVolumesToRestic", FS_BACKUP),
    ];
    refused.into_iter().flatten().collect()
}

/// One message for each field that is set and has no effect in this release.
pub fn ignored(asked: &RequestedFeatures) -> Vec<String> {
    let ignored = [
        flag(asked.ttl, "ttl", TTL),
        flag(asked.storage_location, "storageLocation", STORAGE),
        flag(asked.volume_snapshot_locations, "volumeSnapshotLocations", SNAPSHOT_LOCATIONS),
        flag(asked.include_cluster_resources, "includeClusterResources", OBJECTS),
        flag(asked.included_cluster_scoped_resources, "includedClusterScopedResources", OBJECTS),
    ];
    let movers = asked.of_data_mover.iter().map(|field| refusal(field, DATA_MOVER));
    let objects = asked.included_resources.iter().filter_map(other_resources);
    ignored.into_iter().flatten().chain(movers).chain(objects).collect()
}

const SELECTOR: &str = "a group is all PVCs of one label value, and a selector that leaves some of them out is not \
                        supported yet; remove the field and select by the group label";
const POLICY: &str = "volume policies are not supported yet, and a skipped volume would still be in the cut; remove \
                      the field and take the group label off the PVCs that are to be skipped";
const MOVE_DATA: &str = "moving the data out of the cluster is not supported yet; set the field to false and keep the \
                         snapshots in the cluster";
const NO_VOLUMES: &str =
    "snapshots of volumes are all that Stillpoint takes; set the field to true or remove it";
const HOOKS: &str = "hooks are not run, and a database would not be quiesced as the Backup says; remove the field (the \
                     cut is crash-consistent without them)";
const ORDER: &str = "all volumes of a group are cut at once, an order would have no effect; remove the field";
const FS_BACKUP: &str = "file system backup is not supported; set the field to false";

const TTL: &str = "the field has no effect yet: nothing expires, the snapshots stay until you delete them; remove the \
                   field";
const STORAGE: &str = "the field has no effect yet: nothing is uploaded, the snapshots stay in the cluster; remove the \
                       field";
const SNAPSHOT_LOCATIONS: &str = "the field has no effect: it is for native snapshots, and Stillpoint takes CSI \
                                  snapshots; remove the field";
const OBJECTS: &str =
    "the field has no effect: volumes are snapshotted, and no objects are backed up; remove the field";
const DATA_MOVER: &str = "the field has no effect: no data are moved; remove the field";

fn flag(asked: bool, field: &str, sentence: &str) -> Option<String> {
    asked.then(|| refusal(field, sentence))
}

fn refusal(field: &str, sentence: &str) -> String {
    format!("spec.{field}: {sentence}")
}

fn label_key(asked: &RequestedFeatures) -> Option<String> {
    let key = &asked.label_key;
    (!is_label_key(key)).then(|| {
        let field = if asked.label_key_of_flag {
            "--volume-group-snapshot-label-key"
        } else {
            "spec.volumeGroupSnapshotLabelKey"
        };
        format!(
            "{field}: \"{key}\" is not a label key; write it as prefix/name, as in velero.io/volume-group"
        )
    })
}

/// Refuses included namespaces that are neither names nor only `*`.
fn namespaces(asked: &RequestedFeatures) -> Option<String> {
    let names = &asked.included_namespaces;
    if names.len() == 1 && names[0] == "*" {
        return None;
    }
    if let Some(pattern) = names.iter().find(|name| name.contains(['*', '?', '[', ']', '{', '}'])) {
        let sentence = format!(
            "the pattern \"{pattern}\" is not supported yet; list the namespaces by name, or leave the field empty for \
             all"
        );
        return Some(refusal("includedNamespaces", &sentence));
    }
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name = names.iter().find(|name| !is_part(name, 63, lower, "-"))?;
    let sentence = format!("\"{name}\" is not the name of a namespace; correct it, or take it out");
    Some(refusal("includedNamespaces", &sentence))
}

fn excluded_namespaces(asked: &RequestedFeatures) -> Option<String> {
    (!asked.excluded_namespaces.is_empty()).then(|| {
        let sentence =
            "leaving out namespaces is not supported yet; list those that are wanted in includedNamespaces";
        refusal("excludedNamespaces", sentence)
    })
}

/// Refuses filters of both styles, as Velero does.
fn filters(asked: &RequestedFeatures) -> Option<String> {
    let (older, scoped) = (asked.older_filters.first()?, asked.scoped_filters.first()?);
    let sentence = format!("it cannot be used together with spec.{scoped}; remove one of them");
    Some(refusal(older, &sentence))
}

fn included_resources(asked: &RequestedFeatures) -> Option<String> {
    let without_claims = |list: &&ResourceList| {
        !list.names.is_empty() && !list.names.iter().any(|name| name == "*" || is_claims(name))
    };
    let list = asked.included_resources.iter().find(without_claims)?;
    let sentence =
        "persistentvolumeclaims are not among them, so nothing would be cut; add them, or remove the field";
    Some(refusal(list.field, sentence))
}

fn excluded_resources(asked: &RequestedFeatures) -> Option<String> {
    let excludes = |name: &&String| *name == "*" || is_claims(name);
    let (list, name) = asked
        .excluded_resources
        .iter()
        .find_map(|list| list.names.iter().find(excludes).map(|name| (list, name)))?;
    let sentence =
        format!("\"{name}\" leaves out persistentvolumeclaims, so nothing would be cut; take it out");
    Some(refusal(list.field, &sentence))
}

/// Resources other than PVCs that a list includes.
fn other_resources(list: &ResourceList) -> Option<String> {
    let others: BTreeSet<&str> =
        list.names.iter().map(String::as_str).filter(|name| *name != "*" && !is_claims(name)).collect();
    (!others.is_empty() && !list.names.iter().any(|name| name == "*")).then(|| {
        let sentence = format!(
            "volumes of persistentvolumeclaims are snapshotted, and no objects are backed up, so these have no effect: \
             {}; take them out",
            crate::planning::listed(others)
        );
        refusal(list.field, &sentence)
    })
}

/// Whether this is a name of PVCs in the discovery of the API server.
fn is_claims(resource: &str) -> bool {
    let name = resource.split('.').next().unwrap_or_default().to_lowercase();
    ["persistentvolumeclaims", "persistentvolumeclaim", "pvc"].contains(&name.as_str())
}

/// Whether this is a qualified name of Kubernetes: an optional DNS prefix and `/`, then a name of at most 63
/// characters.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_dns_subdomain) && is_part(name, 63, |c| c.is_ascii_alphanumeric(), "-_.")
}

fn is_dns_subdomain(prefix: &str) -> bool {
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    prefix.len() <= 253 && prefix.split('.').all(|part| is_part(part, 63, lower, "-"))
}

/// Whether the text is not empty and not too long, begins and ends with `plain` characters, and has `plain`
/// or `inner` characters between.
fn is_part(text: &str, longest: usize, plain: impl Fn(char) -> bool, inner: &str) -> bool {
    text.len() <= longest
        && text.starts_with(&plain)
        && text.ends_with(&plain)
        && text.chars().all(|c| plain(c) || inner.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> RequestedFeatures {
        RequestedFeatures { label_key: "velero.io/volume-group".into(), ..RequestedFeatures::default() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn list(field: &'static str, resources: &[&str]) -> Vec<ResourceList> {
        vec![ResourceList { field, names: names(resources) }]
    }

    /// Checks that a Backup changed by `change` is refused for exactly this field, or for none.
    fn check(change: impl FnOnce(&mut RequestedFeatures), field: Option<&str>) {
        let mut asked = plain();
        change(&mut asked);
        let refused = validate(&asked);
        assert_eq!(refused.len(), usize::from(field.is_some()), "{refused:?}");
        if let Some(field) = field {
            assert!(refused[0].starts_with(&format!("spec.{field}: ")), "{refused:?}");
            assert!(refused[0].contains("; "), "no way out: {refused:?}");
        }
    }

    #[test]
    fn refuses_fields_that_would_be_ignored() {
        check(|_| {}, None);
        check(|a| a.excluded_namespaces = names(&["x"]), Some("excludedNamespaces"));
        check(|a| a.label_selector = true, Some("labelSelector"));
        check(|a| a.or_label_selectors = true, Some("orLabelSelectors"));
        check(|a| a.resource_policy = true, Some("resourcePolicy"));
        check(|a| a.snapshot_move_data = true, Some("snapshotMoveData"));
        check(|a| a.snapshot_volumes = Some(false), Some("snapshotVolumes"));
        check(|a| a.snapshot_volumes = Some(true), None);
        check(|a| a.ordered_resources = true, Some("orderedResources"));
        check(|a| a.default_volumes_to_fs_backup = true, Some("defaultVolumesToFsBackup"));
        check(|a| a.default_volumes_to_restic = true, Some("defaultVolumesToRestic"));
    }

    #[test]
    fn hooks_are_refused_with_the_reason() {
        check(|a| a.hooks = true, Some("hooks"));
    }

    #[test]
    fn namespaces_are_names_or_single_star() {
        check(|a| a.included_namespaces = names(&["shop", "bank"]), None);
        check(|a| a.included_namespaces = names(&["*"]), None);
        for pattern in ["team-*", "t?", "team-[ab]", "{a,b}"] {
            check(|a| a.included_namespaces = names(&["shop", pattern]), Some("includedNamespaces"));
        }
        check(|a| a.included_namespaces = names(&["*", "shop"]), Some("includedNamespaces"));
        for malformed in ["", "Shop", "shop/db", "-shop", "shop."] {
            check(|a| a.included_namespaces = names(&[malformed]), Some("includedNamespaces"));
        }
    }

    #[test]
    fn resource_filter_must_include_pvcs() {
        for claims in
            ["*", "persistentvolumeclaims", "pvc", "PersistentVolumeClaims", "persistentvolumeclaims.v1"]
        {
            check(|a| a.included_resources = list("includedResources", &["pods", claims]), None);
            for field in ["excludedResources", "excludedNamespaceScopedResources"] {
                check(|a| a.excluded_resources = list(field, &["pods", claims]), Some(field));
            }
        }
        for field in ["includedResources", "includedNamespaceScopedResources"] {
            check(|a| a.included_resources = list(field, &["pods", "persistentvolumes"]), Some(field));
        }
        check(|a| a.excluded_resources = list("excludedResources", &["pods"]), None);
    }

    #[test]
    fn filters_of_both_kinds_are_refused_together() {
        check(|a| a.older_filters = vec!["includeClusterResources"], None);
        let both = |a: &mut RequestedFeatures| {
            a.older_filters = vec!["includeClusterResources"];
            a.scoped_filters = vec!["excludedClusterScopedResources"];
        };
        check(both, Some("includeClusterResources"));
    }

    #[test]
    fn each_ignored_field_is_named_once() {
        assert_eq!(ignored(&plain()), [""; 0]);
        let asked = RequestedFeatures {
            ttl: true,
            storage_location: true,
            volume_snapshot_locations: true,
            include_cluster_resources: true,
            included_cluster_scoped_resources: true,
            of_data_mover: vec!["datamover", "uploaderConfig", "backupType"],
            included_resources: list("includedResources", &["pods", "pvc", "pods"]),
            ..plain()
        };
        let warnings = ignored(&asked);
        let fields: Vec<&str> =
            warnings.iter().filter_map(|text| text.split_once(':')).map(|(f, _)| f).collect();
        let expected = [
            "spec.ttl",
            "spec.storageLocation",
            "spec.volumeSnapshotLocations",
            "spec.includeClusterResources",
            "spec.includedClusterScopedResources",
            "spec.datamover",
            "spec.uploaderConfig",
            "spec.backupType",
            "spec.includedResources",
        ];
        assert_eq!(fields, expected);
        assert!(warnings[8].contains("no effect: \"pods\"; take them out"), "{}", warnings[8]);
        assert_eq!(validate(&asked), [""; 0], "none of them is refused");
        let all = RequestedFeatures { included_resources: list("includedResources", &["*"]), ..plain() };
        assert_eq!(ignored(&all), [""; 0]);
    }

    #[test]
    fn rejects_invalid_label_key() {
        for key in ["velero.io/volume-group", "app", "A_b.c-1", "x/y"] {
            check(|a| a.label_key = key.into(), None);
        }
        for key in ["", "/", "a/", "/a", "a b", "-a", "a-", "A.io/x", "a..b/x", "a/b/c", "ä"] {
            check(|a| a.label_key = key.into(), Some("volumeGroupSnapshotLabelKey"));
        }
        check(|a| a.label_key = "n".repeat(64), Some("volumeGroupSnapshotLabelKey"));
        let flag = RequestedFeatures {
            label_key: "a b".into(),
            label_key_of_flag: true,
            ..RequestedFeatures::default()
        };
        assert!(validate(&flag)[0].starts_with("--volume-group-snapshot-label-key: \"a b\""));
    }

    #[test]
    fn reports_all_refused_fields_at_once() {
        let asked = RequestedFeatures { hooks: true, label_selector: true, resource_policy: true, ..plain() };
        assert_eq!(validate(&asked).len(), 3);
    }
}
