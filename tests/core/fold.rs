//! Tests illegal records: a transition that the machine never makes is an error that names both sides.

use crate::fixture::*;
use stillpoint::domain::problem::Code;
use stillpoint::machine::group::Event;
use stillpoint::machine::group::GroupRun;
use stillpoint::machine::group::Reached;
use stillpoint::machine::group::Stage;
use stillpoint::machine::group::Step;
use stillpoint::machine::group::Timed;
use stillpoint::machine::group::state::CreateFate;
use stillpoint::machine::kit::DecisionRecord;
use stillpoint::machine::kit::IllegalEvent;
use stillpoint::machine::kit::Outcome;
use stillpoint::machine::kit::Reached as _;
use stillpoint::machine::kit::Reason;
use stillpoint::machine::kit::fold;

fn grounds() -> DecisionRecord {
    DecisionRecord { row: "test".into(), rules: 1, view: view_with(|_| {}) }
}

fn intended(step: Step) -> Event {
    Event::Intended { grounds: grounds(), step, marks: Vec::new() }
}

fn reached(reached: Reached) -> Event {
    Event::MilestoneReached { grounds: grounds(), reached }
}

fn ended(step: Step, outcome: Outcome) -> Event {
    Event::StepCompleted { step, outcomes: vec![outcome] }
}

fn refused(code: u16) -> Outcome {
    Outcome::Determinate { code, message: "no".into() }
}

fn unknown() -> Outcome {
    Outcome::Indeterminate { message: "the reply was lost".into() }
}

fn next(run: GroupRun, event: Event) -> Result<GroupRun, IllegalEvent> {
    fold(Some(run), &Timed { at: at(100), event })
}

#[test]
fn run_begins_only_with_its_plan() {
    let first = Timed { at: at(0), event: intended(Step::Create) };
    assert!(matches!(fold(None, &first), Err(IllegalEvent::NotPlanned(_))));
    assert!(matches!(
        next(planned(), Event::Planned(Box::new(plan()))),
        Err(IllegalEvent::OutOfPlace { stage, .. }) if stage == "Planned"
    ));
}

#[test]
fn milestones_occur_in_order() {
    use Reached as R;
    let cut = R::Cut { group_handle: "g".into() };
    let cleaned = R::Cleaned(Vec::new());
    for early in [cut, R::Relabelled, R::Retained, cleaned, R::Completed, R::Failed, R::Retried] {
        let milestone = early.milestone();
        let error = next(planned(), reached(early)).expect_err("it cannot follow a plan");
        assert!(error.to_string().contains(milestone.name()), "{error}");
        assert!(error.to_string().contains("Planned"), "{error}");
    }
}

#[test]
fn outcome_belongs_to_preceding_intent() {
    let run = folded(vec![intended(Step::Create)]);
    assert!(next(run.clone(), ended(Step::Relabel, unknown())).is_err());
    let run = next(run, ended(Step::Create, unknown())).expect("the outcome of the intent");
    assert!(next(run, ended(Step::Create, unknown())).is_err(), "an intent ends once");
}

#[test]
fn only_refused_first_create_leaves_nothing() {
    let after = |outcomes: &[Outcome]| {
        let events = outcomes.iter().flat_map(|o| [intended(Step::Create), ended(Step::Create, o.clone())]);
        folded(events.collect()).state.create
    };
    assert_eq!(after(&[refused(403)]), CreateFate::Refused);
    assert_eq!(after(&[refused(422)]), CreateFate::Refused);
    assert_eq!(after(&[refused(409)]), CreateFate::Unknown, "it exists: somebody created it");
    assert_eq!(after(&[refused(429)]), CreateFate::Unknown, "it may be let in later");
    assert_eq!(after(&[unknown()]), CreateFate::Unknown);
    assert_eq!(after(&[unknown(), refused(403)]), CreateFate::Unknown, "the first one may have happened");
}

#[test]
fn rollback_reply_proves_create_happened() {
    let unwinding = || {
        let mut run = planned();
        (run.stage, run.state.create) = (Stage::Unwinding, CreateFate::Unknown);
        run
    };
    let done = |uid: &str| Outcome::Done { uid: uid.into(), resource_version: "1".into() };
    let after = |step: Step, outcome: Outcome| {
        let run = next(unwinding(), intended(step)).expect("an intent");
        next(run, ended(step, outcome)).expect("its outcome").state.group_uid.map(|uid| uid.0)
    };
    for step in [Step::Claim, Step::UndoCreate, Step::UndoDeleteGroup] {
        assert_eq!(after(step, done("uid-1")), Some("uid-1".to_owned()), "{}", step.name());
        assert_eq!(after(step, unknown()), None, "{}", step.name());
        assert_eq!(after(step, refused(409)), None, "{}", step.name());
    }
    assert_eq!(after(Step::UndoDeleteSnapshots, done("uid-1")), None, "that is another object");
}

#[test]
fn intent_to_clear_names_is_pivot() {
    let mut run = planned();
    run.stage = Stage::Retained;
    let run = next(run, intended(Step::ClearNames)).expect("the pivot");
    assert_eq!(run.stage, Stage::Releasing);
    let reason = Reason { code: Code::Refused, message: "no".into(), transient: true };
    assert!(next(run, reached(Reached::Unwinding(reason))).is_err(), "there is no undo behind it");
}

#[test]
fn new_attempt_starts_under_another_name() {
    let mut run = planned();
    let first = run.group_name();
    run.stage = Stage::Unwinding;
    run.state.create = CreateFate::Unknown;
    run.state.group_uid = Some(group().id.uid);
    let run = next(run, reached(Reached::Retried)).expect("a retry");
    assert_eq!((run.attempt, run.stage, run.state.create), (2, Stage::Planned, CreateFate::Untried));
    assert_eq!((run.state.group_uid.clone(), run.attempt_at), (None, at(100)));
    assert_ne!(run.group_name(), first);
}

#[test]
fn no_record_follows_the_end() {
    for stage in [Stage::Completed, Stage::Failed] {
        let mut run = planned();
        run.stage = stage;
        assert!(next(run.clone(), intended(Step::Create)).is_err());
        let reason = Reason { code: Code::Refused, message: "no".into(), transient: false };
        assert!(next(run, reached(Reached::Stuck(reason))).is_err());
    }
}
