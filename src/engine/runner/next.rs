//! What a run does next: observed and decided without waiting, so that nothing of it is kept by a run that then waits.

use super::{Runner, internal};
use crate::domain::observed::Observation;
use crate::domain::problem::Problem;
use crate::domain::time::Timestamp;
use crate::engine::observer::Note;
use crate::machine::group::row::Action;
use crate::machine::group::{Decision, Milestone, Step, View, decide, view};

/// For what a run waits that has just failed.
const PAUSE: &str = "the pause after a failure to pass";

/// What a decision was made on, and when.
pub(super) struct Ground {
    pub observation: Observation,
    pub view: View,
    pub decision: Decision,
    pub now: Timestamp,
}

/// What to do.
pub(super) enum Next {
    /// A step.
    Act(Box<Ground>, Step),
    /// Records without effects.
    Advance(Box<Ground>, Milestone),
    /// Read everything anew.
    Look,
    /// Wait for a change.
    Wait {
        /// And at the longest until then.
        until: Option<Timestamp>,
        /// What is said of it.
        for_what: Option<&'static str>,
    },
    /// Another life has the run.
    Yield,
    /// It is over.
    Rest,
}

impl Runner {
    /// Observes and decides.
    ///
    /// # Errors
    /// The table has no answer: the daemon ends.
    pub(super) fn next(&mut self) -> Result<Next, Problem> {
        let observation = self.observe();
        let view = view(&self.run, &observation);
        let now = self.tools.clock.now();
        let decision = decide(&self.run, &view, now).map_err(|error| internal(self.run.plan.run, &error))?;
        tracing::debug!(row = decision.row.id, "decided");
        self.tools.observer.note(Note::Decided(decision.row.id));
        let (row, wake_at, not_before) = (decision.row, decision.wake_at, decision.not_before);
        let ground = || Box::new(Ground { observation, view, decision, now });
        Ok(match row.then {
            Action::Act(_) if not_before.is_some() => {
                self.paused = not_before;
                Next::Wait { until: not_before, for_what: Some(PAUSE) }
            }
            Action::Act(step) => Next::Act(ground(), step),
            Action::Advance(milestone) => Next::Advance(ground(), milestone),
            Action::Unwind { .. } => Next::Advance(ground(), Milestone::Unwinding),
            Action::Stick { .. } if self.run.stuck.as_deref() == Some(row.id) => {
                Next::Wait { until: wake_at, for_what: Some("a person; see the message") }
            }
            Action::Stick { .. } => Next::Advance(ground(), Milestone::Stuck),
            // What is read before the pause is over is no ground for what follows it.
            Action::Look if self.paused.is_some_and(|until| until > now) => {
                Next::Wait { until: self.paused, for_what: Some(PAUSE) }
            }
            Action::Look => Next::Look,
            Action::Wait(for_what) => Next::Wait { until: wake_at, for_what: Some(for_what.text()) },
            Action::Yield => Next::Yield,
            Action::Rest => Next::Rest,
        })
    }

    fn observe(&mut self) -> Observation {
        let mut observation = self.tools.world.observe(&self.scope, self.tools.journal.epoch(), self.fresh);
        let failing = observation.content.as_ref().is_some_and(|content| content.error.is_some());
        self.error_since = failing.then(|| self.error_since.unwrap_or_else(|| self.tools.clock.now()));
        observation.error_since = self.error_since;
        observation
    }
}
