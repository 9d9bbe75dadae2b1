//! What this release refuses of a Backup as a whole, before any group is formed.
//!
//! A field that would be ignored is refused instead: a Backup that silently does less than it says is worse than one
//! that fails its validation. Each sentence names the field, the reason and the way out; they become
//! `status.validationErrors`.

/// The fields of a Backup that this release looks at but cannot serve in every form, as they were given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The label key that groups claims, with defaults put in.
    pub label_key: String,
    /// `spec.includedNamespaces`.
    pub included_namespaces: Vec<String>,
    /// `spec.excludedNamespaces`.
    pub excluded_namespaces: Vec<String>,
    /// `spec.includedResources` and `spec.includedNamespaceScopedResources`.
    pub included_resources: Vec<String>,
    /// `spec.excludedResources` and `spec.excludedNamespaceScopedResources`.
    pub excluded_resources: Vec<String>,
    /// `spec.labelSelector` selects something.
    pub label_selector: bool,
    /// `spec.orLabelSelectors` has an entry.
    pub or_label_selectors: bool,
    /// `spec.resourcePolicy` names a ConfigMap.
    pub resource_policy: bool,
    /// `spec.snapshotMoveData`.
    pub snapshot_move_data: bool,
    /// `spec.snapshotVolumes`; `None` where it is absent.
    pub snapshot_volumes: Option<bool>,
    /// `spec.hooks` has an entry.
    pub hooks: bool,
    /// `spec.orderedResources` has an entry.
    pub ordered_resources: bool,
    /// `spec.defaultVolumesToFsBackup`, or its older name.
    pub default_volumes_to_fs_backup: bool,
}

/// One sentence for each thing that is asked for and that this release does not do. Empty: the Backup can be planned.
pub fn validate(asked: &Asked) -> Vec<String> {
    let refused = [
        label_key(asked),
        wildcards(asked),
        excluded_namespaces(asked),
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
    ];
    refused.into_iter().flatten().collect()
}

const SELECTOR: &str = "a group is all claims of one label value, and a selector that leaves some of them out is not \
                        supported yet; remove the field and select by the group label";
const POLICY: &str = "volume policies are not supported yet, and a skipped volume would still be in the cut; remove \
                      the field and take the group label off the claims that are to be skipped";
const MOVE_DATA: &str = "moving the data out of the cluster is not supported yet; set the field to false and keep the \
                         snapshots in the cluster";
const NO_VOLUMES: &str =
    "snapshots of volumes are all that Stillpoint takes; set the field to true or remove it";
const HOOKS: &str = "hooks are not run, and a database would not be quiesced as the Backup says; remove the field (the \
                     cut is crash-consistent without them)";
const ORDER: &str = "all volumes of a group are cut at once, an order would have no effect; remove the field";
const FS_BACKUP: &str = "file system backup is not supported; set the field to false";

fn flag(asked: bool, field: &str, sentence: &str) -> Option<String> {
    asked.then(|| refusal(field, sentence))
}

fn refusal(field: &str, sentence: &str) -> String {
    format!("spec.{field}: {sentence}")
}

fn label_key(asked: &Asked) -> Option<String> {
    let key = &asked.label_key;
    (!is_label_key(key)).then(|| {
        let sentence =
            format!("\"{key}\" is not a label key; write it as prefix/name, as in velero.io/volume-group");
        refusal("volumeGroupSnapshotLabelKey", &sentence)
    })
}

fn wildcards(asked: &Asked) -> Option<String> {
    let names = &asked.included_namespaces;
    if names.len() == 1 && names[0] == "*" {
        return None;
    }
    let pattern = names.iter().find(|name| name.contains(['*', '?', '[', ']', '{', '}']))?;
    let sentence = format!(
        "the pattern \"{pattern}\" is not supported yet; list the namespaces by name, or leave the field empty for all"
    );
    Some(refusal("includedNamespaces", &sentence))
}

