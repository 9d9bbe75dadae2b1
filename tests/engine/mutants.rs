//! Proves that the drills catch deliberate defects, and prints the invariant that catches each.
//!
//! `cargo test --profile drill --test engine -- mutants --ignored --nocapture`. A defect is a wrapper around the
//! decisions of the machine, or around the disk or the replies below them. The drills have no knowledge of it.
//! They are the usual drills, in the usual order, until one fails. A difference in the replay does not count:
//! the audit decides without the wrapper.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use stillpoint::domain::labels;
use stillpoint::domain::observed::{Observation, Scope};
use stillpoint::domain::time::Timestamp;
use stillpoint::drill::invariants::Invariant;
use stillpoint::drill::runner::{CaseResult, Setup};
use stillpoint::drill::search::search;
use stillpoint::drill::{pool, testbed::Testbed};
use stillpoint::machine::group::columns::{
    Content, DriverError, Loss, Marked, Names, Policies, Progress, Protection, Retaining,
};
use stillpoint::machine::group::effect::{Effect, EffectRef};
use stillpoint::machine::group::matching::{own_content, own_group};
use stillpoint::machine::group::{GroupMachine, GroupRun, MemberFlags, Stage, Step, effects, view};
use stillpoint::machine::kit::{Decision, Logic, Machine, Undecided, View, decide, table};

type Effects = Vec<(EffectRef, Effect)>;

/// Name of each defect, and how a testbed gets it.
const MUTANTS: &[(&str, Setup)] = &[
    ("owners-first", |testbed| {
        alter(testbed, |logic| (logic.view, logic.effects) = (owners_first::view, owners_first::effects))
    }),
    ("as-source", |testbed| alter(testbed, |logic| logic.effects = keep_as_source)),
    ("policies-unseen", |testbed| alter(testbed, |logic| logic.view = policies_unseen)),
    ("undo-keeps-vgsc", |testbed| alter(testbed, |logic| logic.view = undo_keeps_content)),
    ("content-first", |testbed| alter(testbed, |logic| logic.effects = content_first)),
    ("early-delete", |testbed| alter(testbed, |logic| logic.view = early_delete)),
    ("generated-names", |testbed| alter(testbed, generated_names::install)),
    ("counts", |testbed| alter(testbed, counts::install)),
    ("unsynced", |testbed| testbed.disk.ignore_syncs()),
    ("refused-504", |testbed| testbed.gateway_timeout = 403),
    ("undo-after-pivot", |testbed| alter(testbed, |logic| logic.decide = undo_after_pivot)),
    ("retain-forgotten", |testbed| alter(testbed, |logic| logic.view = retain_forgotten)),
    ("deadline-first", |testbed| alter(testbed, |logic| logic.decide = deadline_first)),
];

fn alter(testbed: &mut Testbed, change: fn(&mut Logic<GroupMachine>)) {
    change(&mut testbed.group_logic);
}

/// Owners are stripped before the name of the group is cleared.
mod owners_first {
    use super::*;

    pub fn view(run: &GroupRun, seen: &Observation) -> View {
        let mut view = super::view(run, seen);
        view.members.iter_mut().for_each(|flags| *flags &= !(MemberFlags::Named as u16));
        if run.stage != Stage::Unwinding {
            view.set(Names::Clear);
        }
        view
    }

    pub fn effects(run: &GroupRun, seen: &Observation, step: Step) -> Effects {
        let mut effects = super::effects(run, seen, step);
        effects.retain(|(_, effect)| !matches!(effect, Effect::SetGroupName { new: None, .. }));
        effects
    }
}

/// The as-source finalizer is left in place.
fn keep_as_source(run: &GroupRun, seen: &Observation, step: Step) -> Effects {
    let mut effects = effects(run, seen, step);
    for (_, effect) in &mut effects {
        if let Effect::DetachMember { ready: true, old_finalizers, new_finalizers, .. } = effect {
            let kept = old_finalizers.iter().filter(|finalizer| *finalizer == labels::AS_SOURCE_PROTECTION);
            new_finalizers.extend(kept.cloned());
        }
    }
    effects
}

