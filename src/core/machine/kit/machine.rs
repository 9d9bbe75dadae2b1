//! Defines [`Machine`]: what a state machine adds to the kit.
//!
//! A machine is a marker type with data (stages, steps, milestones, columns, rows) and a few pure functions.
//! The kit folds, decides, replays, explains and drives it.

use std::fmt::Debug;
use std::hash::Hash;

use serde::Serialize;

use crate::domain::time::Timestamp;
use crate::machine::kit::call::Calls;
use crate::machine::kit::column::{ColumnId, Columns};
use crate::machine::kit::event::{OperatorRequest, Outcome, Reason};
use crate::machine::kit::fold::IllegalEvent;
use crate::machine::kit::named::Named;
use crate::machine::kit::run::Run;
use crate::machine::kit::table::{Row, Wait};
use crate::machine::kit::view::View;

/// A value that records or states hold.
pub trait Data: Clone + Debug + PartialEq + Eq + Send + Sync + 'static {}

impl<T: Clone + Debug + PartialEq + Eq + Send + Sync + 'static> Data for T {}

/// A stage of a run: the last state that was recorded durably.
pub trait Stage: Copy + Ord + Debug + Hash + Serialize + Send + Sync + 'static {
    /// All stages, in the order of a run.
    const ALL: &'static [Self];

    /// Whether the run is over.
    fn is_final(self) -> bool;

    /// Whether the point of no return has passed. Behind it a run only goes forward.
    fn is_behind_the_pivot(self) -> bool;
}

/// The part of a run in which a step belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before the pivot: the step can be rolled back.
    Forward,
    /// The intent of the step is the point of no return.
    Pivot,
    /// Behind the pivot.
    Release,
    /// Part of a rollback.
    Rollback,
}

/// A step: a set of effects under one intent. Each step is idempotent: when repeated, it reads the objects
/// first and writes only missing values.
pub trait Step: Named {
    /// The part of a run in which the step belongs.
    fn phase(self) -> Phase;

    /// Whether the step can free storage: it sets a policy to Delete, deletes under Delete, or imports.
    /// Before the first such step the engine reads binding, claim and receipts from the API server.
    fn frees(self) -> bool {
        false
    }

    /// Whether an effect of the step cannot be taken back: the pivot, and what frees storage.
    fn is_irreversible(self) -> bool {
        self.frees() || self.phase() == Phase::Pivot
    }

    /// Whether failures of the other step count as failures of this one, because the two revert each other.
    fn shares_retries_with(self, other: Self) -> bool {
        self == other
    }
}

/// A milestone with its evidence, so that a milestone cannot be written with the wrong evidence.
pub trait Reached: Data {
    /// The milestone without its evidence.
    type Milestone: Named;
    /// A rollback begins.
    const UNWINDING: Self::Milestone;
    /// No automatic action is left.
    const STUCK: Self::Milestone;

    fn milestone(&self) -> Self::Milestone;

    /// The evidence, for users.
    fn evidence(&self) -> serde_json::Value;

    /// The reason of a rollback or of a stuck run.
    fn reason(&self) -> Option<&Reason>;

    /// A rollback begins.
    fn unwinding(reason: Reason) -> Self;

    /// No automatic action is left.
    fn stuck(reason: Reason) -> Self;
}

/// Kind and member of an effect, for the journal, metrics and users.
pub trait EffectReference: Data + Copy + Serialize {
    /// Name of the kind in metrics: camelCase.
    fn kind(self) -> &'static str;

    /// Index of the member or child in the plan; `None` for an effect on the run as a whole.
    fn member(self) -> Option<u16>;
}

/// The observation lacks evidence for a decided milestone: a defect of Stillpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{milestone} was decided without {missing}")]
pub struct MissingEvidence {
    pub milestone: &'static str,
    pub missing: &'static str,
}