fn excluded_namespaces(asked: &Asked) -> Option<String> {
    (!asked.excluded_namespaces.is_empty()).then(|| {
        let sentence =
            "leaving out namespaces is not supported yet; list those that are wanted in includedNamespaces";
        refusal("excludedNamespaces", sentence)
    })
}

fn included_resources(asked: &Asked) -> Option<String> {
    let names = &asked.included_resources;
    (!names.is_empty() && !names.iter().any(|name| name == "*" || is_claims(name))).then(|| {
        let sentence = "persistentvolumeclaims are not among them, so nothing would be cut; add them, or remove the field";
        refusal("includedResources", sentence)
    })
}

fn excluded_resources(asked: &Asked) -> Option<String> {
    let name = asked.excluded_resources.iter().find(|name| *name == "*" || is_claims(name))?;
    let sentence =
        format!("\"{name}\" leaves out persistentvolumeclaims, so nothing would be cut; take it out");
    Some(refusal("excludedResources", &sentence))
}

/// The names that the API server's discovery knows for claims.
fn is_claims(resource: &str) -> bool {
    let name = resource.split('.').next().unwrap_or_default().to_lowercase();
    ["persistentvolumeclaims", "persistentvolumeclaim", "pvc"].contains(&name.as_str())
}

/// Kubernetes' qualified name: an optional DNS prefix and `/`, then a name of at most 63 characters.
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

/// Not empty, not too long, plain characters at both ends, plain or `inner` characters between.
fn is_part(text: &str, longest: usize, plain: impl Fn(char) -> bool, inner: &str) -> bool {
    text.len() <= longest
        && text.starts_with(&plain)
        && text.ends_with(&plain)
        && text.chars().all(|c| plain(c) || inner.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Asked {
        Asked { label_key: "velero.io/volume-group".into(), ..Asked::default() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// A Backup changed by `change` is refused for exactly this field, or for none.
    fn check(change: impl FnOnce(&mut Asked), field: Option<&str>) {
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
    fn what_would_be_ignored_is_refused() {
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
    }

    #[test]
    fn hooks_are_refused_with_the_reason() {
        check(|a| a.hooks = true, Some("hooks"));
    }

    #[test]
    fn namespaces_are_names_or_one_star() {
        check(|a| a.included_namespaces = names(&["shop", "bank"]), None);
        check(|a| a.included_namespaces = names(&["*"]), None);
        for pattern in ["team-*", "t?", "team-[ab]", "{a,b}"] {
            check(|a| a.included_namespaces = names(&["shop", pattern]), Some("includedNamespaces"));
        }
        check(|a| a.included_namespaces = names(&["*", "shop"]), Some("includedNamespaces"));
    }

    #[test]
    fn resources_must_leave_the_claims_in() {
        for claims in
            ["*", "persistentvolumeclaims", "pvc", "PersistentVolumeClaims", "persistentvolumeclaims.v1"]
        {
            check(|a| a.included_resources = names(&["pods", claims]), None);
            check(|a| a.excluded_resources = names(&["pods", claims]), Some("excludedResources"));
        }
        check(|a| a.included_resources = names(&["pods", "persistentvolumes"]), Some("includedResources"));
        check(|a| a.excluded_resources = names(&["pods"]), None);
    }

    #[test]
    fn the_label_key_must_be_one() {
        for key in ["velero.io/volume-group", "app", "A_b.c-1", "x/y"] {
            check(|a| a.label_key = key.into(), None);
        }
        for key in ["", "/", "a/", "/a", "a b", "-a", "a-", "A.io/x", "a..b/x", "a/b/c", "ä"] {
            check(|a| a.label_key = key.into(), Some("volumeGroupSnapshotLabelKey"));
        }
        check(|a| a.label_key = "n".repeat(64), Some("volumeGroupSnapshotLabelKey"));
    }

    #[test]
    fn everything_that_is_refused_is_said_at_once() {
        let asked = Asked { hooks: true, label_selector: true, resource_policy: true, ..plain() };
        assert_eq!(validate(&asked).len(), 3);
    }
}
