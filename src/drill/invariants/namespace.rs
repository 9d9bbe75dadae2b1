//! Checks a run that completed while its namespace was Terminating: the members are deleted, the storage
//! stays.

use std::collections::BTreeSet;

use serde_json::Value;

use super::order::{self, Story};
use super::{Broken, Invariant, Verdict};
use crate::drill::testbed::Testbed;
use crate::machine::group::GroupRun;

/// Returns the violated invariants.
pub async fn after_the_namespace(testbed: &Testbed, run: &GroupRun) -> Vec<Broken> {
    let mut verdict = Verdict::default();
    let (ledger, count) = (testbed.cluster.ledger(), run.plan.members.len());
    verdict.hold(Invariant::Kept, ledger.physical_snapshots == count, || format!("{ledger:?}"));
    verdict.hold(Invariant::NoPhantom, ledger.phantom == 0, || format!("{ledger:?}"));
    let contents = testbed.own("volumesnapshotcontents", None);
    let retained = contents.iter().filter(|content| {
        let receipt = &content["metadata"]["annotations"]["stillpoint.dev/receipt"];
        content["spec"]["deletionPolicy"] == "Retain" && receipt.is_string()
    });
    let handle = |content: &Value| {
        let (status, source) = (&content["status"], &content["spec"]["source"]);
        status["snapshotHandle"].as_str().or(source["snapshotHandle"].as_str()).map(str::to_owned)
    };
    let retained: BTreeSet<String> = retained.filter_map(handle).collect();
    let receipt = run.state.receipt.iter().flat_map(|receipt| &receipt.members);
    for member in receipt {
        let held = retained.contains(&member.snapshot_handle);
        verdict.hold(Invariant::Kept, held, || format!("{} is in no content", member.snapshot_handle));
    }
    let left = testbed.group_objects();
    verdict.hold(Invariant::GroupGone, left == 0, || format!("{left} are left"));
    order::proves(&Story::read(testbed).await, &mut verdict);
    verdict.0
}
