//! Selects the class of a group in Velero's order: the annotation of the PVCs, the annotation of the Backup
//! for the driver, the class that is marked as default (Velero `pvc_action.go`,
//! `pkg/util/csi/volume_snapshot.go`).
//!
//! It is stricter than Velero in three cases, because a wrong class fails only after the cut: a named class
//! must exist and belong to the driver, the annotations of the members must agree, and several defaults count
//! as none. A source is used only if every earlier source is empty.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::labels;
use crate::domain::limits;
use crate::domain::problem::{About, Code, Problem};
use crate::planning::inventory::{ClassInfo, PvcInfo};
use crate::planning::listed;

/// Rules for selecting a class of one kind.
pub(super) struct Tiers {
    kind: &'static str,
    code: Code,
    /// Annotation on a PVC.
    of_claim: &'static str,
    /// Annotation prefix on the Backup; the driver follows.
    of_backup_prefix: &'static str,
    /// Marks of a default, strongest first.
    marks: &'static [Mark],
    /// Whether the only class of the driver is used without a mark.
    only_one_will_do: bool,
    /// Resource name of the kind for kubectl.
    resource: &'static str,
    /// Label that marks a default.
    label: &'static str,
}

/// One way to mark a class as default.
struct Mark {
    name: &'static str,
    is_on: fn(&ClassInfo) -> bool,
}

/// Rules for the VolumeGroupSnapshotClass of the cut.
pub(super) const GROUP_CLASS: Tiers = Tiers {
    kind: "VolumeGroupSnapshotClass",
    code: Code::GroupClass,
    of_claim: labels::GROUP_CLASS_OF_PVC,
    of_backup_prefix: labels::GROUP_CLASS_OF_BACKUP_PREFIX,
    marks: &[Mark {
        name: "label velero.io/csi-volumegroupsnapshot-class=true",
        is_on: |class| is_true(&class.labels, labels::GROUP_CLASS_DEFAULT),
    }],
    only_one_will_do: false,
    resource: "volumegroupsnapshotclass",
    label: labels::GROUP_CLASS_DEFAULT,
};

/// Rules for the VolumeSnapshotClass that the release sets on the members.
pub(super) const SNAPSHOT_CLASS: Tiers = Tiers {
    kind: "VolumeSnapshotClass",
    code: Code::SnapshotClass,
    of_claim: labels::CLASS_OF_PVC,
    of_backup_prefix: labels::CLASS_OF_BACKUP_PREFIX,
    marks: &[
        Mark {
            name: "label velero.io/csi-volumesnapshot-class",
            is_on: |class| class.labels.contains_key(labels::CLASS_DEFAULT),
        },
        Mark {
            name: "annotation snapshot.storage.kubernetes.io/is-default-class=true",
            is_on: |class| is_true(&class.annotations, labels::CLASS_IS_DEFAULT),
        },
    ],
    only_one_will_do: true,
    resource: "volumesnapshotclass",
    label: labels::CLASS_DEFAULT,
};

/// Inputs for selecting a class.
pub(super) struct Considered<'a> {
    pub about: &'a About,
    /// Its PVCs.
    pub claims: &'a [&'a PvcInfo],
    /// Annotations of the Backup.
    pub backup: &'a BTreeMap<String, String>,
    pub driver: &'a str,
    /// All classes of the kind.
    pub classes: &'a [ClassInfo],
}

impl Tiers {
    /// Returns the name of the class.
    ///
    /// # Errors
    /// No class is left, or several; the PVCs disagree; or the named class is missing or belongs to another
    /// driver.
    pub(super) fn choose(&self, from: &Considered<'_>) -> Result<String, Problem> {
        if let Some(name) = self.named_by_claims(from)? {
            return self.check_named(from, name, &format!("annotation {} of the claims", self.of_claim));
        }
        if let Some((key, name)) = self.named_by_backup(from) {
            return self.check_named(from, name, &format!("annotation {key} of the Backup"));
        }
        self.marked(from)
    }

