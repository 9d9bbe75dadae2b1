//! Computes the next action of a run. It observes and decides without awaiting, so that a waiting run retains
//! none of the intermediate state.

use std::sync::Arc;

use super::{Driver, internal};
use crate::domain::problem::Problem;
use crate::domain::time::Timestamp;
use crate::engine::driven::Driven;
use crate::engine::telemetry::Metric;
use crate::machine::kit::{self, DecisionRecord, Event, Next, Step, WaitReport};

pub(super) enum NextAction<M: Driven> {
    Act {
        step: M::Step,
        row: &'static str,
        grounds: Box<DecisionRecord>,
        effects: Vec<(M::EffectRef, M::Effect)>,
        now: Timestamp,
    },
    /// Append records without effects.
    Record {
        milestone: M::Milestone,
        row: &'static str,
        events: Vec<Event<M>>,
        now: Timestamp,
    },
    /// Read everything from the API server, for this row.
    Refresh(&'static str),
    /// Check whether this daemon may free storage, for this row.
    Permit(&'static str),
    /// Wait for a change.
    Wait {
        /// Latest end of the wait.
        until: Option<Timestamp>,
        report: Arc<WaitReport>,
    },
    /// Another incarnation owns the run.
    StepDown,
    Done,
}

impl<M: Driven> Driver<M> {
    /// Observes and decides.
    ///
    /// # Errors
    /// The table has no matching row: the daemon ends.
    pub(super) fn next(&mut self) -> Result<NextAction<M>, Problem> {
        let now = self.context.clock.now();
        let mut seen = self.observe(now);
        let considered = kit::step(&self.logic, &self.run, &seen, now);
        let considered = considered.map_err(|error| internal(self.stream, &error))?;
        let (decision, row) = (considered.decision, considered.decision.row.id);
        tracing::debug!(row, "decided");
        if !matches!(considered.next, Next::Refresh) {
            self.context.metrics.record(Metric::Decided(row));
        }
        M::remember(&mut self.memory, &mut seen, &considered.view, now);
        let run = self.run.clone();
        let wait = |until: Option<Timestamp>, row: &'static str| {
            let report = WaitReport { row, ..M::report(&run, &seen, &decision, until, now) };
            let until = until.into_iter().chain(report.recheck).min();
            NextAction::Wait { until, report: Arc::new(report) }
        };
        let grounds = || Box::new(decision.grounds(&considered.view));
        Ok(match considered.next {
            Next::Act { step, .. } if step.frees() && !self.permitted => NextAction::Permit(row),
            Next::Act { step, effects } => NextAction::Act { step, row, grounds: grounds(), effects, now },
            Next::Record { milestone, events } => NextAction::Record { milestone, row, events, now },
            // A read before the end of the pause cannot justify the action after it.
            Next::Refresh if self.paused.is_some_and(|until| until > now) => wait(self.paused, self.pausing),
            Next::Refresh => NextAction::Refresh(row),
            Next::Wait { until } => {
                if decision.not_before.is_some() {
                    (self.paused, self.pausing) = (decision.not_before, row);
                }
                wait(until, row)
            }
            Next::StepDown => NextAction::StepDown,
            Next::Done => NextAction::Done,
        })
    }

    pub(super) fn observe(&mut self, now: Timestamp) -> M::Seen {
        M::observe(&self.context, &self.scope, self.fresh, now, &mut self.memory)
    }
}
