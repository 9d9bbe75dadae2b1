//! Defines `decide`: state × view × time → the one matching row of the recovery table, with its pause and
//! next deadline.
//!
//! It is deterministic, so that a replay of a recorded decision selects the same row. The pause after
//! failures belongs to the decision, not to the table: a row defines the action, the pause defines the time.

use crate::domain::limits;
use crate::domain::time::{Millis, Timestamp};
use crate::machine::kit::column::{ColumnId, Columns};
use crate::machine::kit::event::DecisionRecord;
use crate::machine::kit::machine::{Machine, Stage};
use crate::machine::kit::run::Run;
use crate::machine::kit::table::{Action, Row};
use crate::machine::kit::view::View;

/// Result of [`decide`].
#[derive(Debug, Clone, Copy)]
pub struct Decision<M: Machine> {
    /// The row that matched.
    pub row: &'static Row<M>,
    /// The action of the row; Refresh where the row needs a fresh view and this one is cached.
    pub then: Action<M>,
    /// Earliest time of the action: the pause after failures.
    pub not_before: Option<Timestamp>,
    /// The next deadline. The run decides again then, even if nothing changes.
    pub wake_at: Option<Timestamp>,
}

impl<M: Machine> Decision<M> {
    /// The record of the decision.
    pub fn grounds(&self, view: &View) -> DecisionRecord {
        DecisionRecord { row: self.row.id.to_owned(), rules: M::RULES, view: view.clone() }
    }
}

/// No row matched, or more than one: a defect of the table, or a view that this release cannot have recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The view has other columns than this release, or a value out of range.
    #[error("the recorded view has {0} columns or a value out of range")]
    Shape(usize),
    /// The number of matching rows is not one.
    #[error("{} rows match: {}", .0.len(), .0.join(", "))]
    Rows(Vec<&'static str>),
}

/// Selects the row for a run.
///
/// # Errors
/// The number of matching rows is not one.
pub fn decide<M: Machine>(run: &Run<M>, view: &View, now: Timestamp) -> Result<Decision<M>, Undecided> {
    let columns = columns(run, view, now)?;
    let row = select(run, &columns)?;
    let is_fresh = columns.ordinal(M::FRESH) == 0;
    let then = if row.is_fresh() && !is_fresh { Action::Refresh } else { row.then };
    let not_before = match then {
        Action::Act(step) => pause(run, step).filter(|until| *until > now),
        _ => None,
    };
    let wake_at = M::deadlines(run, view).into_iter().filter(|at| *at > now).min();
    Ok(Decision { row, then, not_before, wake_at })
}

fn select<M: Machine>(run: &Run<M>, columns: &Columns<M::Column>) -> Result<&'static Row<M>, Undecided> {
    let mut matching = M::table().iter().filter(|row| row.matches(run.stage, columns));
    match (matching.next(), matching.next()) {
        (Some(row), None) => Ok(row),
        (first, second) => {
            Err(Undecided::Rows(first.into_iter().chain(second).chain(matching).map(|row| row.id).collect()))
        }
    }
}

/// All columns: the seen ones from the view, the others from journal and time.
///
/// # Errors
/// The view has other columns than the machine.
pub fn columns<M: Machine>(
    run: &Run<M>,
    view: &View,
    now: Timestamp,
) -> Result<Columns<M::Column>, Undecided> {
    let mut columns = Columns::new();
    if view.seen.len() != View::columns::<M::Column>().count() {
        return Err(Undecided::Shape(view.seen.len()));
    }
    for (column, ordinal) in View::columns::<M::Column>().zip(&view.seen) {
        if usize::from(*ordinal) >= column.values().len() {
            return Err(Undecided::Shape(view.seen.len()));
        }
        columns.set_ordinal(column, *ordinal);
    }
    M::compute(&mut columns, run, view, now);
    set_tried(&mut columns, run)?;
    Ok(columns)
}

/// Sets [`Machine::REFUSALS`] or [`Machine::BLOCKED`] if the selected step has been tried as often as the
/// limits allow. Only attempts of the selected step count, also if a Refresh comes before it. Refusals of
/// another step say nothing about this one, for example about repairing the policy of a content.
fn set_tried<M: Machine>(columns: &mut Columns<M::Column>, run: &Run<M>) -> Result<(), Undecided> {
    if !tried_enough(run) {
        return Ok(());
    }
    let row = select(run, columns)?;
    if !matches!(row.then, Action::Act(step) if run.tries.are_of(step)) {
        return Ok(());
    }
    if let Some(refusals) = M::REFUSALS.filter(|column| row.tests(*column)) {
        columns.set_ordinal(refusals, 1);
    } else if let Some(blocked) = M::BLOCKED.filter(|_| run.stage.is_behind_the_pivot()) {
        columns.set_ordinal(blocked, 1);
    }
    Ok(())
}

/// Whether the current step has been tried as often as the limits allow. Before the pivot a rollback is
/// possible, so an API server that does not answer writes ends the attempt like one that refuses them. Behind
/// the pivot the only alternative is an operator, and an outage does not need one: only refusals count, and
/// repetitions of answered calls.
fn tried_enough<M: Machine>(run: &Run<M>) -> bool {
    let tries = &run.tries;
    match run.stage.is_behind_the_pivot() {
        true => {
            tries.refused >= limits::MAX_REFUSALS
                || tries.intents.saturating_sub(tries.lost) >= limits::MAX_REPEATS
        }
        false => tries.failures >= limits::MAX_REFUSALS || tries.intents >= limits::MAX_REPEATS,
    }
}

/// After failures the same step waits, twice as long each time. A step that is repeated without failing
/// (another client reverts it) waits as well, from its third time on.
fn pause<M: Machine>(run: &Run<M>, step: M::Step) -> Option<Timestamp> {
    let last = run.tries.last.filter(|_| run.tries.are_of(step))?;
    let repeats = run.tries.intents.saturating_sub(2);
    let wait = limits::backoff(run.tries.failures.max(repeats));
    (wait > Millis(0)).then(|| last.after(wait))
}

/// Explains to users why a row does not match: its first condition that fails.
pub fn mismatch<M: Machine>(row: &Row<M>, run: &Run<M>, columns: &Columns<M::Column>) -> Option<String> {
    if !row.stages.contains(&run.stage) {
        return Some(format!("the run is {:?}", run.stage));
    }
    let cond = row.when.iter().find(|cond| !cond.holds(columns))?;
    Some(format!("{} is {}", cond.column.name(), columns.value_name(cond.column)))
}
