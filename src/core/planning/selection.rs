//! Selects the PVCs of a request, each once, and reports those that are not part of the Backup.
//!
//! Namespaces and PVCs with the label `velero.io/exclude-from-backup=true` are excluded, as in Velero
//! (`backup_controller.go`, `item_backupper.go`). A namespace that the Backup names and its label excludes is
//! refused: Velero refuses such a Backup as a whole. If a PVC of a group has this label, `members` refuses
//! the group.
//!
//! A Backup without any group reports that: as an error if the user named a label key that no PVC has, else
//! as a warning.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::labels;
use crate::domain::limits;
use crate::domain::problem::{About, Code, Problem};
use crate::domain::spelling;
use crate::domain::text::count;
use crate::planning::groups::{Formed, RefusedGroup, group_of};
use crate::planning::inventory::{Inventory, NamespaceInfo, PvcInfo, Request};
use crate::planning::listed;

/// Label key of the first version of Velero's design. Users may still have it on their PVCs.
const OLD_DESIGN_KEY: &str = "velero.io/volume-group-snapshot";

/// Selects the PVCs of the included namespaces, each once, sorted by namespace and name. Refuses namespaces
/// that cannot be included, and warns of those that are excluded.
pub(super) fn select<'a>(
    request: &Request,
    inventory: &'a Inventory,
    formed: &mut Formed,
) -> Vec<&'a PvcInfo> {
    let known: BTreeMap<&str, &NamespaceInfo> =
        inventory.namespaces.iter().map(|namespace| (namespace.name.as_str(), namespace)).collect();
    let mut wanted: BTreeSet<&str> = match request.all_namespaces() {
        true => known.keys().copied().collect(),
        false => request.included_namespaces.iter().map(String::as_str).collect(),
    };
    let missing: Vec<&str> = wanted.iter().copied().filter(|name| !known.contains_key(name)).collect();
    let excluded: Vec<&str> =
        wanted.iter().copied().filter(|name| known.get(name).is_some_and(|one| one.excluded)).collect();
    formed.refused.extend(missing.iter().map(|name| refused(namespace_missing(name))));
    if request.all_namespaces() {
        formed.warnings.extend(namespaces_left_out(&excluded));
    } else {
        formed.refused.extend(excluded.iter().map(|name| refused(namespace_excluded(name))));
    }
    missing.into_iter().chain(excluded).for_each(|name| {
        wanted.remove(name);
    });
    let claims: BTreeMap<(&str, &str), &PvcInfo> = inventory
        .claims
        .iter()
        .filter(|claim| wanted.contains(claim.namespace.as_str()))
        .map(|claim| ((claim.namespace.as_str(), claim.name.as_str()), claim))
        .collect();
    claims.into_values().collect()
}

/// Reports the selected PVCs that are in no group. If none is in a group, reports that nothing will be cut.
pub(super) fn report_ungrouped(request: &Request, claims: &[&PvcInfo], formed: &mut Formed) {
    let key = &request.label_key;
    let (grouped, ungrouped): (Vec<&PvcInfo>, Vec<&PvcInfo>) =
        claims.iter().partition(|claim| group_of(key, claim).is_some());
    // The label shows that its owner excluded the PVC on purpose.
    let ungrouped: Vec<&PvcInfo> = ungrouped.into_iter().filter(|claim| !claim.is_excluded()).collect();
    match (grouped.len(), ungrouped.len()) {
        (0, 0) => formed.warnings.extend(nothing_selected(request, formed)),
        (0, _) if request.label_key_explicit => {
            let problem = no_such_group(request, &ungrouped);
            formed.refused.push(RefusedGroup { namespace: String::new(), group: String::new(), problem });
        }
        (0, _) => {
            let text = format!(
                "no PVC in {} carries the label {key} with a value: nothing was cut{}; label the PVCs of a group with \
                 {key}=NAME, or name the label in spec.volumeGroupSnapshotLabelKey",
                selected(request),
                other_keys(key, &ungrouped)
            );
            formed.warnings.push(limits::clip(&text));
        }
        (_, 0) => {}
        _ => formed.warnings.push(not_part(key, &ungrouped)),
    }
}

/// None if a refusal already explains that nothing is cut.
fn nothing_selected(request: &Request, formed: &Formed) -> Option<String> {
    formed.refused.is_empty().then(|| {
        let text = format!("there is no PVC in {}: nothing was cut", selected(request));
        limits::clip(&text)
    })
}

