//! Tests operator requests: the fold applies a request, and the table decides from the new state.

use crate::fixture::*;
use stillpoint::domain::limits;
use stillpoint::domain::problem::Code;
use stillpoint::machine::group::Event;
use stillpoint::machine::group::GroupRun;
use stillpoint::machine::group::Milestone;
use stillpoint::machine::group::Reached;
use stillpoint::machine::group::Stage;
use stillpoint::machine::group::Step;
use stillpoint::machine::group::Timed;
use stillpoint::machine::group::columns::*;
use stillpoint::machine::group::state::CreateFate;
use stillpoint::machine::group::table::TABLE;
use stillpoint::machine::kit::Action;
use stillpoint::machine::kit::Ask;
use stillpoint::machine::kit::DecisionRecord;
use stillpoint::machine::kit::IllegalEvent;
use stillpoint::machine::kit::OperatorRequest;
use stillpoint::machine::kit::Outcome;
use stillpoint::machine::kit::Reason;
use stillpoint::machine::kit::decide;
use stillpoint::machine::kit::fold;

fn grounds(row: &str) -> DecisionRecord {
    DecisionRecord { row: row.into(), rules: 4, view: view_with(|_| {}) }
}

fn next(run: GroupRun, event: Event) -> Result<GroupRun, IllegalEvent> {
    fold(Some(run), &Timed { at: at(100), event })
}

fn asked(ask: Ask) -> Event {
    Event::RequestReceived(OperatorRequest { ask, request: "r-1".into(), by: "alice".into() })
}

fn in_stage(stage: Stage) -> GroupRun {
    GroupRun { stage, ..planned() }
}

/// A run after the pivot that is stuck because its rebuild was refused.
fn stuck() -> GroupRun {
    stuck_by("release/rebuild-refused")
}

fn stuck_by(row: &str) -> GroupRun {
    let mut run = in_stage(Stage::Releasing);
    for _ in 0..limits::MAX_REFUSALS {
        let intent =
            Event::Intended { grounds: grounds("release/5-rebuild"), step: Step::Rebuild, marks: vec![] };
        let refused = Outcome::Determinate { code: 403, message: "no".into() };
        run = next(run, intent).expect("an intent");
        run = next(run, Event::StepCompleted { step: Step::Rebuild, outcomes: vec![refused] })
            .expect("an outcome");
    }
    let reason = Reason { code: Code::Refused, message: "no".into(), transient: false };
    let reached = Reached::Stuck(reason);
    let grounds = grounds(row);
    next(run, Event::MilestoneReached { grounds, reached }).expect("a stuck run")
}

fn lost() -> stillpoint::machine::kit::View {
    view_with(|view| {
        view.set(Content::Retain);
        view.set(Loss::Lost);
    })
}

fn row(run: &GroupRun) -> &'static str {
    decide(run, &lost(), at(1_000)).expect("exactly one row").row.id
}

#[test]
fn run_stuck_by_merged_row_is_stuck_by_its_successor() {
    assert_eq!(stuck_by("release/late-refused"), stuck());
}

#[test]
fn stuck_run_waits_until_user_resumes_it() {
    let run = stuck();
    assert_eq!((run.state_name(), row(&run)), ("Stuck", "release/rebuild-refused"));
    let run = next(run, asked(Ask::Resume)).expect("an input");
    assert_eq!((run.state_name(), row(&run)), ("Retained", "release/5-rebuild"));
    assert_eq!(decide(&run, &lost(), at(100)).expect("a row").not_before, None, "no pause is left");
    assert_eq!(run.answered.expect("an answer").was, "Stuck");
}

#[test]
fn resuming_healthy_run_has_no_effect() {
    for stage in [Stage::Planned, Stage::Created, Stage::Retained, Stage::Unwinding, Stage::Abandoned] {
        let run = next(in_stage(stage), asked(Ask::Resume)).expect("an input");
        assert_eq!((run.stage, run.reason.is_none()), (stage, true));
    }
}

#[test]
fn abandoned_run_rolls_back_before_pivot() {
    for stage in [Stage::Planned, Stage::Created, Stage::VSBound, Stage::Relabelled, Stage::Retained] {
        let run = next(in_stage(stage), asked(Ask::Abandon)).expect("an input");
        assert_eq!((run.stage, run.state.undone_at), (Stage::Unwinding, at(100)), "{stage:?}");
        assert_eq!(run.reason.as_ref().expect("a reason").code, Code::Abandoned);
        assert!(!run.retries() && run.timeline.iter().any(|p| p.milestone == Milestone::Unwinding));
    }
    let mut going = in_stage(Stage::Unwinding);
    going.reason = Some(Reason { code: Code::DeletedByOther, message: "gone".into(), transient: true });
    assert!(going.retries());
    let going = next(going, asked(Ask::Abandon)).expect("an input");
    assert!(!going.retries(), "the attempt that would follow is given up");
}