    fn named_by_claims<'a>(&self, from: &Considered<'a>) -> Result<Option<&'a str>, Problem> {
        let named: Vec<(&str, &str)> = from
            .claims
            .iter()
            .filter_map(|claim| Some((value(&claim.annotations, self.of_claim)?, claim.name.as_str())))
            .collect();
        let names: BTreeSet<&str> = named.iter().map(|(class, _)| *class).collect();
        if names.len() > 1 {
            let claims = named.iter().map(|(class, claim)| format!("\"{claim}\" asks for \"{class}\""));
            let reason = format!(
                "the claims disagree on the {}: {}",
                self.kind,
                claims.collect::<Vec<_>>().join(", ")
            );
            let fix = format!("let the annotation {} of all members name the same class", self.of_claim);
            return Err(self.refusal(from.about.clone(), &reason, fix));
        }
        Ok(names.into_iter().next())
    }

    /// The annotation with the driver as it is, else with the driver in lower case, as Velero does.
    fn named_by_backup<'a>(&self, from: &Considered<'a>) -> Option<(String, &'a str)> {
        let keys = [from.driver.to_owned(), from.driver.to_lowercase()];
        let mut keys = keys.map(|driver| format!("{}{driver}", self.of_backup_prefix)).into_iter();
        keys.find_map(|key| value(from.backup, &key).map(|name| (key, name)))
    }

    fn check_named(&self, from: &Considered<'_>, name: &str, origin: &str) -> Result<String, Problem> {
        let about = About::new(self.kind, "", name);
        let Some(class) = from.classes.iter().find(|class| class.name == name) else {
            let reason =
                format!("the {origin} names this class, which does not exist; there are: {}", all(from));
            return Err(self.refusal(about, &reason, "create the class, or correct the annotation".into()));
        };
        if class.driver != from.driver {
            let reason = format!(
                "the {origin} names this class of driver {}, the volumes of group \"{}\" belong to {}",
                class.driver, from.about.name, from.driver
            );
            let fix = format!("name a class of driver {}; there are: {}", from.driver, of_driver(from));
            return Err(self.refusal(about, &reason, fix));
        }
        Ok(class.name.clone())
    }

    fn marked(&self, from: &Considered<'_>) -> Result<String, Problem> {
        let own: Vec<&ClassInfo> = from.classes.iter().filter(|class| class.driver == from.driver).collect();
        for mark in self.marks {
            let marked: Vec<&ClassInfo> = own.iter().copied().filter(|class| (mark.is_on)(class)).collect();
            match marked.as_slice() {
                [] => {}
                [only] => return Ok(only.name.clone()),
                several => return Err(self.several(from, mark, several)),
            }
        }
        match own.as_slice() {
            [only] if self.only_one_will_do => Ok(only.name.clone()),
            _ => Err(self.none(from)),
        }
    }

    fn several(&self, from: &Considered<'_>, mark: &Mark, classes: &[&ClassInfo]) -> Problem {
        let names: BTreeSet<&str> = classes.iter().map(|class| class.name.as_str()).collect();
        let reason = format!(
            "several {}es of driver {} are marked as default by {}: {}",
            self.kind,
            from.driver,
            mark.name,
            listed(names)
        );
        let fix = format!(
            "leave the mark on one of them, or name one in the annotation {} of the claims",
            self.of_claim
        );
        self.refusal(from.about.clone(), &reason, fix)
    }

    fn none(&self, from: &Considered<'_>) -> Problem {
        let marks: Vec<&str> = self.marks.iter().map(|mark| mark.name).collect();
        let reason = format!(
            "no {} of driver {} is named by claims or Backup or marked as default by {}; classes of the driver: {}, \
             of other drivers: {}",
            self.kind,
            from.driver,
            marks.join(" or "),
            of_driver(from),
            of_others(from)
        );
        self.refusal(from.about.clone(), &reason, self.how_to_have_one(from))
    }

    /// Instruction to mark an existing class. If no class exists, the instruction is to create one.
    fn how_to_have_one(&self, from: &Considered<'_>) -> String {
        let Self { kind, resource, label, of_claim, .. } = self;
        let own: Vec<&str> = from
            .classes
            .iter()
            .filter(|class| class.driver == from.driver)
            .map(|class| class.name.as_str())
            .collect();
        let mark = |name: &str| {
            format!(
                "kubectl label {resource} {name} {label}=true, or name a class of the driver in the annotation {of_claim} \
                 of the claims"
            )
        };
        match own.as_slice() {
            [] => format!(
                "create a {kind} with driver: {}, deletionPolicy: Delete, the label {label}: \"true\" and the parameters \
                 that the driver needs (docs/groups.md has an example)",
                from.driver
            ),
            [only] => mark(only),
            _ => mark("NAME"),
        }
    }

    fn refusal(&self, about: About, reason: &str, fix: String) -> Problem {
        Problem::new(self.code, about, limits::clip(reason), limits::clip(&fix))
    }
}

