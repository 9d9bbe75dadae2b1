//! Puts the group machine on the kit.

use crate::domain::observed::{Observation, Scope};
use crate::domain::plan::Plan;
use crate::domain::time::Timestamp;
use crate::machine::group::columns::Column;
use crate::machine::group::effect::{Effect, EffectRef};
use crate::machine::group::event::{Milestone, Reached, ReceiptPart, Step};
use crate::machine::group::reconstruct::Reconstructed;
use crate::machine::group::state::{GroupRun, GroupState, Stage};
use crate::machine::group::table::{ALIASES, RULES, TABLE};
use crate::machine::group::wait::Waiting;
use crate::machine::group::{advance, calls, decide, effects, fold, view};
use crate::machine::kit::{
    Calls, Columns, IllegalEvent, Machine, MissingEvidence, OperatorRequest, Outcome, Reason, Row, View,
};

/// The group machine: one run of one group, from the plan to members that are ordinary snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupMachine;

impl Machine for GroupMachine {
    const NAME: &'static str = "group";
    const RULES: u16 = RULES;
    const ALIASES: &'static [(&'static str, &'static str)] = ALIASES;
    const FRESH: Column = Column::Fresh;
    const REFUSALS: Option<Column> = Some(Column::Refusals);
    const BLOCKED: Option<Column> = Some(Column::Blocked);

    type Plan = Plan;
    type Stage = Stage;
    type Step = Step;
    type Milestone = Milestone;
    type Reached = Reached;
    type Part = ReceiptPart;
    type Reconstructed = Reconstructed;
    type Column = Column;
    type Wait = Waiting;
    type State = GroupState;
    type Scope = Scope;
    type Seen = Observation;
    type Effect = Effect;
    type EffectRef = EffectRef;

    fn table() -> &'static [Row<Self>] {
        &TABLE
    }

    fn begin(_: &Plan, at: Timestamp) -> (Stage, GroupState) {
        (Stage::Planned, GroupState::new(at))
    }

    fn allows(run: &GroupRun, milestone: Milestone) -> bool {
        fold::allows(run, milestone)
    }

    fn intended(run: &mut GroupRun, step: Step, view: &View) {
        fold::intended(run, step, view);
    }

    fn completed(run: &mut GroupRun, step: Step, outcomes: &[Outcome], at: Timestamp) {
        fold::completed(run, step, outcomes, at);
    }

    fn part(run: &mut GroupRun, part: &ReceiptPart) -> Result<(), IllegalEvent> {
        fold::receipt_part(run, part)
    }

    fn reconstructed(run: &mut GroupRun, found: &Reconstructed, at: Timestamp) -> Result<(), IllegalEvent> {
        fold::reconstructed(run, found, at)
    }

    fn reached(
        run: &mut GroupRun,
        reached: &Reached,
        view: &View,
        at: Timestamp,
    ) -> Result<(), IllegalEvent> {
        fold::reached(run, reached, view, at)
    }

    fn requested(run: &mut GroupRun, request: &OperatorRequest, at: Timestamp) {
        fold::requested(run, request, at);
    }

    /// One of the five states, or one of the states around them.
    fn state_name(run: &GroupRun) -> &'static str {
        match run.stage {
            _ if run.stuck.is_some() => "Stuck",
            Stage::Planned => "Planned",
            Stage::Created => "Created",
            Stage::VSBound => "VSBound",
            Stage::Relabelled => "Relabelled",
            Stage::Retained | Stage::Releasing => "Retained",
            Stage::Cleaned => "Cleaned",
            Stage::Completed => "Completed",
            Stage::Unwinding => "Unwinding",
            Stage::Abandoned => "Abandoned",
            Stage::Failed => "Failed",
        }
    }

    fn part_name(part: &ReceiptPart) -> String {
        fold::part_name(part)
    }

    fn reconstructed_name(found: &Reconstructed) -> String {
        fold::reconstructed_name(found)
    }

    /// The names of rebuilt members are hashes, which take time to compute and never change.
    fn scope(run: &GroupRun, before: Option<&Scope>) -> Scope {
        before.map_or_else(|| run.scope(), |before| run.scope_after(before))
    }

    fn view(run: &GroupRun, seen: &Observation) -> View {
        view::view(run, seen)
    }

    fn compute(columns: &mut Columns<Column>, run: &GroupRun, view: &View, now: Timestamp) {
        decide::compute(columns, run, view, now);
    }

    fn deadlines(run: &GroupRun, view: &View) -> Vec<Timestamp> {
        decide::deadlines(run, view)
    }

    fn effects(run: &GroupRun, seen: &Observation, step: Step) -> Vec<(EffectRef, Effect)> {
        effects::effects(run, seen, step)
    }

    fn calls(effect: &Effect) -> Calls {
        calls::calls(effect)
    }

    fn evidence(
        run: &GroupRun,
        seen: &Observation,
        milestone: Milestone,
    ) -> Result<(Vec<ReceiptPart>, Reached), MissingEvidence> {
        advance::evidence(run, seen, milestone)
    }

    fn reason(run: &GroupRun, seen: &Observation, row: &Row<Self>) -> Reason {
        advance::reason(run, seen, row)
    }
}