#[test]
fn abandoned_run_retains_everything_after_pivot() {
    let run = next(stuck(), asked(Ask::Abandon)).expect("an input");
    assert_eq!((run.stage, run.state_name(), run.keeps_storage()), (Stage::Abandoned, "Abandoned", true));
    assert_eq!(row(&run), "abandoned/failed", "what was lost is not rebuilt any more");
    let mended = |policies: Policies, content: Content| {
        let view = view_with(|view| {
            view.set(content);
            view.set(policies);
        });
        decide(&run, &view, at(200)).expect("exactly one row").row.id
    };
    assert_eq!(mended(Policies::Delete, Content::Retain), "release/mend-policies");
    assert_eq!(mended(Policies::Retain, Content::Delete), "release/mend-policies");
    let grounds = grounds("abandoned/failed");
    let failed = Event::MilestoneReached { grounds, reached: Reached::Failed };
    let failed = next(run, failed).expect("the end");
    assert_eq!((failed.stage, failed.keeps_storage()), (Stage::Failed, true));
    let anew = in_stage(Stage::Cleaned);
    assert_eq!(
        next(anew, asked(Ask::Abandon)).expect("an input").stage,
        Stage::Cleaned,
        "nothing is left to abandon"
    );
}

#[test]
fn each_request_leaves_every_stuck_row() {
    for row in TABLE.iter().filter(|row| matches!(row.then, Action::Stick { .. })) {
        for stage in row.stages {
            let run = GroupRun { stuck: Some(row.id.to_owned()), ..in_stage(*stage) };
            assert_eq!(next(run.clone(), asked(Ask::Resume)).expect("an input").stuck, None, "{}", row.id);
            let kept = next(run.clone(), asked(Ask::Keep)).expect("an input");
            assert!(matches!(kept.stage, Stage::Abandoned | Stage::Failed), "{}", row.id);
            let run = next(run, asked(Ask::Abandon)).expect("an input");
            assert!(matches!(run.stage, Stage::Unwinding | Stage::Abandoned), "{}", row.id);
        }
    }
}

#[test]
fn request_does_not_resolve_unknown_create() {
    let create = || Event::Intended { grounds: grounds("planned/create"), step: Step::Create, marks: vec![] };
    let run = next(planned(), create()).expect("an intent whose outcome a crash took");
    let run = next(run, asked(Ask::Resume)).expect("an input");
    let run = next(run, create()).expect("it is repeated");
    let refused = Outcome::Determinate { code: 403, message: "no".into() };
    let run =
        next(run, Event::StepCompleted { step: Step::Create, outcomes: vec![refused] }).expect("an outcome");
    assert_eq!(run.state.create, CreateFate::Unknown, "the first one may have happened");
}

#[test]
fn request_survives_second_attempt_but_not_completion() {
    let run = next(in_stage(Stage::Unwinding), asked(Ask::Resume)).expect("an input");
    let again = Event::MilestoneReached { grounds: grounds("undo/f-retry"), reached: Reached::Retried };
    let run = next(run, again).expect("a retry");
    assert_eq!(run.answered.expect("still known").asked.request, "r-1");
    for stage in [Stage::Completed, Stage::Failed] {
        let error = next(in_stage(stage), asked(Ask::Abandon)).expect_err("it is over");
        assert_eq!(error.to_string(), format!("request to abandon cannot follow {stage:?}"));
    }
}

#[test]
fn run_ends_with_storage_retained_from_anywhere() {
    let stages = [
        Stage::Planned,
        Stage::Created,
        Stage::VSBound,
        Stage::Relabelled,
        Stage::Retained,
        Stage::Releasing,
        Stage::Unwinding,
    ];
    for stage in stages {
        let run = GroupRun { stuck: Some("undo/e-kept".into()), ..in_stage(stage) };
        let run = next(run, asked(Ask::Keep)).expect("an input");
        assert_eq!(
            (run.stage, run.keeps_storage(), &run.stuck),
            (Stage::Abandoned, true, &None),
            "{stage:?}"
        );
        assert_eq!(run.reason.expect("a reason").code, Code::AbandonedRetained);
    }
    let again = next(in_stage(Stage::Abandoned), asked(Ask::Keep)).expect("an input");
    assert_eq!((again.stage, again.keeps_storage()), (Stage::Failed, true));
    assert!(again.timeline.iter().any(|passed| passed.milestone == Milestone::Failed));
    assert_eq!(
        next(in_stage(Stage::Abandoned), asked(Ask::Abandon)).expect("an input").stage,
        Stage::Abandoned
    );
    assert_eq!(next(in_stage(Stage::Cleaned), asked(Ask::Keep)).expect("an input").stage, Stage::Cleaned);
}

#[test]
fn abandoned_rollback_restores_retain_policies() {
    use stillpoint::domain::observed::DeletionPolicy;
    use stillpoint::machine::group::effects;
    use stillpoint::machine::group::view;
    for run in [created(), with_receipt()] {
        let going = GroupRun { stage: Stage::Unwinding, ..run };
        let run = next(going, asked(Ask::Keep)).expect("an input");
        let mut observation = bound();
        let import =
            stillpoint::domain::observed::GroupContentSeen { id: object("", "import"), ..group_content() };
        observation.import = Some(import);
        let decided = |o: &stillpoint::domain::observed::Observation| {
            decide(&run, &view(&run, o), at(200)).expect("exactly one row").row.id
        };
        assert_eq!(decided(&observation), "release/mend-policies");
        assert_eq!(effects(&run, &observation, Step::Retain).len(), 4, "group, two members, import");
        observation.content.as_mut().expect("a content").policy = DeletionPolicy::Retain;
        assert_eq!(decided(&observation), "release/mend-policies");
    }
}