/// Policies are not read before the delete.
fn policies_unseen(run: &GroupRun, seen: &Observation) -> View {
    let mut view = view(run, seen);
    if run.stage == Stage::Releasing {
        view.set(Policies::Retain);
        match own_content(run, seen).map(|content| content.terminating) {
            Some(true) => view.set(Content::RetainTerminating),
            Some(false) => view.set(Content::Retain),
            None => {}
        }
    }
    view
}

/// A rollback leaves the VolumeGroupSnapshotContent.
fn undo_keeps_content(run: &GroupRun, seen: &Observation) -> View {
    let mut view = view(run, seen);
    if run.stage == Stage::Unwinding && own_group(run, seen).is_none() && own_content(run, seen).is_some() {
        view.set(Content::Absent);
        view.set(Marked::Yes);
        view.set(Protection::Complete);
        view.set(DriverError::None);
        view.set(Retaining::None);
    }
    view
}

/// The VolumeGroupSnapshotContent is deleted before the VolumeGroupSnapshot.
fn content_first(run: &GroupRun, seen: &Observation, step: Step) -> Effects {
    match step {
        Step::DeleteGroup if own_content(run, seen).is_some() => effects(run, seen, Step::DeleteContent),
        _ => effects(run, seen, step),
    }
}

/// The VolumeGroupSnapshot is deleted before its finalizers are set.
fn early_delete(run: &GroupRun, seen: &Observation) -> View {
    let mut view = view(run, seen);
    view.set(Protection::Complete);
    view
}

/// The VolumeGroupSnapshot has a name that the next incarnation does not know, until a create was answered.
mod generated_names {
    use super::*;

    thread_local! {
        /// Number of names that were generated for a planned name, of which the last one is in use.
        static GENERATED: RefCell<BTreeMap<String, u32>> = RefCell::default();
    }

    pub fn install(logic: &mut Logic<GroupMachine>) {
        GENERATED.with_borrow_mut(BTreeMap::clear);
        logic.scope = scope;
        logic.view = |run, seen| view(run, &planned(run, seen));
        logic.effects = effects;
        logic.evidence = |run, seen, milestone| GroupMachine::evidence(run, &planned(run, seen), milestone);
    }

    fn current(run: &GroupRun) -> String {
        let name = run.group_name();
        let count = GENERATED.with_borrow(|all| all.get(&name).copied().unwrap_or_default());
        format!("{name}-{count}")
    }

    fn scope(run: &GroupRun, before: Option<&Scope>) -> Scope {
        if before.is_none() && run.state.group_uid.is_none() {
            // Another incarnation: the next create has a name of its own.
            GENERATED.with_borrow_mut(|all| *all.entry(run.group_name()).or_default() += 100);
        }
        Scope { group_name: current(run), ..GroupMachine::scope(run, before) }
    }

    /// The observation with the planned name, which the machine computes.
    fn planned(run: &GroupRun, seen: &Observation) -> Observation {
        let (mut seen, name, generated) = (seen.clone(), run.group_name(), current(run));
        let snapshots = seen.snapshots.iter_mut().filter_map(|snapshot| snapshot.group_name.as_mut());
        snapshots.filter(|group| **group == generated).for_each(|group| group.clone_from(&name));
        seen
    }

    fn effects(run: &GroupRun, seen: &Observation, step: Step) -> Effects {
        let mut effects = super::effects(run, &planned(run, seen), step);
        let generated = current(run);
        for (_, effect) in &mut effects {
            match effect {
                Effect::CreateGroup { name, .. } => name.clone_from(&generated),
                Effect::SetGroupName { old, new, .. } => {
                    [old, new].into_iter().flatten().for_each(|name| name.clone_from(&generated));
                }
                _ => {}
            }
        }
        effects
    }
}

/// Frozen volumes are counted instead of compared.
mod counts {
    use super::*;

    pub fn install(logic: &mut Logic<GroupMachine>) {
        logic.view = |run, seen| view(run, &as_planned(run, seen));
        logic.effects = |run, seen, step| effects(run, &as_planned(run, seen), step);
        logic.evidence =
            |run, seen, milestone| GroupMachine::evidence(run, &as_planned(run, seen), milestone);
    }

