//! Decides which PVCs can be cut together: all are bound, all are CSI volumes of one driver, and no volume
//! occurs twice.
//!
//! The snapshot-controller selects by label alone. It refuses the whole group if one selected PVC is unbound
//! or belongs to another driver (external-snapshotter, `groupsnapshot_controller_helper.go`). Therefore one
//! unfit PVC refuses the group here, before any effect. The refusal names all unfit PVCs, so that a user can
//! fix them at once.

use std::collections::BTreeMap;

use crate::domain::labels;
use crate::domain::limits;
use crate::domain::plan::PlannedMember;
use crate::domain::problem::{About, Code, Problem};
use crate::domain::text::count;
use crate::planning::inventory::{PvInfo, PvcInfo};
use crate::planning::listed;

pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a PvInfo>;

/// One PVC that cannot be cut, with reason and fix.
struct Unfit {
    claim: String,
    reason: String,
    fix: String,
}

/// The members of a group in the order of `claims`, and their driver.
///
/// # Errors
/// The first of these problems: too many PVCs, unfit PVCs, several drivers, a volume handle that occurs
/// twice.
pub(super) fn settle(
    about: &About,
    claims: &[&PvcInfo],
    volumes: &Volumes<'_>,
) -> Result<(Vec<PlannedMember>, String), Problem> {
    if claims.len() > limits::MAX_MEMBERS {
        return Err(too_many(about, claims.len()));
    }
    let (mut members, mut drivers, mut unfit) = (Vec::new(), BTreeMap::<&str, Vec<&str>>::new(), Vec::new());
    for claim in claims {
        match member(claim, volumes) {
            Ok((planned, driver)) => {
                members.push(planned);
                drivers.entry(driver).or_default().push(&claim.name);
            }
            Err(found) => unfit.push(found),
        }
    }
    refuse_unfit(about, unfit)?;
    refuse_doubles(about, &members)?;
    match drivers.keys().collect::<Vec<_>>().as_slice() {
        [driver] => Ok((members, (**driver).to_owned())),
        _ => Err(several_drivers(about, &drivers)),
    }
}

fn member<'a>(claim: &PvcInfo, volumes: &Volumes<'a>) -> Result<(PlannedMember, &'a str), Unfit> {
    let unfit =
        |reason: String, fix: &str| Err(Unfit { claim: claim.name.clone(), reason, fix: fix.to_owned() });
    if claim.terminating {
        return unfit(
            "it is being deleted".into(),
            "let the deletion end, or take the group label off the claim",
        );
    }
    if claim.is_excluded() {
        let reason =
            format!("it is labelled {}=true, but the cut would take it", labels::EXCLUDE_FROM_BACKUP);
        return unfit(reason, "take either the group label or the exclusion off the claim");
    }
    if claim.phase != "Bound" || claim.volume.is_empty() {
        let phase = if claim.phase.is_empty() { "unknown" } else { &claim.phase };
        return unfit(
            format!("it is not bound to a volume (phase {phase})"),
            "wait until the claim is bound (a pod may have to use it first), or take the group label off it",
        );
    }
    let Some(volume) = volumes.get(claim.volume.as_str()) else {
        return unfit(
            format!("its volume \"{}\" does not exist", claim.volume),
            "restore the PersistentVolume, or take the group label off the claim",
        );
    };
    if volume.claim.as_ref().is_none_or(|back| back.uid != claim.uid) {
        let other = match &volume.claim {
            Some(back) => format!("claim {}/{} with uid {}", back.namespace, back.name, back.uid),
            None => "no claim".to_owned(),
        };
        return unfit(
            format!("its volume \"{}\" is bound to {other}, not to uid {}", volume.name, claim.uid),
            "bind claim and volume to each other again, or take the group label off the claim",
        );
    }
    match &volume.csi {
        Some(csi) if !csi.driver.is_empty() && !csi.handle.is_empty() => {
            let planned = PlannedMember {
                claim: claim.name.clone(),
                claim_uid: claim.uid.clone(),
                volume: volume.name.clone(),
                volume_handle: csi.handle.clone(),
                spec: Some(claim.spec()),
            };
            Ok((planned, &csi.driver))
        }
        Some(_) => unfit(
            format!("its volume \"{}\" has no CSI driver or no volume handle", volume.name),
            "mend the PersistentVolume, or take the group label off the claim",
        ),
        None => unfit(
            format!("its volume \"{}\"{} is not a CSI volume", volume.name, of_class(volume, claim)),
            "move the data to a volume of a CSI driver, or take the group label off the claim",
        ),
    }
}

