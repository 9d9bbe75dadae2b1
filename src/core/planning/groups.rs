//! Builds plans from PVCs: one group for each namespace and each value of the label key.
//!
//! Plans are sorted by namespace, label value and PVC name, independent of the order of the inventory. The
//! label alone is the selector of the cut. Every PVC with the label is therefore a member, or the group is
//! refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::StreamId;
use crate::domain::limits;
use crate::domain::plan::{GroupClass, Plan};
use crate::domain::problem::{About, Code, Problem};
use crate::domain::text::count;
use crate::domain::time::Timestamp;
use crate::planning::class::{Considered, GROUP_CLASS, SNAPSHOT_CLASS};
use crate::planning::inventory::{Inventory, PvcInfo, Request};
use crate::planning::members::{self, Volumes};
use crate::planning::selection;

/// Result of planning a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Formed {
    /// Plans, sorted by namespace and group.
    pub plans: Vec<Plan>,
    /// Groups and namespaces that cannot be planned.
    pub refused: Vec<RefusedGroup>,
    /// Warnings about the Backup as a whole. Warnings about one group are in its plan.
    pub warnings: Vec<String>,
}

/// A group that cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedGroup {
    pub namespace: String,
    /// Label value; empty if the namespace as a whole is refused. If both are empty, the Backup as a whole is
    /// refused.
    pub group: String,
    /// Reason and fix.
    pub problem: Problem,
}

/// Plans every group of `request`. Pure: `now` becomes [`Plan::planned_at`].
pub fn form_groups(request: &Request, inventory: &Inventory, now: Timestamp) -> Formed {
    let mut formed = Formed { warnings: request.warnings.clone(), ..Formed::default() };
    let claims = selection::select(request, inventory, &mut formed);
    selection::report_ungrouped(request, &claims, &mut formed);
    let groups = grouped(&request.label_key, &claims);

    let volumes: Volumes<'_> =
        inventory.volumes.iter().map(|volume| (volume.name.as_str(), volume)).collect();
    let terminating: BTreeSet<&str> =
        inventory.namespaces.iter().filter(|ns| ns.terminating).map(|ns| ns.name.as_str()).collect();
    for ((namespace, group), claims) in &groups {
        let about = About::new("group", namespace, group);
        let planned = if formed.plans.len() >= limits::MAX_GROUPS_PER_BACKUP {
            Err(too_many_groups(about, groups.len()))
        } else if terminating.contains(namespace) {
            Err(namespace_terminating(about))
        } else {
            plan(request, inventory, &volumes, about, claims, now)
        };
        match planned {
            Ok(plan) => formed.plans.push(plan),
            Err(problem) => {
                let (namespace, group) = ((*namespace).to_owned(), (*group).to_owned());
                formed.refused.push(RefusedGroup { namespace, group, problem });
            }
        }
    }
    formed
}

/// PVCs by namespace and label value, sorted by name. An empty value is not a group.
type Groups<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a PvcInfo>>;

fn grouped<'a>(label_key: &str, claims: &[&'a PvcInfo]) -> Groups<'a> {
    let mut groups = Groups::new();
    for claim in claims {
        if let Some(group) = group_of(label_key, claim) {
            groups.entry((&claim.namespace, group)).or_default().push(claim);
        }
    }
    groups
}

pub(super) fn group_of<'a>(label_key: &str, claim: &'a PvcInfo) -> Option<&'a str> {
    claim.labels.get(label_key).map(String::as_str).filter(|value| !value.is_empty())
}

fn plan(
    request: &Request,
    inventory: &Inventory,
    volumes: &Volumes<'_>,
    about: About,
    claims: &[&PvcInfo],
    now: Timestamp,
) -> Result<Plan, Problem> {
    let (members, driver) = members::settle(&about, claims, volumes)?;
    let considered = |classes| Considered {
        about: &about,
        claims,
        backup: &request.annotations,
        driver: &driver,
        classes,
    };
    let group_class = GROUP_CLASS.choose(&considered(&inventory.group_classes))?;
    let snapshot_class = SNAPSHOT_CLASS.choose(&considered(&inventory.snapshot_classes))?;
    let class = inventory.group_classes.iter().find(|class| class.name == group_class);
    let class =
        class.map(|class| GroupClass { uid: class.uid.clone(), get_secret: class.get_secret.clone() });
    let mut plan = Plan {
        run: StreamId::of_group(&request.backup.uid.0, &about.namespace, &request.label_key, &about.name),
        backup: request.backup.clone(),
        namespace: about.namespace.clone(),
        label_key: request.label_key.clone(),
        group: about.name.clone(),
        members,
        driver,
        group_class,
        class,
        snapshot_class,
        selector: BTreeMap::from([(request.label_key.clone(), about.name)]),
        keep_group_name: request.keep_group_name,
        max_attempts: limits::MAX_ATTEMPTS,
        cut_timeout: request.cut_timeout,
        ready_timeout: request.ready_timeout,
        atomicity: request.atomicity,
        planned_at: now,
        warnings: Vec::new(),
    };
    plan.warnings = tight_timeouts(&plan);
    Ok(plan)
}

