//! Tests decisions: evidence before deadlines, pauses after failures, a limit on repetitions.

use std::sync::Arc;

use crate::fixture::*;
use stillpoint::domain::atomicity::Demand;
use stillpoint::domain::limits;
use stillpoint::domain::plan::Plan;
use stillpoint::domain::receipt::Receipt;
use stillpoint::domain::time::Timestamp;
use stillpoint::machine::group::Event;
use stillpoint::machine::group::GroupRun;
use stillpoint::machine::group::Reached;
use stillpoint::machine::group::Stage;
use stillpoint::machine::group::Step;
use stillpoint::machine::group::Timed;
use stillpoint::machine::group::columns::*;
use stillpoint::machine::group::table::TABLE;
use stillpoint::machine::kit::Action;
use stillpoint::machine::kit::DecisionRecord;
use stillpoint::machine::kit::Outcome;
use stillpoint::machine::kit::View;
use stillpoint::machine::kit::decide;
use stillpoint::machine::kit::fold;

fn grounds() -> DecisionRecord {
    DecisionRecord { row: "test".into(), rules: 1, view: view_with(|_| {}) }
}

fn created() -> GroupRun {
    let reached = Reached::Created { uid: group().id.uid };
    folded(vec![Event::MilestoneReached { grounds: grounds(), reached }])
}

fn row(run: &GroupRun, view: &View, now: Timestamp) -> &'static str {
    decide(run, view, now).expect("exactly one row").row.id
}

/// Whether the run reads everything anew before it acts.
fn refreshes(run: &GroupRun, view: &View, now: Timestamp) -> bool {
    decide(run, view, now).expect("exactly one row").then == Action::Refresh
}

#[test]
fn accepts_ready_group_after_deadline_during_downtime() {
    let late = at(1_000_000);
    let ours = |progress: Progress| {
        view_with(|view| {
            view.set(Group::Ours);
            view.set(progress);
        })
    };
    assert_eq!(row(&created(), &ours(Progress::Bound), late), "created/cut");
    assert_eq!(row(&created(), &ours(Progress::Frozen), late), "created/cut-too-late");
    assert_eq!(row(&created(), &ours(Progress::Frozen), at(599)), "created/wait-cut");
}

#[test]
fn final_error_fails_run_after_grace_period() {
    let failing = |since: Timestamp| {
        let mut view = view_with(|view| {
            view.set(Group::Ours);
            view.set(Progress::Frozen);
            view.set(DriverError::Final);
        });
        view.error_since = Some(since);
        view
    };
    let grace = limits::GROUP_ERROR_GRACE;
    assert_eq!(row(&created(), &failing(at(10)), at(11)), "created/error-grace");
    assert_eq!(row(&created(), &failing(at(10)), at(10).after(grace)), "created/error");
}

#[test]
fn waiting_run_wakes_at_next_deadline() {
    let view = view_with(|view| {
        view.set(Group::Ours);
        view.set(Progress::Frozen);
    });
    let decision = decide(&created(), &view, at(100)).expect("exactly one row");
    let undo_window = at(0).after(limits::LATE_CONTENT_WINDOW);
    assert!(decision.wake_at.is_some_and(|wake| wake > at(100) && wake <= at(600) && wake != undo_window));
}

fn tried(times: usize, outcome: &Outcome) -> GroupRun {
    let one = || {
        let intent = Event::Intended { grounds: grounds(), step: Step::Create, marks: Vec::new() };
        [intent, Event::StepCompleted { step: Step::Create, outcomes: vec![outcome.clone()] }]
    };
    folded((0..times).flat_map(|_| one()).collect())
}

#[test]
fn failing_step_backs_off_until_its_limit() {
    let unknown = Outcome::Indeterminate { message: "lost".into() };
    let absent = view_with(|_| {});
    let mut last = 0;
    for failures in 1..limits::MAX_REFUSALS {
        let run = tried(failures as usize, &unknown);
        let ended = run.tries.last.expect("it was tried");
        let decision = decide(&run, &absent, ended).expect("exactly one row");
        let pause = decision.not_before.expect("a pause").since(ended).0;
        assert!(pause > last, "{failures}: {pause} ms after {last} ms");
        last = pause;
    }
    assert_eq!(
        row(&tried(limits::MAX_REFUSALS as usize, &unknown), &absent, at(100)),
        "planned/tried-enough"
    );
}

