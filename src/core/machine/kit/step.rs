//! Defines `step`: the next action of a run, from its state, an observation and the time.
//!
//! It is pure, and the only body of the loop: engine, audit, drills and tests call it. The functions that it
//! composes are in [`Logic`], so that a test can alter one of them and see that the drills notice.

use crate::domain::time::Timestamp;
use crate::machine::kit::decide::{Decision, Undecided, decide};
use crate::machine::kit::event::{DecisionRecord, Event, Reason};
use crate::machine::kit::machine::{Machine, MissingEvidence, Reached};
use crate::machine::kit::named::Named;
use crate::machine::kit::run::Run;
use crate::machine::kit::table::{Action, Row};
use crate::machine::kit::view::View;

type Effects<M> = Vec<(<M as Machine>::EffectRef, <M as Machine>::Effect)>;
type Evidence<M> = Result<(Vec<<M as Machine>::Part>, <M as Machine>::Reached), MissingEvidence>;

type ScopeFn<M> = fn(&Run<M>, Option<&<M as Machine>::Scope>) -> <M as Machine>::Scope;
type ViewFn<M> = fn(&Run<M>, &<M as Machine>::Seen) -> View;
type DecideFn<M> = fn(&Run<M>, &View, Timestamp) -> Result<Decision<M>, Undecided>;
type EffectsFn<M> = fn(&Run<M>, &<M as Machine>::Seen, <M as Machine>::Step) -> Effects<M>;
type EvidenceFn<M> = fn(&Run<M>, &<M as Machine>::Seen, <M as Machine>::Milestone) -> Evidence<M>;

/// The decisions of a machine, as functions.
pub struct Logic<M: Machine> {
    pub scope: ScopeFn<M>,
    pub view: ViewFn<M>,
    pub decide: DecideFn<M>,
    pub effects: EffectsFn<M>,
    pub evidence: EvidenceFn<M>,
}

// Derived, these would ask for the same of `M::Seen`.
impl<M: Machine> Clone for Logic<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Machine> Copy for Logic<M> {}

impl<M: Machine> Default for Logic<M> {
    fn default() -> Self {
        Self { scope: M::scope, view: M::view, decide, effects: M::effects, evidence: M::evidence }
    }
}

/// The next action of a run.
#[derive(Debug, Clone)]
pub enum Next<M: Machine> {
    /// Execute a step: record the intent durably, then perform the effects.
    Act {
        step: M::Step,
        /// The missing effects, each with its reference.
        effects: Effects<M>,
    },
    /// Record a milestone: these records in one batch, without effects.
    Record { milestone: M::Milestone, events: Vec<Event<M>> },
    /// Read all objects from the API server and decide again.
    Refresh,
    /// Wait for a change, at most until then.
    Wait { until: Option<Timestamp> },
    /// A newer daemon owns the run: stop writing to it.
    StepDown,
    /// The run is over.
    Done,
}

/// The next action, with the decision that it follows from.
#[derive(Debug, Clone)]
pub struct Considered<M: Machine> {
    pub view: View,
    pub decision: Decision<M>,
    pub next: Next<M>,
}

impl<M: Machine> Considered<M> {
    /// The record of the decision.
    pub fn grounds(&self) -> DecisionRecord {
        self.decision.grounds(&self.view)
    }
}

/// Why there is no next action: a defect of Stillpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    #[error(transparent)]
    Undecided(#[from] Undecided),
    #[error(transparent)]
    Evidence(#[from] MissingEvidence),
}

/// Decides what a run does next.
///
/// # Errors
/// The table has no row for the view, or the observation lacks the evidence of a milestone.
pub fn step<M: Machine>(
    logic: &Logic<M>,
    run: &Run<M>,
    seen: &M::Seen,
    now: Timestamp,
) -> Result<Considered<M>, Defect> {
    let view = (logic.view)(run, seen);
    let decision = (logic.decide)(run, &view, now)?;
    let row = decision.row;
    let next = match decision.then {
        Action::Act(_) if decision.not_before.is_some() => Next::Wait { until: decision.not_before },
        Action::Act(step) => Next::Act { step, effects: (logic.effects)(run, seen, step) },
        Action::Stick { .. } if run.stuck.as_deref() == Some(row.id) => {
            Next::Wait { until: decision.wake_at }
        }
        Action::Advance(milestone) => {
            let (parts, reached) = (logic.evidence)(run, seen, milestone)?;
            let parts = parts.into_iter().map(Event::Part);
            record(parts.collect(), reached, decision.grounds(&view))
        }
        Action::Unwind { .. } => {
            record(Vec::new(), M::Reached::unwinding(M::reason(run, seen, row)), decision.grounds(&view))
        }
        Action::Stick { .. } => {
            record(Vec::new(), M::Reached::stuck(M::reason(run, seen, row)), decision.grounds(&view))
        }
        Action::Refresh => Next::Refresh,
        Action::Wait(_) => Next::Wait { until: decision.wake_at },
        Action::StepDown => Next::StepDown,
        Action::Finished => Next::Done,
    };
    Ok(Considered { view, decision, next })
}

fn record<M: Machine>(mut events: Vec<Event<M>>, reached: M::Reached, grounds: DecisionRecord) -> Next<M> {
    let milestone = reached.milestone();
    events.push(Event::MilestoneReached { grounds, reached });
    Next::Record { milestone, events }
}

/// The first difference between a recorded event and its row, for users; none if they agree.
pub fn disagreement<M: Machine>(row: &Row<M>, event: &Event<M>) -> Option<String> {
    let agrees = match (row.then, event) {
        (Action::Act(says), Event::Intended { step, .. }) => says == *step,
        (Action::Advance(says), Event::MilestoneReached { reached, .. }) => says == reached.milestone(),
        (Action::Unwind { code, transient }, Event::MilestoneReached { reached, .. }) => {
            let is_same = |reason: &Reason| (reason.code, reason.transient) == (code, transient);
            reached.milestone() == M::Reached::UNWINDING && reached.reason().is_some_and(is_same)
        }
        (Action::Stick { code, .. }, Event::MilestoneReached { reached, .. }) => {
            let is_same = |reason: &Reason| reason.code == code;
            reached.milestone() == M::Reached::STUCK && reached.reason().is_some_and(is_same)
        }
        _ => false,
    };
    (!agrees).then(|| format!("the row says {}, the record says {}", says(row.then), event_name(event)))
}

/// The action of a row, in words.
pub fn says<M: Machine>(action: Action<M>) -> String {
    match action {
        Action::Act(step) => format!("to {}", step.name()),
        Action::Advance(milestone) => format!("{} is reached", milestone.name()),
        Action::Unwind { code, .. } => format!("to unwind with {code}"),
        Action::Stick { code, .. } => format!("to stick with {code}"),
        Action::Refresh | Action::Wait(_) => "to look or wait, which leaves no record".to_owned(),
        Action::StepDown | Action::Finished => "to do nothing".to_owned(),
    }
}

fn event_name<M: Machine>(event: &Event<M>) -> String {
    match event {
        Event::Intended { step, .. } => format!("intend {}", step.name()),
        Event::MilestoneReached { reached, .. } => match reached.reason() {
            Some(reason) => format!("reached {} with {}", reached.milestone().name(), reason.code),
            None => format!("reached {}", reached.milestone().name()),
        },
        Event::Planned(_)
        | Event::StepCompleted { .. }
        | Event::Part(_)
        | Event::Reconstructed(_)
        | Event::RequestReceived(_) => "no decision".to_owned(),
    }
}