fn value<'a>(entries: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    entries.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

fn is_true(entries: &BTreeMap<String, String>, key: &str) -> bool {
    value(entries, key) == Some("true")
}

fn names(from: &Considered<'_>, wanted: impl Fn(&ClassInfo) -> bool) -> String {
    let names: BTreeSet<&str> =
        from.classes.iter().filter(|class| wanted(class)).map(|class| class.name.as_str()).collect();
    listed(names)
}

fn all(from: &Considered<'_>) -> String {
    names(from, |_| true)
}

fn of_driver(from: &Considered<'_>) -> String {
    names(from, |class| class.driver == from.driver)
}

fn of_others(from: &Considered<'_>) -> String {
    names(from, |class| class.driver != from.driver)
}

#[cfg(test)]
mod tests {
    use crate::domain::problem::Code;
    use crate::planning::ClassInfo;
    use crate::planning::fixture::{Scene, class, refusal};

    const MARK: &str = "velero.io/csi-volumegroupsnapshot-class";
    const BACKUP_KEY: &str = "velero.io/csi-volumegroupsnapshot-class_disk.csi";
    const CLAIM_KEY: &str = "velero.io/csi-volume-group-snapshot-class";
    const SNAPSHOT_MARK: &str = "velero.io/csi-volumesnapshot-class";
    const IS_DEFAULT: &str = "snapshot.storage.kubernetes.io/is-default-class";

    type Annotations = Vec<(usize, &'static str, &'static str)>;

    /// Classes of both kinds, annotations of PVCs (by number) and of the Backup.
    #[derive(Default)]
    struct Case {
        group: Vec<ClassInfo>,
        snapshot: Vec<ClassInfo>,
        claims: Annotations,
        backup: Vec<(&'static str, &'static str)>,
    }

    fn scene(case: Case) -> Scene {
        let mut scene = Scene::new(3);
        if !case.group.is_empty() {
            scene.inventory.group_classes = case.group;
        }
        if !case.snapshot.is_empty() {
            scene.inventory.snapshot_classes = case.snapshot;
        }
        for (number, key, value) in case.claims {
            scene.claim(number).annotations.insert(key.into(), value.into());
        }
        let backup = case.backup.into_iter().map(|(key, value)| (key.into(), value.into()));
        scene.request.annotations.extend(backup);
        scene
    }

    fn check_group_class(case: Case, expected: &str) {
        let formed = scene(case).form();
        assert_eq!(formed.refused, []);
        assert_eq!(formed.plans[0].group_class, expected);
    }

    fn check_snapshot_class(case: Case, expected: &str) {
        let formed = scene(case).form();
        assert_eq!(formed.refused, []);
        assert_eq!(formed.plans[0].snapshot_class, expected);
    }

    fn check_refused(case: Case, code: Code, object: &str, words: &[&str]) {
        let problem = refusal(&scene(case));
        assert_eq!((problem.code, problem.about.to_string().as_str()), (code, object), "{problem}");
        words.iter().for_each(|word| assert!(problem.reason.contains(word), "{word}: {problem}"));
        assert!(!problem.fix.is_empty());
    }