/// No rollback is possible behind the pivot. A step that is refused too often waits there for an operator. An
/// outage ends without one.
#[test]
fn retries_outage_after_pivot_but_not_refusal() {
    let lost = view_with(|view| {
        view.set(Content::Retain);
        view.set(Loss::Lost);
        view.set(Fresh::Yes);
    });
    let after = |times: u32, outcome: Outcome| {
        let mut run = planned();
        run.stage = Stage::Releasing;
        for _ in 0..times {
            let intent = Event::Intended { grounds: grounds(), step: Step::Rebuild, marks: Vec::new() };
            for event in
                [intent, Event::StepCompleted { step: Step::Rebuild, outcomes: vec![outcome.clone()] }]
            {
                run = fold(Some(run), &Timed { at: at(100), event }).expect("it follows");
            }
        }
        row(&run, &lost, at(1_000_000))
    };
    let refused = |code| Outcome::Determinate { code, message: "no".into() };
    assert_eq!(after(1_000, Outcome::Indeterminate { message: "lost".into() }), "release/5-rebuild");
    assert_eq!(after(1_000, refused(429)), "release/5-rebuild");
    assert_eq!(after(limits::MAX_REFUSALS - 1, refused(403)), "release/5-rebuild");
    assert_eq!(after(limits::MAX_REFUSALS, refused(403)), "release/rebuild-refused");
    let done = Outcome::Done { uid: "u".into(), resource_version: "1".into() };
    assert_eq!(after(limits::MAX_REPEATS, done), "release/rebuild-refused", "somebody keeps undoing it");
}

/// Its name is not used again: a controller with an old cache may cut the deleted group.
#[test]
fn never_repeats_answered_create_of_deleted_group() {
    let done = Outcome::Done { uid: "u".into(), resource_version: "1".into() };
    let gone = |fresh| view_with(|view| view.set(fresh));
    assert!(refreshes(&tried(1, &done), &gone(Fresh::No), at(100)));
    assert!(!refreshes(&tried(1, &done), &gone(Fresh::Yes), at(100)));
    assert_eq!(row(&tried(1, &done), &gone(Fresh::Yes), at(100)), "planned/gone");
    let lost = Outcome::Indeterminate { message: "lost".into() };
    assert_eq!(row(&tried(1, &lost), &gone(Fresh::Yes), at(100)), "planned/create");
    let cut = view_with(|view| view.set(Content::Delete));
    assert_eq!(row(&tried(1, &lost), &cut, at(100)), "planned/cut");
}

/// The Backup has the epoch of a newer daemon even if no group exists: nothing more is created.
#[test]
fn overtaken_run_yields_before_group_exists() {
    let overtaken = view_with(|view| view.set(Group::Newer));
    assert_eq!(row(&planned(), &overtaken, at(1)), "any/overtaken");
}

/// The storage of a group is freed only through its content. Without it no object that retains storage is
/// deleted, and the run gets stuck instead of ending.
#[test]
fn rollback_keeps_members_that_were_released() {
    let mut run = created();
    run.stage = Stage::Unwinding;
    let standing = |names: Names, ties: Ties| {
        view_with(|view| {
            view.set(Retaining::Some);
            view.set(Shells::Snapshots);
            view.set(names);
            view.set(ties);
        })
    };
    let late = at(1_000_000);
    assert_eq!(row(&run, &standing(Names::Clear, Ties::Free), late), "undo/e-kept");
    assert_eq!(row(&run, &standing(Names::Set, Ties::Free), late), "undo/e-snapshots-named");
    assert_eq!(row(&run, &standing(Names::Clear, Ties::Tied), late), "undo/e-untie");
}