/// A state machine on the kit.
pub trait Machine: Copy + Ord + Debug + Hash + Send + Sync + 'static {
    /// Name in crash points, stream kinds and messages.
    const NAME: &'static str;
    /// Version of the table. Recorded with every decision; each change of a row increments it.
    const RULES: u16;
    /// Ids of rows that were merged, with the row that has them now. Older decisions are compared under them.
    const ALIASES: &'static [(&'static str, &'static str)] = &[];
    /// Whether an operator can send requests to a run.
    const ASKED: bool = true;
    /// The column that says whether a view was just read from the API server. Its first value is yes.
    const FRESH: Self::Column;
    /// The column whose second value says that the selected step failed as often as the limits allow, for
    /// rows that answer it.
    const REFUSALS: Option<Self::Column> = None;
    /// The same behind the pivot, for steps without such a row.
    const BLOCKED: Option<Self::Column> = None;

    /// Everything that is settled before the first effect.
    type Plan: Data + Serialize;
    type Stage: Stage;
    type Step: Step;
    type Milestone: Named;
    type Reached: Reached<Milestone = Self::Milestone>;
    /// A slice of a record that is larger than a record.
    type Part: Data + Serialize;
    /// What a run that was reconstructed from the cluster continues from.
    type Reconstructed: Data + Serialize;
    type Column: ColumnId;
    type Wait: Wait;
    /// The fields of a run that only this machine has.
    type State: Data + Serialize;
    /// Names and ids that a run observes in the cluster. It changes only with the run.
    type Scope: Clone + PartialEq + Send + Sync + 'static;
    /// The observed objects of a run.
    type Seen;
    /// An effect as the machine describes it.
    type Effect: Data;
    /// Kind and member of an effect, for the journal and for users.
    type EffectRef: EffectReference;

    /// The rows of the recovery table.
    fn table() -> &'static [Row<Self>];

    /// Stage and state after the first record.
    fn begin(plan: &Self::Plan, at: Timestamp) -> (Self::Stage, Self::State);

    /// Whether a milestone is valid for the run.
    fn allows(run: &Run<Self>, milestone: Self::Milestone) -> bool;

    /// Applies an intent. The kit has counted it.
    fn intended(_run: &mut Run<Self>, _step: Self::Step, _view: &View) {}

    /// Applies the outcomes of a step. The kit has counted failures.
    fn completed(_run: &mut Run<Self>, _step: Self::Step, _outcomes: &[Outcome], _at: Timestamp) {}

    /// Applies a part of a larger record.
    ///
    /// # Errors
    /// The part is not valid after the records before it.
    fn part(run: &mut Run<Self>, part: &Self::Part) -> Result<(), IllegalEvent>;

    /// Applies what was found in the cluster.
    ///
    /// # Errors
    /// The record is not valid after the records before it.
    fn reconstructed(
        run: &mut Run<Self>,
        found: &Self::Reconstructed,
        at: Timestamp,
    ) -> Result<(), IllegalEvent>;

    /// Applies a milestone that [`Machine::allows`].
    ///
    /// # Errors
    /// The evidence does not fit the records before it.
    fn reached(
        run: &mut Run<Self>,
        reached: &Self::Reached,
        view: &View,
        at: Timestamp,
    ) -> Result<(), IllegalEvent>;

    /// Applies a request of an operator. The kit has reset the counters of failures.
    fn requested(_run: &mut Run<Self>, _request: &OperatorRequest, _at: Timestamp) {}

    /// State name published to users.
    fn state_name(run: &Run<Self>) -> &'static str;

    /// Name of a record of the machine's own, for messages about an illegal one.
    fn part_name(part: &Self::Part) -> String;

    /// Name of a reconstruction, for messages about an illegal one.
    fn reconstructed_name(found: &Self::Reconstructed) -> String;

    /// Names and ids to observe. `before` is the last scope of the run: its computed names stay valid.
    fn scope(run: &Run<Self>, before: Option<&Self::Scope>) -> Self::Scope;

    /// Converts an observation to the seen columns.
    fn view(run: &Run<Self>, seen: &Self::Seen) -> View;

    /// Sets the columns that are not seen, from journal, view and time.
    fn compute(columns: &mut Columns<Self::Column>, run: &Run<Self>, view: &View, now: Timestamp);

    /// The times at which a column changes although nothing else does.
    fn deadlines(run: &Run<Self>, view: &View) -> Vec<Timestamp>;

    /// The missing effects of a step, in the order in which they begin.
    fn effects(run: &Run<Self>, seen: &Self::Seen, step: Self::Step) -> Vec<(Self::EffectRef, Self::Effect)>;

    /// The API calls of an effect.
    fn calls(effect: &Self::Effect) -> Calls;

    /// Builds a milestone with its evidence, and the parts that precede it.
    ///
    /// # Errors
    /// The observation lacks the evidence.
    fn evidence(
        run: &Run<Self>,
        seen: &Self::Seen,
        milestone: Self::Milestone,
    ) -> Result<(Vec<Self::Part>, Self::Reached), MissingEvidence>;

    /// The reason of a rollback or of a stuck run, for users: what was observed, and what to do.
    fn reason(run: &Run<Self>, seen: &Self::Seen, row: &Row<Self>) -> Reason;
}
