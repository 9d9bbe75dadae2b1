//! Computes the next action of a run. It observes and decides without awaiting, so that a waiting run retains
//! none of the intermediate state.

use std::sync::Arc;

use super::{Driver, internal};
use crate::domain::observed::Observation;
use crate::domain::problem::Problem;
use crate::domain::time::Timestamp;
use crate::engine::telemetry::Metric;
use crate::machine::group::row::Action;
use crate::machine::group::waiting::{count, report};
use crate::machine::group::{Decision, Milestone, Step, View, WaitReport, decide, view};

/// A decision with its observation and time.
pub(super) struct Decided {
    pub observation: Observation,
    pub view: View,
    pub decision: Decision,
    pub now: Timestamp,
}

pub(super) enum NextAction {
    Act(Box<Decided>, Step),
    /// Append records without effects.
    Advance(Box<Decided>, Milestone),
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
    Finished,
}

impl Driver {
    /// Observes and decides.
    ///
    /// # Errors
    /// The table has no matching row: the daemon ends.
    pub(super) fn next(&mut self) -> Result<NextAction, Problem> {
        let mut observation = self.observe();
        let view = view(&self.run, &observation);
        let now = self.context.clock.now();
        let decision = decide(&self.run, &view, now).map_err(|error| internal(self.run.plan.run, &error))?;
        tracing::debug!(row = decision.row.id, "decided");
        if decision.then != Action::Refresh {
            self.context.metrics.record(Metric::Decided(decision.row.id));
        }
        self.counted(&mut observation, &view, now);
        let (row, wake_at, not_before) = (decision.row, decision.wake_at, decision.not_before);
        let run = self.run.clone();
        let wait = |until: Option<Timestamp>, row: &'static str| {
            let report = WaitReport { row, ..report(&run, &observation, &decision, until, now) };
            let until = until.into_iter().chain(report.recheck).min();
            NextAction::Wait { until, report: Arc::new(report) }
        };
        Ok(match decision.then {
            Action::Act(_) if not_before.is_some() => {
                (self.paused, self.pausing) = (not_before, row.id);
                wait(not_before, row.id)
            }
            Action::Act(step) if step.frees() && !self.permitted => NextAction::Permit(row.id),
            Action::Act(step) => {
                NextAction::Act(Box::new(Decided { observation, view, decision, now }), step)
            }
            Action::Stick { .. } if self.run.stuck.as_deref() == Some(row.id) => wait(wake_at, row.id),
            Action::Advance(_) | Action::Unwind { .. } | Action::Stick { .. } => {
                let milestone = match decision.then {
                    Action::Advance(milestone) => milestone,
                    Action::Unwind { .. } => Milestone::Unwinding,
                    _ => Milestone::Stuck,
                };
                NextAction::Advance(Box::new(Decided { observation, view, decision, now }), milestone)
            }
            // A read before the end of the pause cannot justify the action after it.
            Action::Refresh if self.paused.is_some_and(|until| until > now) => {
                wait(self.paused, self.pausing)
            }
            Action::Refresh => NextAction::Refresh(row.id),
            Action::Wait(_) => wait(wake_at, row.id),
            Action::StepDown => NextAction::StepDown,
            Action::Finished => NextAction::Finished,
        })
    }

    /// Counts the members that exist and that are ready, and records since when both numbers have been
    /// unchanged.
    fn counted(&mut self, observation: &mut Observation, view: &View, now: Timestamp) {
        let members = count(view);
        let since = match self.members {
            Some((before, since)) if before == members => since,
            _ => now,
        };
        self.members = Some((members, since));
        observation.progress_since = Some(since);
    }

    pub(super) fn observe(&mut self) -> Observation {
        let mut observation =
            self.context.cache.observe(&self.scope, self.context.journal.epoch(), self.fresh);
        let failing = observation.content.as_ref().is_some_and(|content| content.error.is_some());
        self.error_since = failing.then(|| self.error_since.unwrap_or_else(|| self.context.clock.now()));
        observation.error_since = self.error_since;
        observation.journal = self.context.binder.journal_id();
        observation
    }
}
