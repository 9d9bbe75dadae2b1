//! Checks a run that was abandoned after its pivot: the storage exists, and is owned or recorded.

use std::collections::BTreeSet;

use serde_json::Value;

use super::order::{self, Story};
use super::{Broken, Invariant, Verdict, lines};
use crate::drill::testbed::Testbed;

/// Checks all invariants of a run that was abandoned after its pivot.
///
/// # Errors
/// The violated invariants, one line each.
pub async fn kept(testbed: &Testbed, namespace: &str, count: usize) -> Result<(), String> {
    lines(after_abandon(testbed, namespace, count).await)
}

/// Returns the invariants violated by a run that was abandoned after its pivot.
pub async fn after_abandon(testbed: &Testbed, namespace: &str, count: usize) -> Vec<Broken> {
    let mut verdict = Verdict::default();
    let ledger = testbed.cluster.ledger();
    verdict.hold(Invariant::Kept, ledger.physical_snapshots == count, || format!("{ledger:?}"));
    verdict.hold(Invariant::NoPhantom, ledger.phantom == 0, || format!("{ledger:?}"));
    let mut written = BTreeSet::new();
    for plural in ["volumesnapshotcontents", "volumegroupsnapshotcontents"] {
        for content in testbed.list(plural, None) {
            let retains = content["spec"]["deletionPolicy"] == "Retain";
            verdict.hold(Invariant::Kept, retains, || {
                format!("{} does not retain", content["metadata"]["name"])
            });
            written.extend(content["status"]["snapshotHandle"].as_str().map(str::to_owned));
        }
    }
    for shown in testbed.list("groupsnapshots", Some(namespace)) {
        told(&shown["status"], count, &written, &mut verdict);
    }
    order::proves(&Story::read(testbed).await, &mut verdict);
    verdict.0
}

/// Checks the status of the run: it reports no ready members, and the receipt contains every handle.
fn told(status: &Value, count: usize, written: &BTreeSet<String>, verdict: &mut Verdict) {
    verdict.hold(Invariant::Shown, status["state"] == "Failed", || format!("{status:#}"));
    verdict.hold(Invariant::Shown, status["membersReady"].is_null(), || format!("{status:#}"));
    let members = status["receipt"]["members"].as_array().cloned().unwrap_or_default();
    verdict.hold(Invariant::Kept, members.len() == count, || format!("{status:#}"));
    let handle = |member: &Value| member["snapshotHandle"].as_str().map(str::to_owned);
    let handles: BTreeSet<String> = members.iter().filter_map(handle).collect();
    verdict.hold(Invariant::Kept, handles.len() == count, || format!("handles {handles:?}"));
    let others: Vec<_> = written.difference(&handles).collect();
    verdict.hold(Invariant::Kept, others.is_empty(), || format!("{others:?} are in no receipt"));
}