    fn three() -> Vec<ClassInfo> {
        vec![
            class("plain", "disk.csi"),
            class("default", "disk.csi").label(MARK, "true"),
            class("foreign", "other.csi").label(MARK, "true"),
        ]
    }

    #[test]
    fn annotation_of_pvcs_comes_first() {
        let (claims, backup) = (vec![(1, CLAIM_KEY, "plain")], vec![(BACKUP_KEY, "default")]);
        check_group_class(Case { group: three(), claims, backup, ..Case::default() }, "plain");
    }

    #[test]
    fn backup_annotation_for_the_driver_comes_second() {
        let backup = vec![(BACKUP_KEY, "plain")];
        check_group_class(Case { group: three(), backup, ..Case::default() }, "plain");
        let backup = vec![("velero.io/csi-volumegroupsnapshot-class_other.csi", "plain")];
        check_group_class(Case { group: three(), backup, ..Case::default() }, "default");
    }

    #[test]
    fn class_labelled_for_the_driver_comes_third() {
        check_group_class(Case { group: three(), ..Case::default() }, "default");
        let claims = vec![(0, CLAIM_KEY, "")];
        check_group_class(Case { group: three(), claims, ..Case::default() }, "default");
    }

    #[test]
    fn refuses_group_without_marked_class() {
        let group = vec![class("plain", "disk.csi").label(MARK, "yes"), class("foreign", "other.csi")];
        let words =
            ["no VolumeGroupSnapshotClass of driver disk.csi", "\"plain\"", "other drivers: \"foreign\""];
        check_refused(Case { group, ..Case::default() }, Code::GroupClass, "group shop/db", &words);
    }

    #[test]
    fn advice_for_missing_class_matches_existing_classes() {
        let fix = |group: Vec<ClassInfo>| refusal(&scene(Case { group, ..Case::default() })).fix;
        let none = fix(vec![class("foreign", "other.csi").label(MARK, "true")]);
        assert!(none.starts_with("create a VolumeGroupSnapshotClass with driver: disk.csi, "), "{none}");
        assert!(
            none.contains("velero.io/csi-volumegroupsnapshot-class: \"true\"")
                && !none.contains("kubectl label")
        );
        let one = fix(vec![class("plain", "disk.csi")]);
        assert!(one.starts_with("kubectl label volumegroupsnapshotclass plain velero.io/"), "{one}");
        let two = fix(vec![class("a", "disk.csi"), class("b", "disk.csi")]);
        assert!(two.starts_with("kubectl label volumegroupsnapshotclass NAME velero.io/"), "{two}");
    }

    #[test]
    fn refuses_several_marked_classes() {
        let mut group = three();
        group.push(class("again", "disk.csi").label(MARK, "true"));
        let words = ["several VolumeGroupSnapshotClasses of driver disk.csi", "\"again\", \"default\""];
        check_refused(Case { group, ..Case::default() }, Code::GroupClass, "group shop/db", &words);
    }

    #[test]
    fn a_named_class_must_exist() {
        let claims = vec![(0, CLAIM_KEY, "gone")];
        let case = Case { group: three(), claims, ..Case::default() };
        let words = [CLAIM_KEY, "does not exist", "\"default\", \"foreign\", \"plain\""];
        check_refused(case, Code::GroupClass, "VolumeGroupSnapshotClass gone", &words);
        let case = Case { group: three(), backup: vec![(BACKUP_KEY, "gone")], ..Case::default() };
        check_refused(
            case,
            Code::GroupClass,
            "VolumeGroupSnapshotClass gone",
            &[BACKUP_KEY, "of the Backup"],
        );
    }

    #[test]
    fn a_named_class_must_be_of_the_driver() {
        let claims = vec![(2, CLAIM_KEY, "foreign")];
        let case = Case { group: three(), claims, ..Case::default() };
        let words = ["driver other.csi", "belong to disk.csi"];
        check_refused(case, Code::GroupClass, "VolumeGroupSnapshotClass foreign", &words);
    }