    /// The observation in which each frozen volume that was not planned passes for one that was.
    fn as_planned(run: &GroupRun, seen: &Observation) -> Observation {
        let mut seen = seen.clone();
        let planned: BTreeSet<&String> =
            run.plan.members.iter().map(|member| &member.volume_handle).collect();
        let Some(content) =
            seen.content.as_mut().filter(|content| content.volume_handles.len() == planned.len())
        else {
            return seen;
        };
        let frozen: BTreeSet<String> = content.volume_handles.iter().cloned().collect();
        let missing = planned.into_iter().filter(|handle| !frozen.contains(*handle)).cloned();
        let extra =
            frozen.iter().filter(|handle| !run.plan.members.iter().any(|m| m.volume_handle == **handle));
        let passes: BTreeMap<String, String> = extra.cloned().zip(missing).collect();
        let rename = |handle: &mut String| {
            if let Some(other) = passes.get(handle) {
                handle.clone_from(other);
            }
        };
        content.volume_handles.iter_mut().for_each(rename);
        content.cuts.iter_mut().for_each(|cut| rename(&mut cut.volume_handle));
        seen.contents.iter_mut().filter_map(|content| content.volume_handle.as_mut()).for_each(rename);
        seen
    }
}

/// A run is rolled back behind the pivot.
fn undo_after_pivot(
    run: &GroupRun,
    view: &View,
    now: Timestamp,
) -> Result<Decision<GroupMachine>, Undecided> {
    if run.stage != Stage::Releasing || !view.is(Loss::Lost) {
        return decide(run, view, now);
    }
    let row = table::row::<GroupMachine>("early/member-gone").expect("a row of the table");
    Ok(Decision { row, then: row.then, not_before: None, wake_at: None })
}

/// A rollback forgets what retains the storage.
fn retain_forgotten(run: &GroupRun, seen: &Observation) -> View {
    let mut view = view(run, seen);
    view.set(Retaining::None);
    if run.stage == Stage::Unwinding && view.is(Content::Retain) {
        view.set(Content::Delete);
    }
    view
}

/// The deadline is evaluated before the evidence.
fn deadline_first(run: &GroupRun, view: &View, now: Timestamp) -> Result<Decision<GroupMachine>, Undecided> {
    let mut view = view.clone();
    if run.stage == Stage::Created && now >= run.attempt_at.after(run.plan.cut_timeout) {
        view.set(Progress::Nothing);
    }
    decide(run, &view, now)
}

/// Returns the defects in `STILLPOINT_MUTANTS`, separated by commas; all of them if it is unset.
fn wanted() -> impl Iterator<Item = &'static (&'static str, Setup)> {
    let chosen = std::env::var("STILLPOINT_MUTANTS").unwrap_or_default();
    MUTANTS.iter().filter(move |(name, _)| chosen.is_empty() || chosen.split(',').any(|one| one == *name))
}

/// Number of cases after which a defect counts as missed.
const LIMIT: usize = 3000;

fn fails(result: &CaseResult) -> bool {
    result.broken.iter().any(|broken| broken.invariant != Invariant::JournalProves)
}

#[test]
#[ignore = "about a minute with the profile drill; CI runs it"]
fn every_mutant_is_caught() {
    println!("{:<18} {:>6}  {:<52} BY THE DRILL", "DEFECT", "RUNS", "CAUGHT BY");
    let mut missed = Vec::new();
    for (name, setup) in wanted() {
        let search = search(1, LIMIT, *setup, fails);
        // A case that also fails without the defect does not count.
        let caught = search.caught.filter(|result| {
            let alone = pool::play_alone(&result.case);
            alone.broken.iter().for_each(|broken| println!("{} fails by itself: {broken}", result.case));
            alone.held()
        });
        match caught {
            Some(result) => {
                let by = result.broken.iter().find(|broken| broken.invariant != Invariant::JournalProves);
                let by = by.map_or("", |broken| broken.invariant.name());
                println!("{name:<18} {:>6}  {by:<52} {}", search.runs, result.case);
            }
            None => {
                println!("{name:<18} {:>6}  nothing", search.runs);
                missed.push(*name);
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
