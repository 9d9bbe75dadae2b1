//! Defines `fold`: state × event → state. It is the only code that changes a [`Run`].
//!
//! A transition that the machine never makes is an error that names both sides. The journal is then foreign
//! or corrupt.

use std::sync::Arc;

use crate::domain::limits;
use crate::machine::kit::event::{Event, OperatorRequest, Outcome, Timed};
use crate::machine::kit::machine::{Machine, Reached, Stage};
use crate::machine::kit::named::Named;
use crate::machine::kit::run::{Answered, RetryState, Run};
use crate::machine::kit::table::current_id;

/// A record that is not valid after the records before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEvent {
    /// The first record of a stream is not the plan.
    #[error("a run begins with {0}, not with a plan")]
    NotPlanned(String),
    /// The record is not valid in the stage.
    #[error("{event} cannot follow {stage}")]
    OutOfPlace {
        /// Stage of the run.
        stage: String,
        event: String,
    },
    /// The parts of the receipt do not match its final record.
    #[error("the receipt is incomplete: {0}")]
    Receipt(String),
    /// The parts do not match the record that closes them, or a record names what does not exist.
    #[error("the records do not belong together: {0}")]
    Parts(String),
}

impl IllegalEvent {
    /// The record is not valid in the stage of the run.
    pub fn out_of_place<M: Machine>(run: &Run<M>, event: String) -> Self {
        Self::OutOfPlace { stage: format!("{:?}", run.stage), event }
    }
}

/// Folds one record into the state; `None` is the empty stream.
///
/// # Errors
/// The record is not valid after the records before it.
pub fn fold<M: Machine>(state: Option<Run<M>>, record: &Timed<M>) -> Result<Run<M>, IllegalEvent> {
    let Some(mut run) = state else {
        return match &record.event {
            Event::Planned(plan) => Ok(Run::new((**plan).clone(), record.at)),
            other => Err(IllegalEvent::NotPlanned(name(other))),
        };
    };
    match &record.event {
        Event::Planned(_) => return Err(out_of_place(&run, &record.event)),
        Event::Intended { step, grounds, marks } => {
            intended(&mut run, *step, record)?;
            run.marks = marks.as_slice().into();
            M::intended(&mut run, *step, &grounds.view);
        }
        Event::StepCompleted { step, outcomes } => {
            completed(&mut run, *step, outcomes, record)?;
            M::completed(&mut run, *step, outcomes, record.at);
            run.marks = Arc::default();
        }
        Event::Part(part) => M::part(&mut run, part)?,
        Event::Reconstructed(found) => M::reconstructed(&mut run, found, record.at)?,
        Event::MilestoneReached { reached, grounds } => {
            let milestone = reached.milestone();
            if !M::allows(&run, milestone) {
                return Err(out_of_place(&run, &record.event));
            }
            let sticks = milestone == M::Reached::STUCK;
            // Refusals counted before the run got stuck stay counted. Only an operator request resets them.
            if !sticks {
                run.tries = RetryState::default();
            }
            run.open_intent = None;
            M::reached(&mut run, reached, &grounds.view, record.at)?;
            run.note(milestone, record.at);
            run.stuck = sticks.then(|| current_id::<M>(&grounds.row).to_owned());
        }
        Event::RequestReceived(request) => requested(&mut run, request, record)?,
    }
    run.changed_at = record.at;
    Ok(run)
}

/// Folds all records of a stream; `None` for an empty one.
///
/// # Errors
/// A record is not valid after the records before it.
pub fn fold_all<'a, M: Machine>(
    records: impl IntoIterator<Item = &'a Timed<M>>,
) -> Result<Option<Run<M>>, IllegalEvent> {
    records.into_iter().try_fold(None, |state, record| fold(state, record).map(Some))
}

fn intended<M: Machine>(run: &mut Run<M>, step: M::Step, record: &Timed<M>) -> Result<(), IllegalEvent> {
    if run.stage.is_final() {
        return Err(out_of_place(run, &record.event));
    }
    if !run.tries.are_of(step) {
        run.tries = RetryState::default();
    }
    run.tries.step = Some(step);
    run.tries.intents += 1;
    run.open_intent = Some(step);
    run.stuck = None;
    Ok(())
}

fn completed<M: Machine>(
    run: &mut Run<M>,
    step: M::Step,
    outcomes: &[Outcome],
    record: &Timed<M>,
) -> Result<(), IllegalEvent> {
    if run.open_intent.take() != Some(step) {
        return Err(out_of_place(run, &record.event));
    }
    let failure = outcomes
        .iter()
        .enumerate()
        .find_map(|(index, outcome)| outcome.failure().map(|error| (index, error)));
    match failure {
        Some((index, error)) => {
            let refused = outcomes.iter().any(Outcome::is_refusal);
            run.tries.failures += 1;
            run.tries.refused += u32::from(refused);
            run.tries.lost += u32::from(!refused);
            run.tries.error = Some(limits::clip(&error));
            run.tries.failed = run.marks.get(index).copied();
            run.tries.failing_since.get_or_insert(record.at);
        }
        None => {
            (run.tries.failures, run.tries.refused, run.tries.error) = (0, 0, None);
            (run.tries.failed, run.tries.failing_since) = (None, None);
        }
    }
    run.tries.last = Some(record.at);
    Ok(())
}

/// Applies an operator request. The table decides what follows from the resulting state.
fn requested<M: Machine>(
    run: &mut Run<M>,
    request: &OperatorRequest,
    record: &Timed<M>,
) -> Result<(), IllegalEvent> {
    if run.stage.is_final() {
        return Err(out_of_place(run, &record.event));
    }
    let was = run.state_name();
    // An earlier intent of a create is not forgotten: a refusal of the next create proves nothing about the
    // first.
    let intents = run.tries.intents.min(1);
    run.tries = RetryState { step: run.tries.step, intents, ..RetryState::default() };
    (run.stuck, run.open_intent) = (None, None);
    M::requested(run, request, record.at);
    run.answered = Some(Answered { asked: request.clone(), at: record.at, was });
    Ok(())
}

fn out_of_place<M: Machine>(run: &Run<M>, event: &Event<M>) -> IllegalEvent {
    IllegalEvent::out_of_place(run, name(event))
}

fn name<M: Machine>(event: &Event<M>) -> String {
    match event {
        Event::Planned(_) => "planned".to_owned(),
        Event::Intended { step, .. } => format!("intent to {}", step.name()),
        Event::StepCompleted { step, .. } => format!("outcome of {}", step.name()),
        Event::Part(part) => M::part_name(part),
        Event::Reconstructed(found) => M::reconstructed_name(found),
        Event::MilestoneReached { reached, .. } => reached.milestone().name().to_owned(),
        Event::RequestReceived(request) => format!("request to {}", request.ask.name()),
    }
}
