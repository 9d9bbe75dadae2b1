//! Lists the states of a run, and how a run is brought into each. They are generated from the machine, not
//! listed by hand.

use stillpoint::engine::backup_spec::Defaults;
use stillpoint::machine::group::Stage as RunStage;
use stillpoint::machine::group::Step;
use stillpoint::machine::group::table::TABLE;
use stillpoint::machine::kit::Action;
use stillpoint::machine::kit::Point;
use stillpoint::machine::kit::Stage as _;
use stillpoint::sim::Cluster;

use super::hand;
use crate::disruptions;

/// A change that leads a run into a state that it does not usually reach.
#[derive(Clone, Copy)]
pub struct Lead {
    pub at: Point,
    pub act: fn(&Cluster),
}

/// A place in a run at which a cause begins.
#[derive(Clone)]
pub struct State {
    pub name: String,
    /// Point after which the cause begins; `None` is before the Backup exists.
    pub at: Option<Point>,
    pub lead: Option<Lead>,
    pub keep_group_name: bool,
}

impl State {
    fn new(name: impl Into<String>, at: &str) -> Self {
        Self { name: name.into(), at: Some(point(at)), lead: None, keep_group_name: false }
    }

    fn led(self, at: &str, act: fn(&Cluster)) -> Self {
        Self { lead: Some(Lead { at: point(at), act }), ..self }
    }

    pub fn defaults(&self) -> Defaults {
        Defaults { keep_group_name: self.keep_group_name, ..Defaults::default() }
    }
}

fn point(text: &str) -> Point {
    text.parse().unwrap_or_else(|_| panic!("no point {text}"))
}

/// Returns all states: before the run, each stage, and each step of the release.
pub fn all() -> Vec<State> {
    let alone = State { name: "alone".to_owned(), at: None, lead: None, keep_group_name: false };
    let stages = RunStage::ALL.iter().flat_map(|testbed| match testbed {
        RunStage::Planned => vec![State::new("Planned", "planned/after-record")],
        RunStage::Created => vec![State::new("Created", "created/after-record")],
        RunStage::VSBound => vec![State::new("VSBound", "vs-bound/after-record")],
        RunStage::Relabelled => vec![State::new("Relabelled", "relabelled/after-record")],
        RunStage::Retained => vec![State::new("Retained", "retained/after-record")],
        RunStage::Releasing => release_steps().into_iter().map(of_release).collect(),
        RunStage::Cleaned => vec![State::new("Cleaned", "cleaned/after-record")],
        RunStage::Unwinding => {
            let state = State::new("Unwinding", "unwinding/after-record");
            vec![state.led("retained/before-record", |cluster| {
                disruptions::delete_first(cluster, "volumesnapshotclasses");
            })]
        }
        RunStage::Completed | RunStage::Failed | RunStage::Abandoned => Vec::new(),
    });
    std::iter::once(alone).chain(stages).collect()
}

/// Returns the steps that the table has between the pivot and Cleaned, in the order of its rows.
fn release_steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for row in TABLE.iter().filter(|row| row.stages == [RunStage::Releasing]) {
        if let Action::Act(step) = row.then
            && !steps.contains(&step)
        {
            steps.push(step);
        }
    }
    steps
}

/// Returns the state of a step of the release. A step without an entry is unknown to this function.
fn of_release(step: Step) -> State {
    let state = State::new(step.name(), &format!("{}/after-intent", step.name()));
    let delete_member = |cluster: &Cluster| disruptions::delete_member(cluster, "orders-db-1");
    match step {
        Step::ClearNames | Step::Detach | Step::DeleteGroup | Step::DeleteContent => state,
        Step::Retain => State::new("retain again", "retain/after-intent")
            .led("clear-names/after-outcome", disruptions::unretain_member),
        Step::Relabel => State::new("relabel again", "relabel/after-intent")
            .led("delete-content/after-intent", disruptions::unlabel_member),
        Step::Rebuild | Step::DropReplaced => state.led("delete-group/after-outcome", delete_member),
        Step::MakeStub | Step::DropStub => state.led("delete-content/after-effects", delete_member),
        Step::MarkContent => state.led("delete-content/before-intent", hand::delete_unmarked),
        Step::RestoreNames => State { keep_group_name: true, ..state },
        other => panic!("no scenario leads a release to {}", other.name()),
    }
}
