//! Checks the invariants of order: the journal, and the calls of the daemon against it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Invariant, Verdict};
use crate::domain::ids::StreamId;
use crate::drill::testbed::Testbed;
use crate::drill::wire::Call;
use crate::journal::Entry;
use crate::machine::group::Event;
use crate::machine::group::GroupRun;
use crate::machine::group::Reached;
use crate::machine::group::Stage as GroupStage;
use crate::machine::group::Timed;
use crate::machine::group::effect::EffectKind;
use crate::machine::kit::{Reached as _, Stage as _, fold_all};
use crate::records::{self, Decoded};

/// Journal and calls of a testbed.
pub(super) struct Story {
    entries: Vec<Entry>,
    runs: BTreeMap<StreamId, Vec<(u64, Timed)>>,
    calls: Vec<Call>,
}

impl Story {
    /// Returns the daemon's writes to objects of the snapshot APIs.
    pub(super) fn writes(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.writes())
    }

    pub(super) async fn read(testbed: &Testbed) -> Self {
        let entries = testbed.entries().await;
        let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for entry in &entries {
            if let Ok(Decoded::Group(record)) = records::decode(&entry.record) {
                runs.entry(StreamId(entry.stream)).or_default().push((entry.position, record));
            }
        }
        // Only the calls of the testbed's own daemon. The code that starts other daemons checks their calls.
        let calls = testbed.calls.all().into_iter().filter(|call| call.agent.starts_with("stillpoint"));
        Self { entries, runs, calls: calls.collect() }
    }
}

/// Folds the first run in the journal, if there is one.
pub(in crate::drill) async fn first_run(testbed: &Testbed) -> Option<GroupRun> {
    let story = Story::read(testbed).await;
    let records = story.runs.into_values().next()?;
    fold_all(records.iter().map(|(_, record)| record)).ok().flatten()
}

pub(super) fn hold(story: &Story, testbed: &Testbed, verdict: &mut Verdict) {
    proves(story, verdict);
    cuts(story, testbed, verdict);
    for records in story.runs.values() {
        let folded = fold_all(records.iter().map(|(_, record)| record));
        verdict.hold(Invariant::PivotHolds, folded.is_ok(), || format!("{folded:?}"));
        if let Ok(Some(run)) = folded {
            members(&run, testbed, verdict);
            seen_afterwards(&run, records, &story.calls, verdict);
        }
    }
    for call in story.writes() {
        write(story, call, verdict);
    }
}

pub(super) fn proves(story: &Story, verdict: &mut Verdict) {
    let checked = crate::journal::chain::check(story.entries.iter().cloned());
    verdict.hold(Invariant::JournalProves, checked.is_ok(), || format!("{checked:?}"));
    let report = crate::audit::replay(&story.entries);
    let same = report.different.is_empty() && report.decisions > 0;
    verdict.hold(Invariant::JournalProves, same, || {
        format!("{} decisions, different: {:#?}", report.decisions, report.different)
    });
}

/// Checks that there is at most one group cut for each attempt.
fn cuts(story: &Story, testbed: &Testbed, verdict: &mut Verdict) {
    let retried = |event: &Event| matches!(event, Event::MilestoneReached { reached: Reached::Retried, .. });
    let records = story.runs.values().flatten();
    let attempts = story.runs.len() + records.filter(|(_, record)| retried(&record.event)).count();
    let ever = testbed.cluster.storage().cut_history();
    let groups: BTreeSet<_> = ever.iter().filter_map(|one| one.group_handle.as_deref()).collect();
    verdict.hold(Invariant::OneCut, groups.len() <= attempts, || {
        format!("{} group cuts in {attempts} attempts", groups.len())
    });
}

/// Checks that the objects are the recorded or rebuilt ones of exactly the planned volumes.
fn members(run: &GroupRun, testbed: &Testbed, verdict: &mut Verdict) {
    let Some(receipt) = run.state.receipt.as_ref().filter(|_| run.stage == GroupStage::Completed) else {
        return;
    };
    let planned: BTreeSet<&str> = run.plan.members.iter().map(|m| m.volume_handle.as_str()).collect();
    let cut: BTreeSet<&str> = receipt.members.iter().map(|m| m.volume_handle.as_str()).collect();
    verdict.hold(Invariant::MembersAsPlanned, cut == planned, || format!("{cut:?} were cut of {planned:?}"));
    let physical = testbed.cluster.storage().physical_snapshots();
    let snapshots = testbed.own("volumesnapshots", Some(&run.plan.namespace));
    for member in &receipt.members {
        let stands = snapshots.iter().any(|s| s["metadata"]["uid"] == member.snapshot.uid.0.as_str());
        verdict.hold(Invariant::MembersAsPlanned, stands, || format!("{} does not stand", member.snapshot));
        let behind = physical.iter().find(|one| one.snapshot_handle == member.snapshot_handle);
        let right = behind.is_some_and(|one| one.volume_handle == member.volume_handle);
        verdict.hold(Invariant::NoPhantom, right, || {
            format!("{} of {}: {behind:?}", member.snapshot_handle, member.volume_handle)
        });
    }
}

