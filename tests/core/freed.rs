//! Tests whether a rollback knows that the storage of a finished cut is freed, and its action if not.

use crate::fixture::*;
use stillpoint::domain::observed::{GroupContentSeen, NamespaceSeen, Observation};
use stillpoint::machine::group::Event;
use stillpoint::machine::group::GroupRun;
use stillpoint::machine::group::Stage;
use stillpoint::machine::group::Step;
use stillpoint::machine::group::Timed;
use stillpoint::machine::group::columns::*;
use stillpoint::machine::group::effect::Effect;
use stillpoint::machine::group::effects;
use stillpoint::machine::group::state::StorageFate;
use stillpoint::machine::kit::Action;
use stillpoint::machine::kit::DecisionRecord;
use stillpoint::machine::kit::Outcome;
use stillpoint::machine::kit::View;
use stillpoint::machine::kit::decide;
use stillpoint::machine::kit::fold;

fn undoing() -> GroupRun {
    GroupRun { stage: Stage::Unwinding, ..with_receipt() }
}

fn next(run: GroupRun, event: Event) -> GroupRun {
    fold(Some(run), &Timed { at: at(100), event }).expect("a legal record")
}

fn intended(run: GroupRun, step: Step, view: &View) -> GroupRun {
    let grounds = DecisionRecord { row: "test".into(), rules: 1, view: view.clone() };
    next(run, Event::Intended { grounds, step, marks: Vec::new() })
}

fn ended(run: GroupRun, step: Step, outcome: Outcome) -> GroupRun {
    next(run, Event::StepCompleted { step, outcomes: vec![outcome] })
}

fn done() -> Outcome {
    Outcome::Done { uid: "u".into(), resource_version: "1".into() }
}

/// The view of a rollback before its deletes: all objects exist and are under Delete.
fn under_delete() -> View {
    view_with(|view| {
        view.set(Group::Ours);
        view.set(Content::Delete);
        view.set(Marked::Yes);
        view.set(Retaining::None);
    })
}

/// No object of the run exists any more, according to the API server.
fn nothing_left() -> Observation {
    Observation {
        epoch: 1,
        fresh: true,
        class_exists: true,
        namespace: Some(NamespaceSeen::default()),
        ..Observation::default()
    }
}

fn row(run: &GroupRun, observation: &Observation, seconds: i64) -> &'static str {
    let view = stillpoint::machine::group::view(run, observation);
    decide(run, &view, at(seconds)).expect("exactly one row").row.id
}

#[test]
fn answered_delete_under_delete_policy_frees_storage() {
    for step in [Step::UndoDeleteGroup, Step::UndoDeleteContent, Step::UndoFreeImport] {
        let run = intended(undoing(), step, &under_delete());
        assert_eq!(run.state.freed, StorageFate::Intended, "{}", step.name());
        assert_eq!(ended(run, step, done()).state.freed, StorageFate::Settled, "{}", step.name());
    }
}

#[test]
fn storage_is_uncertain_if_delete_hit_other_object() {
    let changed = |change: fn(&mut View)| {
        let mut view = under_delete();
        change(&mut view);
        view
    };
    for view in [
        changed(|view| view.set(Content::Absent)),
        changed(|view| view.set(Content::DeleteTerminating)),
        changed(|view| view.set(Content::Retain)),
        changed(|view| view.set(Retaining::Some)),
    ] {
        let run = intended(undoing(), Step::UndoDeleteGroup, &view);
        assert_eq!(
            ended(run, Step::UndoDeleteGroup, done()).state.freed,
            StorageFate::Unknown,
            "{:?}",
            view.named::<Column>()
        );
    }
    let unmarked = changed(|view| view.set(Marked::No));
    let run = intended(undoing(), Step::UndoDeleteContent, &unmarked);
    assert_eq!(
        ended(run, Step::UndoDeleteContent, done()).state.freed,
        StorageFate::Unknown,
        "only the mark is made"
    );
}

#[test]
fn failed_or_unanswered_delete_leaves_storage_uncertain() {
    let intent = || intended(undoing(), Step::UndoDeleteGroup, &under_delete());
    let refused = Outcome::Determinate { code: 409, message: "changed".into() };
    let lost = Outcome::Indeterminate { message: "the reply was lost".into() };
    let not_there = Outcome::Done { uid: String::new(), resource_version: String::new() };
    let gone_at_once = Outcome::Done { uid: "u".into(), resource_version: String::new() };
    for outcome in [refused, lost, not_there, gone_at_once] {
        assert_eq!(ended(intent(), Step::UndoDeleteGroup, outcome).state.freed, StorageFate::Unknown);
    }
    let nothing_to_do = Event::StepCompleted { step: Step::UndoDeleteGroup, outcomes: Vec::new() };
    assert_eq!(next(intent(), nothing_to_do).state.freed, StorageFate::Unknown, "nothing was deleted");
    let killed = intended(intent(), Step::UndoDeleteSnapshots, &under_delete());
    assert_eq!(killed.state.freed, StorageFate::Unknown, "the answer was never recorded");
    let settled = ended(intent(), Step::UndoDeleteGroup, done());
    assert_eq!(intended(settled, Step::UndoFree, &under_delete()).state.freed, StorageFate::Unknown);
}