#[test]
fn stops_repeating_step_that_is_always_reverted() {
    let done = Outcome::Done { uid: "u".into(), resource_version: "1".into() };
    let unlabelled = view_with(|view| {
        view.set(Group::Ours);
        view.set(Content::Delete);
        view.set(Labels::Missing);
    });
    let after = |times: u32| {
        let mut run = planned();
        run.stage = Stage::VSBound;
        for _ in 0..times {
            let intent = Event::Intended { grounds: grounds(), step: Step::Relabel, marks: Vec::new() };
            for event in [intent, Event::StepCompleted { step: Step::Relabel, outcomes: vec![done.clone()] }]
            {
                run = fold(Some(run), &Timed { at: at(100), event }).expect("it follows");
            }
        }
        run
    };
    let third = decide(&after(3), &unlabelled, at(100)).expect("exactly one row");
    assert_eq!((third.row.id, third.not_before.is_some()), ("bound/relabel", true), "the third time pauses");
    assert_eq!(row(&after(limits::MAX_REPEATS), &unlabelled, at(100)), "bound/refused");
}

#[test]
fn rejects_view_this_release_cannot_record() {
    let mut short = view_with(|_| {});
    short.seen.pop();
    assert!(decide(&planned(), &short, at(1)).is_err());
    let mut wild = view_with(|_| {});
    wild.seen[0] = 99;
    assert!(decide(&planned(), &wild, at(1)).is_err());
}

/// A bound run whose second member was cut at that time.
fn bound_run(demand: Demand, cut_at: Option<Timestamp>) -> GroupRun {
    let mut run = with_receipt();
    let mut receipt: Receipt = (**run.state.receipt.as_ref().expect("a receipt")).clone();
    receipt.members[1].created_at = cut_at;
    run.state.receipt = Some(Arc::new(receipt));
    run.plan = Arc::new(Plan { atomicity: demand, ..(*run.plan).clone() });
    run
}

#[test]
fn accepts_large_skew_unless_limit_forbids_it() {
    let view = view_with(|view| {
        view.set(Group::Ours);
        view.set(Content::Delete);
        view.set(Labels::Missing);
    });
    let decided = |required: bool, cut_at: Option<Timestamp>| {
        let demand = Demand { required, ..Demand::default() };
        row(&bound_run(demand, cut_at), &view, at(20))
    };
    for (cut_at, where_required) in [
        (Some(at(5)), "bound/relabel"),
        (Some(at(6)), "bound/relabel"),
        (Some(at(50)), "bound/too-far"),
        (None, "bound/too-far"),
        (Some(Timestamp(0)), "bound/too-far"),
    ] {
        assert_eq!(decided(true, cut_at), where_required, "{cut_at:?}");
        assert_eq!(decided(false, cut_at), "bound/relabel", "{cut_at:?}");
    }
}

#[test]
fn deleted_member_ends_wait_for_readiness() {
    let lost = |fresh: Fresh| {
        view_with(|view| {
            view.set(Group::Ours);
            view.set(Progress::Cut);
            view.set(Loss::Lost);
            view.set(fresh);
        })
    };
    let mut run = created();
    assert_eq!(row(&run, &lost(Fresh::No), at(100)), "created/cut", "the cut is recorded first");
    run.state.cut = Some(("handle".into(), at(2)));
    assert!(refreshes(&run, &lost(Fresh::No), at(100)));
    assert_eq!(row(&run, &lost(Fresh::Yes), at(100)), "created/member-gone");
}

#[test]
fn missing_class_ends_wait_before_readiness() {
    let missing = |progress: Progress| {
        view_with(|view| {
            view.set(Group::Ours);
            view.set(progress);
            view.set(GroupClass::Missing);
            view.set(Fresh::Yes);
        })
    };
    let mut run = created();
    assert_eq!(row(&run, &missing(Progress::Frozen), at(100)), "created/class-gone-uncut");
    run.state.cut = Some(("handle".into(), at(2)));
    assert_eq!(row(&run, &missing(Progress::Cut), at(100)), "created/class-gone");
    assert_eq!(row(&run, &missing(Progress::Bound), at(100)), "created/bound");
}