    #[test]
    fn members_that_name_a_class_must_agree() {
        let claims = vec![(0, CLAIM_KEY, "plain"), (2, CLAIM_KEY, "default")];
        let case = Case { group: three(), claims, ..Case::default() };
        let words = ["disagree", "\"data-0\" asks for \"plain\"", "\"data-2\" asks for \"default\""];
        check_refused(case, Code::GroupClass, "group shop/db", &words);
    }

    #[test]
    fn chooses_release_class_in_five_tiers() {
        let classes = || {
            vec![
                class("plain", "disk.csi"),
                class("k8s", "disk.csi").annotation(IS_DEFAULT, "true"),
                class("velero", "disk.csi").label(SNAPSHOT_MARK, ""),
                class("foreign", "other.csi").label(SNAPSHOT_MARK, "true"),
            ]
        };
        let backup = || vec![("velero.io/csi-volumesnapshot-class_disk.csi", "k8s")];
        let claims = vec![(0, SNAPSHOT_MARK, "plain")];
        check_snapshot_class(
            Case { snapshot: classes(), claims, backup: backup(), ..Case::default() },
            "plain",
        );
        check_snapshot_class(Case { snapshot: classes(), backup: backup(), ..Case::default() }, "k8s");
        check_snapshot_class(Case { snapshot: classes(), ..Case::default() }, "velero");
        let mut unlabelled = classes();
        unlabelled.remove(2);
        check_snapshot_class(Case { snapshot: unlabelled, ..Case::default() }, "k8s");
        let only = vec![class("plain", "disk.csi"), class("foreign", "other.csi")];
        check_snapshot_class(Case { snapshot: only, ..Case::default() }, "plain");
    }

    #[test]
    fn backup_annotation_accepts_driver_in_lower_case() {
        let mut scene = Scene::new(1);
        scene.volume(0).csi.as_mut().expect("csi").driver = "Disk.CSI".into();
        scene.inventory.group_classes = vec![class("plain", "Disk.CSI").label(MARK, "true")];
        scene.inventory.snapshot_classes = vec![class("a", "Disk.CSI"), class("b", "Disk.CSI")];
        scene.request.annotations.insert("velero.io/csi-volumesnapshot-class_disk.csi".into(), "b".into());
        assert_eq!(scene.form().plans[0].snapshot_class, "b");
    }

    #[test]
    fn refuses_group_without_release_class_before_cut() {
        let refused = |snapshot: Vec<ClassInfo>, words: &[&str]| {
            let case = Case { snapshot, ..Case::default() };
            check_refused(case, Code::SnapshotClass, "group shop/db", words);
        };
        refused(
            vec![class("foreign", "other.csi")],
            &["no VolumeSnapshotClass of driver disk.csi", "\"foreign\""],
        );
        refused(
            vec![class("a", "disk.csi"), class("b", "disk.csi")],
            &["classes of the driver: \"a\", \"b\""],
        );
        let two = [class("a", "disk.csi"), class("b", "disk.csi")];
        refused(two.clone().map(|c| c.label(SNAPSHOT_MARK, "true")).into(), &["several", "\"a\", \"b\""]);
        refused(two.map(|c| c.annotation(IS_DEFAULT, "true")).into(), &["several", IS_DEFAULT]);
    }

    #[test]
    fn named_release_class_must_exist_for_driver() {
        let snapshot = || vec![class("a", "disk.csi"), class("foreign", "other.csi")];
        let refused = |name: &'static str, object: &str| {
            let claims = vec![(0, SNAPSHOT_MARK, name)];
            let case = Case { snapshot: snapshot(), claims, ..Case::default() };
            check_refused(case, Code::SnapshotClass, object, &[SNAPSHOT_MARK]);
        };
        refused("gone", "VolumeSnapshotClass gone");
        refused("foreign", "VolumeSnapshotClass foreign");
    }
}