/// The namespaces of the request, for a message.
fn selected(request: &Request) -> String {
    match request.included_namespaces.as_slice() {
        _ if request.all_namespaces() => "any namespace that is not excluded".to_owned(),
        [only] => format!("namespace {only}"),
        names => format!("the namespaces {}", listed(names.iter().map(String::as_str))),
    }
}

fn not_part(key: &str, ungrouped: &[&PvcInfo]) -> String {
    let names: Vec<String> =
        ungrouped.iter().map(|claim| format!("{}/{}", claim.namespace, claim.name)).collect();
    let (carry, they_are, them) =
        if names.len() == 1 { ("carries", "it is", "it") } else { ("carry", "they are", "them") };
    limits::clip(&format!(
        "{} {carry} no value of the label {key}, so {they_are} not part of the Backup: {}; label {them} with {key}=NAME \
         to cut {them}",
        count(names.len(), "PVC"),
        listed(names.iter().map(String::as_str))
    ))
}

fn no_such_group(request: &Request, ungrouped: &[&PvcInfo]) -> Problem {
    let key = &request.label_key;
    let reason = format!(
        "no PVC in {} carries the label {key}, which spec.volumeGroupSnapshotLabelKey names: nothing was cut{}",
        selected(request),
        other_keys(key, ungrouped)
    );
    Problem::new(
        Code::InvalidBackup,
        About::new("Backup", &request.backup.namespace, &request.backup.name),
        limits::clip(&reason),
        "correct the label key, or label the PVCs of a group, and create the Backup again under a new name",
    )
}

/// Keys on the PVCs that the user may have meant: a similarly spelled key, or the key of Velero's first
/// design.
fn other_keys(key: &str, ungrouped: &[&PvcInfo]) -> String {
    let mut carried = BTreeMap::<&str, usize>::new();
    for label in ungrouped.iter().flat_map(|claim| claim.labels.keys()).filter(|label| *label != key) {
        *carried.entry(label).or_default() += 1;
    }
    let old = carried.contains_key(OLD_DESIGN_KEY).then_some(OLD_DESIGN_KEY);
    let other = old.or_else(|| spelling::closest(key, carried.keys().copied()));
    other.map_or_else(String::new, |other| {
        let number = carried[other];
        let carry = if number == 1 { "carries" } else { "carry" };
        format!(" ({} {carry} {other})", count(number, "PVC"))
    })
}

fn namespaces_left_out(excluded: &[&str]) -> Option<String> {
    let label = labels::EXCLUDE_FROM_BACKUP;
    let (are, it) = if excluded.len() == 1 { ("is", "it is") } else { ("are", "they are") };
    (!excluded.is_empty()).then(|| {
        limits::clip(&format!(
            "{} {are} labelled {label}=true, so {it} not part of the Backup: {}; take the label off to cut their PVCs",
            count(excluded.len(), "namespace"),
            listed(excluded.iter().copied())
        ))
    })
}

/// A refusal of a namespace as a whole. The problem names it.
fn refused(problem: Problem) -> RefusedGroup {
    RefusedGroup { namespace: problem.about.name.clone(), group: String::new(), problem }
}

fn namespace_missing(name: &str) -> Problem {
    Problem::new(
        Code::NamespaceMissing,
        About::new("Namespace", "", name),
        "the Backup includes this namespace, which does not exist",
        "create it, or take it out of spec.includedNamespaces",
    )
}