/// One warning for each timeout that is shorter than the predicted time.
fn tight_timeouts(plan: &Plan) -> Vec<String> {
    [("csiSnapshotTimeout", plan.cut_timeout), ("itemOperationTimeout", plan.ready_timeout)]
        .into_iter()
        .filter(|(_, timeout)| plan.predicted() > *timeout)
        .map(|(name, timeout)| {
            format!(
                "{} will take about {} at the snapshot-controller's default of 5 calls a second, longer than {name} \
                 ({timeout}); start the snapshot-controller with a higher --kube-api-qps and --kube-api-burst, or \
                 raise {name}",
                count(plan.members.len(), "member"),
                plan.predicted(),
            )
        })
        .collect()
}

fn namespace_terminating(about: About) -> Problem {
    Problem::new(
        Code::ClaimUnfit,
        About::new("Namespace", "", &about.namespace),
        format!("the namespace of group \"{}\" is being deleted, nothing can be created in it", about.name),
        "take it out of spec.includedNamespaces",
    )
}

fn too_many_groups(about: About, groups: usize) -> Problem {
    Problem::new(
        Code::Unsupported,
        about,
        format!("the Backup asks for {groups} groups, the limit is {}", limits::MAX_GROUPS_PER_BACKUP),
        "divide the namespaces among several Backups",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Uid;
    use crate::domain::time::Millis;
    use crate::planning::fixture::{Scene, refusal};

    type Shape = (String, String, Vec<String>);

    fn shape(formed: &Formed) -> Vec<Shape> {
        let claims =
            |plan: &'_ Plan| -> Vec<String> { plan.members.iter().map(|m| m.claim.clone()).collect() };
        formed.plans.iter().map(|plan| (plan.namespace.clone(), plan.group.clone(), claims(plan))).collect()
    }

    fn group(namespace: &str, group: &str, claims: &[&str]) -> Shape {
        (namespace.into(), group.into(), claims.iter().map(|claim| (*claim).to_owned()).collect())
    }

    #[test]
    fn plan_is_complete_before_first_effect() {
        let scene = Scene::new(2);
        let formed = scene.form();
        assert_eq!((formed.refused, formed.warnings), (vec![], vec![]));
        let [plan] = formed.plans.as_slice() else { panic!("one plan") };
        assert_eq!(plan.run, StreamId::of_group("backup-uid", "shop", "velero.io/volume-group", "db"));
        assert_eq!(plan.backup, scene.request.backup);
        assert_eq!((plan.namespace.as_str(), plan.group.as_str()), ("shop", "db"));
        assert_eq!((plan.driver.as_str(), plan.max_attempts), ("disk.csi", limits::MAX_ATTEMPTS));
        assert_eq!(
            (plan.group_class.as_str(), plan.snapshot_class.as_str()),
            ("group-class", "snapshot-class")
        );
        assert_eq!(plan.selector, BTreeMap::from([("velero.io/volume-group".into(), "db".into())]));
        assert_eq!(
            (plan.cut_timeout, plan.ready_timeout),
            (Millis::from_secs(600), Millis::from_secs(14_400))
        );
        assert_eq!((plan.planned_at, plan.keep_group_name), (Timestamp(7), false));
        assert_eq!(plan.atomicity, scene.request.atomicity);
        let member = &plan.members[1];
        assert_eq!((member.claim.as_str(), &member.claim_uid), ("data-1", &Uid::from("uid-1")));
        assert_eq!((member.volume.as_str(), member.volume_handle.as_str()), ("pv-1", "handle-1"));
    }

    #[test]
    fn forms_groups_in_order_independent_of_inventory() {
        let mut scene = Scene::new(0);
        scene.namespace("bank");
        scene.request.included_namespaces.push("bank".into());
        for (namespace, group) in [("shop", "db"), ("bank", "db"), ("shop", "cache"), ("shop", "db")] {
            scene.add(namespace, group);
        }
        let formed = scene.form();
        let expected = [
            group("bank", "db", &["data-1"]),
            group("shop", "cache", &["data-2"]),
            group("shop", "db", &["data-0", "data-3"]),
        ];
        assert_eq!(shape(&formed), expected);
        scene.inventory.claims.reverse();
        scene.inventory.volumes.reverse();
        assert_eq!(scene.form(), formed);
    }

    #[test]
    fn empty_or_star_includes_all_namespaces() {
        let check = |included: &[&str], expected: usize| {
            let mut scene = Scene::new(1);
            scene.namespace("bank");
            scene.add("bank", "db");
            scene.request.included_namespaces = included.iter().map(|name| (*name).to_owned()).collect();
            let formed = scene.form();
            assert_eq!((formed.plans.len(), formed.refused), (expected, vec![]), "{included:?}");
        };
        check(&["shop"], 1);
        check(&["shop", "bank", "shop"], 2);
        check(&[], 2);
        check(&["*"], 2);
    }

    #[test]
    fn refuses_missing_namespace_and_plans_the_others() {
        let mut scene = Scene::new(1);
        scene.request.included_namespaces.push("gone".into());
        let formed = scene.form();
        assert_eq!(formed.plans.len(), 1);
        let [refused] = formed.refused.as_slice() else { panic!("one refusal") };
        assert_eq!((refused.namespace.as_str(), refused.group.as_str()), ("gone", ""));
        assert_eq!(refused.problem.code, Code::NamespaceMissing);
    }

    #[test]
    fn refuses_group_in_terminating_namespace() {
        let mut scene = Scene::new(1);
        scene.inventory.namespaces[0].terminating = true;
        let problem = refusal(&scene);
        assert_eq!((problem.code, problem.about.to_string().as_str()), (Code::ClaimUnfit, "Namespace shop"));
    }

    #[test]
    fn one_refused_group_never_stops_the_others() {
        let mut scene = Scene::new(1);
        scene.add("shop", "aaa");
        scene.claim(1).terminating = true;
        scene.add("shop", "zzz");
        let formed = scene.form();
        assert_eq!(shape(&formed), [group("shop", "db", &["data-0"]), group("shop", "zzz", &["data-2"])]);
        assert_eq!((formed.refused[0].namespace.as_str(), formed.refused[0].group.as_str()), ("shop", "aaa"));
    }

    #[test]
    fn empty_label_value_excludes_pvc_with_warning() {
        let mut scene = Scene::new(1);
        scene.add("shop", "");
        scene.claim(1).labels.insert("velero.io/volume-group".into(), String::new());
        let formed = scene.form();
        assert_eq!(shape(&formed), [group("shop", "db", &["data-0"])]);
        let expected = "1 PVC carries no value of the label velero.io/volume-group, so it is not part of the \
                        Backup: \"shop/data-1\"; label it with velero.io/volume-group=NAME to cut it";
        assert_eq!(formed.warnings, [expected]);
    }

    #[test]
    fn warns_about_timeout_too_short_for_rate() {
        let check = |cut: u64, ready: u64, expected: &[&str]| {
            let mut scene = Scene::new(10); // predicted: 23 s
            scene.request.cut_timeout = Millis::from_secs(cut);
            scene.request.ready_timeout = Millis::from_secs(ready);
            let warnings = scene.form().plans.remove(0).warnings;
            assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
            for (warning, name) in warnings.iter().zip(expected) {
                assert!(warning.contains("about 23.0 s") && warning.contains("--kube-api-qps"), "{warning}");
                assert!(warning.contains(&format!("longer than {name}")), "{warning}");
            }
        };
        check(23, 60, &[]);
        check(22, 60, &["csiSnapshotTimeout"]);
        check(60, 22, &["itemOperationTimeout"]);
        check(5, 5, &["csiSnapshotTimeout", "itemOperationTimeout"]);
    }

    #[test]
    fn limits_number_of_groups_per_backup() {
        let mut scene = Scene::new(0);
        (0..limits::MAX_GROUPS_PER_BACKUP + 2).for_each(|n| scene.add("shop", &format!("g{n:04}")));
        let formed = scene.form();
        assert_eq!((formed.plans.len(), formed.refused.len()), (limits::MAX_GROUPS_PER_BACKUP, 2));
        assert_eq!(formed.refused[1].group, format!("g{:04}", limits::MAX_GROUPS_PER_BACKUP + 1));
        assert_eq!(formed.refused[0].problem.code, Code::Unsupported);
    }
}