fn of_class(volume: &PvInfo, claim: &PvcInfo) -> String {
    match volume.storage_class.as_ref().or(claim.storage_class.as_ref()).map(String::as_str) {
        None | Some("") => String::new(),
        Some(class) => format!(" of storage class \"{class}\""),
    }
}

fn refuse_unfit(about: &About, unfit: Vec<Unfit>) -> Result<(), Problem> {
    let mut unfit = unfit.into_iter();
    let Some(first) = unfit.next() else { return Ok(()) };
    let mut reason = first.reason;
    for other in unfit {
        reason.push_str(&format!("; also claim \"{}\": {}", other.claim, other.reason));
    }
    let claim = About::new("PersistentVolumeClaim", &about.namespace, &first.claim);
    let reason = format!("a member of group \"{}\" cannot be cut: {reason}", about.name);
    Err(Problem::new(Code::ClaimUnfit, claim, limits::clip(&reason), first.fix))
}

fn refuse_doubles(about: &About, members: &[PlannedMember]) -> Result<(), Problem> {
    let mut claims = BTreeMap::<&str, Vec<&str>>::new();
    for member in members {
        claims.entry(&member.volume_handle).or_default().push(&member.claim);
    }
    let Some((handle, names)) = claims.into_iter().find(|(_, names)| names.len() > 1) else { return Ok(()) };
    let reason = format!("the volume handle \"{handle}\" belongs to several claims: {}", listed(names));
    let fix = "leave the group label on one claim of each volume";
    Err(Problem::new(Code::ClaimUnfit, about.clone(), limits::clip(&reason), fix))
}

fn several_drivers(about: &About, drivers: &BTreeMap<&str, Vec<&str>>) -> Problem {
    let parts =
        drivers.iter().map(|(driver, claims)| format!("{driver} ({})", listed(claims.iter().copied())));
    let reason = format!(
        "one cut is made by one driver, the volumes belong to {}: {}",
        drivers.len(),
        parts.collect::<Vec<_>>().join(", ")
    );
    let fix = "give the claims of each driver a group label value of their own";
    Problem::new(Code::SeveralDrivers, about.clone(), limits::clip(&reason), fix)
}

fn too_many(about: &About, members: usize) -> Problem {
    let reason = format!("the group has {}, the limit is {}", count(members, "claim"), limits::MAX_MEMBERS);
    let fix = "divide the claims into smaller groups by other label values";
    Problem::new(Code::TooManyMembers, about.clone(), reason, fix)
}

#[cfg(test)]
mod tests {
    use crate::domain::limits::MAX_MEMBERS;
    use crate::domain::problem::Code;
    use crate::planning::fixture::{Scene, refusal};

    /// Checks that a group of three PVCs `data-0..2`, changed by `change`, is refused with `code` for
    /// `object`, and that the reason contains `words`.
    fn check(change: impl FnOnce(&mut Scene), code: Code, object: &str, words: &[&str]) {
        let mut scene = Scene::new(3);
        change(&mut scene);
        let problem = refusal(&scene);
        assert_eq!((problem.code, problem.about.to_string().as_str()), (code, object), "{problem}");
        words.iter().for_each(|word| assert!(problem.reason.contains(word), "{word}: {problem}"));
        assert!(!problem.fix.is_empty());
    }