/// Checks that no member was rebuilt and nothing was cut twice.
pub(super) fn none_was_lost(story: &Story, verdict: &mut Verdict) {
    for (position, record) in story.runs.values().flatten() {
        let Event::MilestoneReached { reached, .. } = &record.event else { continue };
        let rebuilt = matches!(reached, Reached::Cleaned(members) if !members.is_empty());
        let lost = rebuilt || *reached == Reached::Retried;
        verdict.hold(Invariant::NoneLost, !lost, || format!("{} at {position}", reached.milestone().name()));
    }
}

/// Checks that the daemon read each member from the API server after no group existed and before `Cleaned` was
/// durable.
fn seen_afterwards(run: &GroupRun, records: &[(u64, Timed)], calls: &[Call], verdict: &mut Verdict) {
    let cleaned =
        |event: &Event| matches!(event, Event::MilestoneReached { reached: Reached::Cleaned(_), .. });
    let Some((position, _)) = records.iter().find(|(_, record)| cleaned(&record.event)) else { return };
    let reads: Vec<&Call> = calls
        .iter()
        .filter(|call| call.durable < *position && call.groups == 0)
        // A 404 reply is a valid read, too.
        .filter(|call| call.accepted() || (call.verb == "get" && call.code == 404))
        .filter(|call| call.resource == "volumesnapshots" && ["get", "list"].contains(&call.verb.as_str()))
        .collect();
    for member in run.state.receipt.iter().flat_map(|receipt| &receipt.members) {
        let name = &member.snapshot.name;
        let seen = reads.iter().any(|call| call.name.as_ref().is_none_or(|read| read == name));
        verdict.hold(Invariant::SeenAfterwards, seen, || format!("{name} was not read again"));
    }
}

/// Checks one write against the records on the disk at its instant.
fn write(story: &Story, call: &Call, verdict: &mut Verdict) {
    let before = |records: &[(u64, Timed)]| -> Vec<Timed> {
        let known = records.iter().take_while(|(position, _)| *position <= call.durable);
        known.map(|(_, record)| record.clone()).collect()
    };
    let runs: Vec<Vec<Timed>> = story.runs.values().map(|records| before(records)).collect();
    let intended = runs.iter().any(|records| is_intended(records, call));
    let shown = || format!("{} {} {:?} at position {}", call.verb, call.resource, call.name, call.durable);
    verdict.hold(Invariant::IntentFirst, intended, shown);
    if call.verb != "delete" {
        return;
    }
    let folded = runs.iter().filter_map(|records| fold_all(records).ok().flatten());
    let mut owners = folded.filter(|run| !run.stage.is_final());
    let allowed = owners.any(|run| run.state.receipt.is_some() || run.stage == GroupStage::Unwinding);
    verdict.hold(Invariant::ReceiptFirst, allowed, shown);
    let undoing = runs.iter().any(|records| {
        fold_all(records).is_ok_and(|run| run.is_some_and(|run| run.stage == GroupStage::Unwinding))
    });
    let early = call.resource == "volumegroupsnapshotcontents" && call.groups > 0 && !undoing;
    verdict.hold(Invariant::ContentOutlivesGroup, story.runs.len() > 1 || !early, shown);
}

/// Whether the last known record of a step is an intent with such an effect.
fn is_intended(records: &[Timed], call: &Call) -> bool {
    let last = records.iter().rev().find_map(|record| match &record.event {
        Event::Intended { marks, .. } => Some(Some(marks)),
        Event::StepCompleted { .. } => Some(None),
        _ => None,
    });
    let Some(Some(marks)) = last else { return false };
    marks.iter().any(|mark| calls_of(mark.kind).contains(&(call.verb.as_str(), call.resource.as_str())))
}

/// Returns the calls that an effect of a kind may make. The match has no default, so that a new kind needs an
/// entry.
fn calls_of(kind: EffectKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        EffectKind::CreateGroup => &[("create", "volumegroupsnapshots")],
        EffectKind::ClaimGroup => &[("patch", "volumegroupsnapshots")],
        EffectKind::LabelMember | EffectKind::DetachMember => &[("patch", "volumesnapshots")],
        EffectKind::SetGroupContentPolicy | EffectKind::MarkGroupContent => {
            &[("patch", "volumegroupsnapshotcontents")]
        }
        EffectKind::SetContentPolicy => &[("patch", "volumesnapshotcontents")],
        EffectKind::SetGroupName => &[("patch", "volumesnapshots/status")],
        EffectKind::DeleteGroup => &[("delete", "volumegroupsnapshots")],
        EffectKind::DeleteGroupContent => &[("delete", "volumegroupsnapshotcontents")],
        EffectKind::CreateContent => &[("create", "volumesnapshotcontents")],
        EffectKind::CreateSnapshot => &[("create", "volumesnapshots")],
        EffectKind::CreateStub | EffectKind::CreateImport => &[("create", "volumegroupsnapshotcontents")],
        EffectKind::DeleteSnapshot => &[("delete", "volumesnapshots")],
        EffectKind::DeleteContent => {
            &[("patch", "volumesnapshotcontents"), ("delete", "volumesnapshotcontents")]
        }
    }
}