/// An import queries the driver for the group. The run ends only after the driver's answer.
#[test]
fn uncertain_rollback_queries_driver_before_it_ends() {
    let (mut run, mut seen) = (undoing(), nothing_left());
    let long_after = 10_000;
    seen.fresh = false;
    let view = stillpoint::machine::group::view(&run, &seen);
    let cached = decide(&run, &view, at(long_after)).expect("exactly one row");
    assert_eq!((cached.row.id, cached.then), ("undo/f-import", Action::Refresh));
    seen.fresh = true;
    assert_eq!(row(&run, &seen, long_after), "undo/f-import");
    let planned = effects(&run, &seen, Step::UndoImport);
    let [(_, Effect::CreateImport { content, .. })] = &planned[..] else { panic!("{planned:?}") };
    assert_eq!((content.group_handle.as_str(), content.snapshot_handles.len()), ("group-handle", 2));

    let import = GroupContentSeen { group_handle: None, ..group_content() };
    seen.import = Some(import.clone());
    assert_eq!(row(&run, &seen, long_after), "undo/f-importing", "it was not answered");
    seen.import = Some(GroupContentSeen { group_handle: Some("group-handle".into()), ..import.clone() });
    assert_eq!(row(&run, &seen, long_after), "undo/f-import-free", "the driver has the group");
    let planned = effects(&run, &seen, Step::UndoFreeImport);
    let [(_, Effect::DeleteGroupContent { resource_version, .. })] = &planned[..] else {
        panic!("{planned:?}")
    };
    assert_eq!(resource_version.as_ref(), Some(&import.resource_version));

    run = intended(run, Step::UndoFreeImport, &under_delete());
    run = ended(run, Step::UndoFreeImport, done());
    seen.import = Some(GroupContentSeen { terminating: true, ..import });
    assert_eq!(row(&run, &seen, long_after), "undo/f-importing", "it is being freed");
    seen.import = None;
    assert_eq!(row(&run, &seen, long_after), "undo/f-failed");
}

#[test]
fn only_unknown_group_leaves_nothing_to_free() {
    let run = undoing();
    for (error, expected) in [
        ("rpc error: code = NotFound desc = group snapshot 1 is not found", Import::Unknown),
        ("rpc error: code = Unimplemented desc = unknown method", Import::Unknown),
        ("rpc error: code = Unavailable desc = the array is busy", Import::Asked),
        ("rpc error: code = InvalidArgument desc = the group has other snapshots", Import::Asked),
        ("failed to get credentials", Import::Asked),
    ] {
        let import =
            GroupContentSeen { group_handle: None, error: Some(error.to_owned()), ..group_content() };
        let observation = Observation { import: Some(import), ..nothing_left() };
        assert_eq!(seen(&run, &observation, Column::Import), name(expected), "{error}");
    }
}

/// Storage that another client imported by a handle of the receipt belongs to that client.
#[test]
fn never_imports_storage_taken_by_another_client() {
    let observation = Observation { taken: true, ..nothing_left() };
    assert_eq!(row(&undoing(), &observation, 10_000), "undo/f-failed");
}

#[test]
fn run_without_receipt_imports_nothing() {
    let run = GroupRun { stage: Stage::Unwinding, ..created() };
    assert_eq!(row(&run, &nothing_left(), 10_000), "undo/f-failed");
}

#[test]
fn unanswered_import_is_repeated_with_backoff() {
    let lost = || Outcome::Indeterminate { message: "no answer".into() };
    let import_waits = |run: &GroupRun| {
        let view = stillpoint::machine::group::view(run, &nothing_left());
        let decision = decide(run, &view, at(100)).expect("exactly one row");
        assert_eq!(decision.row.id, "undo/f-import");
        decision.not_before
    };
    let mut run = undoing();
    assert_eq!(import_waits(&run), None, "the first one comes at once");
    let mut until = at(100);
    for round in 0..4 {
        run = ended(intended(run, Step::UndoImport, &under_delete()), Step::UndoImport, done());
        run = ended(intended(run, Step::UndoFreeImport, &under_delete()), Step::UndoFreeImport, lost());
        let waits = import_waits(&run).unwrap_or_else(|| panic!("round {round}: no pause"));
        assert!(waits > until, "round {round}: {waits:?} after {until:?}");
        until = waits;
    }
}