fn namespace_excluded(name: &str) -> Problem {
    let label = labels::EXCLUDE_FROM_BACKUP;
    Problem::new(
        Code::InvalidBackup,
        About::new("Namespace", "", name),
        format!("the Backup includes this namespace, and its label {label}=true excludes it"),
        "take the label off it, or take it out of spec.includedNamespaces",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planning::fixture::{Scene, refusal};

    /// Namespace `shop` with a group, and namespace `bank` with one that its label excludes.
    fn with_excluded(included: &[&str]) -> Scene {
        let mut scene = Scene::new(1);
        scene.namespace("bank");
        scene.add("bank", "db");
        scene.inventory.namespaces[1].excluded = true;
        scene.request.included_namespaces = included.iter().map(|name| (*name).to_owned()).collect();
        scene
    }

    #[test]
    fn skips_excluded_namespace_with_warning() {
        for all in [&[][..], &["*"]] {
            let formed = with_excluded(all).form();
            assert_eq!((formed.plans.len(), formed.refused), (1, vec![]));
            let expected = "1 namespace is labelled velero.io/exclude-from-backup=true, so it is not part of the Backup: \
                            \"bank\"; take the label off to cut their PVCs";
            assert_eq!(formed.warnings, [expected]);
        }
        assert_eq!(with_excluded(&["shop"]).form().warnings, [""; 0], "it was not asked for");
    }

    #[test]
    fn refuses_excluded_namespace_named_in_spec() {
        let formed = with_excluded(&["shop", "bank"]).form();
        assert_eq!((formed.plans.len(), formed.refused.len(), formed.warnings.len()), (1, 1, 0));
        let refused = &formed.refused[0];
        assert_eq!((refused.namespace.as_str(), refused.problem.code), ("bank", Code::InvalidBackup));
        assert!(refused.problem.reason.contains("velero.io/exclude-from-backup=true"), "{}", refused.problem);
    }

    #[test]
    fn duplicate_namespace_counts_once() {
        let mut scene = Scene::new(2);
        scene.request.included_namespaces = ["shop", "shop", "gone", "gone"].map(str::to_owned).into();
        // The PVCs of a namespace that was read twice.
        scene.inventory.claims.extend(scene.inventory.claims.clone());
        let formed = scene.form();
        assert_eq!((formed.plans.len(), formed.refused.len()), (1, 1), "{formed:?}");
        assert_eq!(formed.plans[0].members.len(), 2);
    }

    #[test]
    fn warns_that_backup_without_pvcs_snapshots_nothing() {
        assert_eq!(Scene::new(0).form().warnings, ["there is no PVC in namespace shop: nothing was cut"]);
        let mut scene = Scene::new(0);
        scene.request.label_key_explicit = true;
        scene.request.included_namespaces.clear();
        let formed = scene.form();
        assert_eq!(formed.refused, [], "no PVC could carry the label");
        assert_eq!(
            formed.warnings,
            ["there is no PVC in any namespace that is not excluded: nothing was cut"]
        );
        scene.request.included_namespaces = vec!["gone".to_owned()];
        let formed = scene.form();
        assert_eq!((formed.refused.len(), formed.warnings.len()), (1, 0), "the refusal says it");
    }

    #[test]
    fn refuses_spec_label_key_without_any_pvc() {
        let mut scene = Scene::new(2);
        scene.request.label_key = "velero.io/volume-groups".to_owned();
        scene.request.label_key_explicit = true;
        let problem = refusal(&scene);
        let expected = "SP0002 Backup stillpoint/nightly: no PVC in namespace shop carries the label \
                        velero.io/volume-groups, which spec.volumeGroupSnapshotLabelKey names: nothing was cut (2 PVCs carry \
                        velero.io/volume-group); correct the label key, or label the PVCs of a group, and create the \
                        Backup again under a new name";
        assert_eq!(problem.to_string(), expected);
    }

    #[test]
    fn warns_about_default_label_key_without_pvc() {
        let mut scene = Scene::new(0);
        scene.add("shop", "");
        let formed = scene.form();
        assert_eq!((formed.plans.len(), formed.refused.len(), formed.warnings.len()), (0, 0, 1));
        let expected = "no PVC in namespace shop carries the label velero.io/volume-group with a value: nothing was cut;";
        assert!(formed.warnings[0].starts_with(expected), "{}", formed.warnings[0]);
        scene.claim(0).labels.insert(OLD_DESIGN_KEY.into(), "db".into());
        let text = &scene.form().warnings[0];
        assert!(text.contains("(1 PVC carries velero.io/volume-group-snapshot)"), "{text}");
    }

    #[test]
    fn names_ungrouped_pvcs_in_bounded_text() {
        let mut scene = Scene::new(1);
        for _ in 0..100 {
            scene.add("shop", "");
        }
        let [text] = &scene.form().warnings[..] else { panic!("one warning") };
        assert!(text.starts_with("100 PVCs carry no value of the label velero.io/volume-group"), "{text}");
        assert!(text.contains("\"shop/data-1\"") && text.contains("and 94 more;"), "{text}");
        assert!(text.len() <= limits::MAX_TEXT_BYTES, "{text}");
    }

    #[test]
    fn excluded_pvc_without_group_causes_no_warning() {
        let mut scene = Scene::new(1);
        scene.add("shop", "");
        scene.claim(1).labels.insert(labels::EXCLUDE_FROM_BACKUP.into(), "true".into());
        assert_eq!(scene.form().warnings, [""; 0]);
    }
}