/// A run behind the pivot with one step that was refused as often as the limits allow.
fn refused_behind_the_pivot(step: Step) -> GroupRun {
    let mut run = planned();
    run.stage = Stage::Releasing;
    for _ in 0..limits::MAX_REFUSALS {
        let intent = Event::Intended { grounds: grounds(), step, marks: Vec::new() };
        let refused = Outcome::Determinate { code: 403, message: "no".into() };
        for event in [intent, Event::StepCompleted { step, outcomes: vec![refused] }] {
            run = fold(Some(run), &Timed { at: at(100), event }).expect("it follows");
        }
    }
    run
}

#[test]
fn refused_step_after_pivot_becomes_stuck() {
    let mut stuck = std::collections::BTreeSet::new();
    for acting in TABLE.iter().filter(|row| row.stages.contains(&Stage::Releasing)) {
        let Action::Act(step) = acting.then else { continue };
        let mut view = view_with(|_| {});
        let mut run = refused_behind_the_pivot(step);
        for cond in &acting.when {
            let value = cond.accepts().next().expect("a value");
            match (cond.column, value) {
                (Column::Retention, "Missing") => view.set(Policies::Delete),
                (Column::Carrier, "Content") => view.set(Content::Retain),
                (Column::Carrier, "Terminating") => view.set(Content::RetainTerminating),
                (Column::Carrier, "Stub") => view.set(Stub::Exists),
                (Column::GroupName, "Unwanted") => view.set(Names::Set),
                (Column::GroupName, "Missing" | "Taken") => {
                    run.plan = Arc::new(Plan { keep_group_name: true, ..plan() });
                    view.set(if value == "Taken" { Group::Foreign } else { Group::Absent });
                }
                (Column::NameClash, "Yes") => {
                    view.set(Group::Foreign);
                    view.set(Names::Set);
                }
                _ => {}
            }
            if let Some(at) = View::columns::<Column>().position(|column| column == cond.column) {
                view.seen[at] = cond.mask.trailing_zeros() as u8;
            }
        }
        let decided = decide(&run, &view, at(1_000_000)).expect("exactly one row").row;
        assert!(matches!(decided.then, Action::Stick { .. }), "{} is followed by {}", acting.id, decided.id);
        stuck.insert(decided.id);
        let other = if step == Step::Claim { Step::Detach } else { Step::Claim };
        let run = GroupRun { plan: run.plan, ..refused_behind_the_pivot(other) };
        let decided = decide(&run, &view, at(1_000_000)).expect("exactly one row").row;
        assert_eq!(decided.id, acting.id, "another step was refused");
    }
    println!("{stuck:?}");
    assert!(stuck.contains("release/refused") && stuck.contains("release/rebuild-refused"), "{stuck:?}");
}

/// The controller deleted the content itself: it knows of the deletion and creates no content later.
#[test]
fn expects_no_late_content_after_controller_deletion() {
    let mut run = created();
    run.stage = Stage::Unwinding;
    let stands = view_with(|view| {
        view.set(Group::Ours);
        view.set(Content::Delete);
    });
    let grounds = DecisionRecord { view: stands, ..grounds() };
    let intent = Event::Intended { grounds, step: Step::UndoDeleteGroup, marks: Vec::new() };
    let held = Outcome::Done { uid: "u".into(), resource_version: "1".into() };
    let ended = |outcome: &Outcome| {
        let events = [
            intent.clone(),
            Event::StepCompleted { step: Step::UndoDeleteGroup, outcomes: vec![outcome.clone()] },
        ];
        let folded = events.into_iter().fold(run.clone(), |run, event| {
            fold(Some(run), &Timed { at: at(100), event }).expect("it follows")
        });
        row(&folded, &view_with(|_| {}), at(101))
    };
    assert_eq!(ended(&held), "undo/f-failed");
    let at_once = Outcome::Done { uid: "u".into(), resource_version: String::new() };
    assert_eq!(
        ended(&at_once),
        "undo/f-late",
        "no finalizer held it: the controller may not have heard of it"
    );
    assert_eq!(ended(&Outcome::Indeterminate { message: "lost".into() }), "undo/f-late");
}