    const FIRST: &str = "PersistentVolumeClaim shop/data-0";
    const GROUP: &str = "group shop/db";

    #[test]
    fn terminating_pvc_refuses_group() {
        check(|s| s.claim(0).terminating = true, Code::ClaimUnfit, FIRST, &["\"db\"", "being deleted"]);
    }

    #[test]
    fn excluded_pvc_refuses_group() {
        let excluded = |s: &mut Scene| {
            s.claim(0).labels.insert("velero.io/exclude-from-backup".into(), "true".into());
        };
        check(excluded, Code::ClaimUnfit, FIRST, &["velero.io/exclude-from-backup=true"]);
    }

    #[test]
    fn ignores_exclusion_label_other_than_true() {
        let mut scene = Scene::new(1);
        scene.claim(0).labels.insert("velero.io/exclude-from-backup".into(), "false".into());
        assert_eq!(scene.form().plans.len(), 1);
    }

    #[test]
    fn unbound_pvc_refuses_group() {
        check(|s| s.claim(0).phase = "Pending".into(), Code::ClaimUnfit, FIRST, &["not bound", "Pending"]);
        check(|s| s.claim(0).phase = "Lost".into(), Code::ClaimUnfit, FIRST, &["not bound", "Lost"]);
        check(|s| s.claim(0).volume.clear(), Code::ClaimUnfit, FIRST, &["not bound"]);
    }

    #[test]
    fn missing_or_foreign_volume_refuses_group() {
        check(|s| s.claim(0).volume = "gone".into(), Code::ClaimUnfit, FIRST, &["\"gone\" does not exist"]);
        check(|s| s.volume(0).claim = None, Code::ClaimUnfit, FIRST, &["\"pv-0\" is bound to no claim"]);
        let other = |s: &mut Scene| s.volume(0).claim.as_mut().expect("bound").uid = "older".into();
        check(other, Code::ClaimUnfit, FIRST, &["uid older, not to uid uid-0"]);
    }

    #[test]
    fn volume_without_csi_refuses_group() {
        check(
            |s| s.volume(0).csi = None,
            Code::ClaimUnfit,
            FIRST,
            &["\"pv-0\" of storage class \"fast\" is not a CSI"],
        );
        let handle = |s: &mut Scene| s.volume(0).csi.as_mut().expect("csi").handle.clear();
        check(handle, Code::ClaimUnfit, FIRST, &["no volume handle"]);
    }

    #[test]
    fn names_every_unsuitable_pvc() {
        let two = |s: &mut Scene| {
            s.claim(2).terminating = true;
            s.claim(0).phase = "Pending".into();
        };
        check(two, Code::ClaimUnfit, FIRST, &["not bound", "also claim \"data-2\": it is being deleted"]);
    }

    #[test]
    fn several_drivers_refuse_group_and_list_pvcs() {
        let other = |s: &mut Scene| s.volume(1).csi.as_mut().expect("csi").driver = "other.csi".into();
        let words = ["disk.csi (\"data-0\", \"data-2\")", "other.csi (\"data-1\")"];
        check(other, Code::SeveralDrivers, GROUP, &words);
    }

    #[test]
    fn duplicate_volume_handle_refuses_group() {
        let twice = |s: &mut Scene| s.volume(2).csi.as_mut().expect("csi").handle = "handle-0".into();
        check(twice, Code::ClaimUnfit, GROUP, &["\"handle-0\"", "\"data-0\", \"data-2\""]);
    }

    #[test]
    fn limits_number_of_members_per_group() {
        assert_eq!(Scene::new(MAX_MEMBERS).form().plans.len(), 1);
        let problem = refusal(&Scene::new(MAX_MEMBERS + 1));
        assert_eq!(problem.code, Code::TooManyMembers);
        assert!(problem.reason.contains("129 claims, the limit is 128"), "{problem}");
    }
}
