//! Checks the invariants of the objects and of the storage.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Invariant, Verdict};
use crate::drill::testbed::Testbed;
use crate::engine::reasons;

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Checks the members of a completed run.
pub(super) fn members(testbed: &Testbed, namespace: &str, count: usize, verdict: &mut Verdict) {
    let snapshots = testbed.own("volumesnapshots", Some(namespace));
    let standing = snapshots.len();
    verdict.hold(Invariant::MembersAsPlanned, standing == count, || format!("{standing} of {count} members"));
    // The source of a rebuilt member is its content, and only the label names its PVC.
    let claim =
        |snapshot: &Value| snapshot["metadata"]["labels"]["stillpoint.dev/pvc"].as_str().map(str::to_owned);
    let claims: BTreeSet<String> = snapshots.iter().filter_map(claim).collect();
    verdict.hold(Invariant::MembersAsPlanned, claims.len() == count, || format!("members of {claims:?}"));
    snapshots.iter().for_each(|snapshot| member(snapshot, verdict));
    let bound =
        |snapshot: &Value| snapshot["status"]["boundVolumeSnapshotContentName"].as_str().map(str::to_owned);
    let bound: BTreeSet<String> = snapshots.iter().filter_map(bound).collect();
    for content in testbed.own("volumesnapshotcontents", None) {
        let receipt = content["metadata"]["annotations"]["stillpoint.dev/receipt"].is_string();
        if !bound.contains(&name(&content)) {
            verdict.hold(Invariant::NoneStray, false, || format!("{} has no member", name(&content)));
            continue;
        }
        let retains = content["spec"]["deletionPolicy"] == "Retain";
        verdict.hold(Invariant::MembersFree, retains, || format!("{} does not retain", name(&content)));
        verdict.hold(Invariant::MembersMarked, receipt, || format!("{} has no receipt", name(&content)));
    }
    let left = testbed.group_objects();
    verdict.hold(Invariant::GroupGone, left == 0, || format!("{left} are left"));
    let ledger = testbed.cluster.ledger();
    let physical = ledger.physical_snapshots;
    verdict
        .hold(Invariant::OneCut, physical == count, || format!("{physical} physical snapshots of {count}"));
    verdict.hold(Invariant::NoPhantom, ledger.phantom == 0, || format!("{ledger:?}"));
}

fn member(snapshot: &Value, verdict: &mut Verdict) {
    let (meta, status) = (&snapshot["metadata"], &snapshot["status"]);
    let mut free = |holds: bool, what: &str| {
        verdict.hold(Invariant::MembersFree, holds, || format!("{} {what}", name(snapshot)));
    };
    free(status["readyToUse"] == true, "is not ready");
    free(status["boundVolumeSnapshotContentName"].is_string(), "is not bound");
    free(meta["ownerReferences"].is_null(), "is owned");
    free(meta["deletionTimestamp"].is_null(), "is terminating");
    let receipt = meta["annotations"]["stillpoint.dev/receipt"].is_string();
    verdict.hold(Invariant::MembersMarked, receipt, || format!("{} has no receipt", name(snapshot)));
    let run = meta["labels"]["stillpoint.dev/run"].is_string();
    verdict.hold(Invariant::MembersMarked, run, || format!("{} has no run", name(snapshot)));
}

/// Checks that no objects and no storage of a rolled-back run are left.
pub(super) fn freed(testbed: &Testbed, verdict: &mut Verdict) {
    let kinds =
        ["volumegroupsnapshots", "volumegroupsnapshotcontents", "volumesnapshots", "volumesnapshotcontents"];
    for plural in kinds {
        let left: Vec<String> = testbed.own(plural, None).iter().map(name).collect();
        let invariant = if plural.contains("group") { Invariant::GroupGone } else { Invariant::Undone };
        verdict.hold(invariant, left.is_empty(), || format!("{plural} {left:?} are left"));
    }
    let ledger = testbed.cluster.ledger();
    verdict.hold(Invariant::StorageFate, ledger.physical_snapshots == 0, || format!("{ledger:?}"));
}

/// Checks that everything that was ever cut and still takes up storage has an owner.
pub(super) fn nothing_leaked(testbed: &Testbed, verdict: &mut Verdict) {
    let ledger = testbed.cluster.ledger();
    verdict.hold(Invariant::NothingLeaked, ledger.leaked == 0, || format!("{ledger:?}"));
}

/// Checks that the GroupSnapshots show the real state of the runs. Groups that were refused have no run.
pub(super) fn shown(testbed: &Testbed, namespace: &str, state: &str, verdict: &mut Verdict) {
    let mut shown = testbed.own("groupsnapshots", Some(namespace));
    shown.retain(|shown| shown["status"]["state"] != reasons::REFUSED);
    let says = shown.iter().all(|shown| shown["status"]["state"] == state);
    verdict.hold(Invariant::Shown, says && !shown.is_empty(), || {
        format!("no {state} GroupSnapshot: {shown:#?}")
    });
}
