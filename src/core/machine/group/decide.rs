//! Defines `decide`: state × view × time → the one matching row of the recovery table, with its pause and
//! next deadline.
//!
//! It is deterministic, so that a replay of a recorded decision selects the same row. The pause after
//! failures belongs to the decision, not to the table: a row defines the action, the pause defines the time.

use crate::domain::limits;
use crate::domain::planted;
use crate::domain::time::{Millis, Timestamp};
use crate::machine::group::columns::{
    AfterUndo, Atomicity, Blocked, Column, ColumnValue, Columns, Create, CutDeadline, CutRecorded, Echo,
    Fresh, Grace, KeepName, LateWindow, Loss, Progress, ReadyDeadline, Refusals, Source, Storage, Taken,
};
use crate::machine::group::event::Step;
use crate::machine::group::row::{Action, Row};
use crate::machine::group::state::{CreateFate, GroupRun, Stage, StorageFate};
use crate::machine::group::table::TABLE;
use crate::machine::group::view::View;

/// Result of [`decide`].
#[derive(Debug, Clone, Copy)]
pub struct Decision {
    /// The row that matched.
    pub row: &'static Row,
    /// The action of the row; Refresh where the row needs a fresh view and this one is cached.
    pub then: Action,
    /// Earliest time of the action: the pause after failures.
    pub not_before: Option<Timestamp>,
    /// The next deadline. The run decides again then, even if nothing changes.
    pub wake_at: Option<Timestamp>,
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
pub fn decide(run: &GroupRun, view: &View, now: Timestamp) -> Result<Decision, Undecided> {
    let columns = columns(run, view, now)?;
    let row = select(run, &columns)?;
    let then = if row.is_fresh() && !columns.is(Fresh::Yes) { Action::Refresh } else { row.then };
    let not_before = match then {
        Action::Act(step) => pause(run, step).filter(|until| *until > now),
        _ => None,
    };
    Ok(Decision {
        row,
        then,
        not_before,
        wake_at: deadlines(run, view).into_iter().filter(|at| *at > now).min(),
    })
}

fn select(run: &GroupRun, columns: &Columns) -> Result<&'static Row, Undecided> {
    if planted::is("undo-after-pivot") && run.stage == Stage::Releasing && columns.is(Loss::Lost) {
        return TABLE.iter().find(|row| row.id == "early/member-gone").ok_or(Undecided::Rows(Vec::new()));
    }
    let mut matching = TABLE.iter().filter(|row| row.matches(run.stage, columns));
    match (matching.next(), matching.next()) {
        (Some(row), None) => Ok(row),
        (first, second) => {
            Err(Undecided::Rows(first.into_iter().chain(second).chain(matching).map(|row| row.id).collect()))
        }
    }
}

/// All columns: the seen ones from the view, the others from journal and time.
pub fn columns(run: &GroupRun, view: &View, now: Timestamp) -> Result<Columns, Undecided> {
    let mut columns = Columns::new();
    if view.seen.len() != View::columns().count() {
        return Err(Undecided::Shape(view.seen.len()));
    }
    for (column, ordinal) in View::columns().zip(&view.seen) {
        if usize::from(*ordinal) >= column.values().len() {
            return Err(Undecided::Shape(view.seen.len()));
        }
        columns.set_ordinal(column, *ordinal);
    }
    set_known(&mut columns, run);
    set_computed(&mut columns, run, view, now);
    set_tried(&mut columns, run)?;
    if planted::is("deadline-first") && run.stage == Stage::Created && columns.is(CutDeadline::Passed) {
        columns.set(Progress::Nothing);
    }
    Ok(columns)
}

fn set_known(columns: &mut Columns, run: &GroupRun) {
    columns.set(match (run.create, &run.group_uid) {
        (_, Some(_)) | (CreateFate::Happened, None) => Create::Happened,
        (CreateFate::Untried, None) => Create::Untried,
        (CreateFate::Unknown, None) => Create::Unknown,
        (CreateFate::Refused, None) => Create::Refused,
    });
    columns.set(if run.cut.is_some() { CutRecorded::Yes } else { CutRecorded::No });
    columns.set(if run.retries() { AfterUndo::Retry } else { AfterUndo::Fail });
    columns.set(if run.plan.keep_group_name { KeepName::Yes } else { KeepName::No });
    let too_far = run.plan.atomicity.required && run.atomicity().is_some_and(|grade| !grade.is_atomic());
    columns.set(if too_far { Atomicity::TooFar } else { Atomicity::Accepted });
}

/// Sets `Refusals` or `Blocked` if the selected step has been tried as often as the limits allow. Only
/// attempts of the selected step count, also if a Refresh comes before it. Refusals of another step say
/// nothing about this one, for example about repairing the policy of a content.
fn set_tried(columns: &mut Columns, run: &GroupRun) -> Result<(), Undecided> {
    columns.set(Refusals::Few);
    columns.set(Blocked::No);
    if !tried_enough(run) {
        return Ok(());
    }
    let row = select(run, columns)?;
    if !matches!(row.then, Action::Act(step) if run.tries.are_of(step)) {
        return Ok(());
    }
    if row.when.iter().any(|cond| cond.column == Refusals::COLUMN) {
        columns.set(Refusals::Many);
    } else if is_behind_the_pivot(run.stage) {
        columns.set(Blocked::Yes);
    }
    Ok(())
}

fn is_behind_the_pivot(stage: Stage) -> bool {
    matches!(stage, Stage::Releasing | Stage::Abandoned)
}

/// Whether the current step has been tried as often as the limits allow. Before the pivot a rollback is
/// possible, so an API server that does not answer writes ends the attempt like one that refuses them. Behind
/// the pivot the only alternative is an operator, and an outage does not need one: only refusals count, and
/// repetitions of answered calls.
fn tried_enough(run: &GroupRun) -> bool {
    let tries = &run.tries;
    match is_behind_the_pivot(run.stage) {
        true => {
            tries.refused >= limits::MAX_REFUSALS
                || tries.intents.saturating_sub(tries.lost) >= limits::MAX_REPEATS
        }
        false => tries.failures >= limits::MAX_REFUSALS || tries.intents >= limits::MAX_REPEATS,
    }
}

fn set_computed(columns: &mut Columns, run: &GroupRun, view: &View, now: Timestamp) {
    let passed = |at: Timestamp| now >= at;
    let doubtful = run.receipt.is_some() && run.freed != StorageFate::Settled && !view.is(Taken::Yes);
    columns.set(if doubtful { Storage::Doubtful } else { Storage::Settled });
    columns.set(if passed(cut_deadline(run)) { CutDeadline::Passed } else { CutDeadline::Open });
    columns.set(if passed(ready_deadline(run)) { ReadyDeadline::Passed } else { ReadyDeadline::Open });
    columns.set(if grace_end(view).is_some_and(passed) { Grace::Passed } else { Grace::Open });
    columns.set(if run.taken_along || passed(late_window_end(run)) {
        LateWindow::Passed
    } else {
        LateWindow::Open
    });
    columns.set(if passed(echo_end(run)) { Echo::Passed } else { Echo::Open });
}

pub(super) fn cut_deadline(run: &GroupRun) -> Timestamp {
    run.attempt_at.after(run.plan.cut_timeout)
}

pub(super) fn ready_deadline(run: &GroupRun) -> Timestamp {
    run.attempt_at.after(run.plan.ready_timeout)
}

fn grace_end(view: &View) -> Option<Timestamp> {
    view.error_since.map(|since| since.after(limits::GROUP_ERROR_GRACE))
}

pub(super) fn late_window_end(run: &GroupRun) -> Timestamp {
    run.undone_at.after(limits::LATE_CONTENT_WINDOW)
}

pub(super) fn echo_end(run: &GroupRun) -> Timestamp {
    run.released_at.after(limits::NAMES_STAY_AWAY)
}

fn deadlines(run: &GroupRun, view: &View) -> Vec<Timestamp> {
    let ends = [cut_deadline(run), ready_deadline(run), late_window_end(run), echo_end(run)];
    ends.into_iter().chain(grace_end(view)).collect()
}

/// After failures the same step waits, twice as long each time. A step that is repeated without failing
/// (another client reverts it) waits as well, from its third time on.
fn pause(run: &GroupRun, step: Step) -> Option<Timestamp> {
    let last = run.tries.last.filter(|_| run.tries.are_of(step))?;
    let repeats = run.tries.intents.saturating_sub(2);
    let wait = limits::backoff(run.tries.failures.max(repeats));
    (wait > Millis(0)).then(|| last.after(wait))
}

/// Explains to users why a row does not match: its first condition that fails.
pub fn mismatch(row: &Row, run: &GroupRun, columns: &Columns) -> Option<String> {
    if !row.stages.contains(&run.stage) {
        return Some(format!("the run is {:?}", run.stage));
    }
    let cond = row.when.iter().find(|cond| !cond.holds(columns))?;
    Some(format!("{} is {}", cond.column.name(), columns.value_name(cond.column)))
}

/// The columns that are not seen. A replay computes them again.
pub fn computed_columns() -> impl Iterator<Item = Column> {
    Column::ALL.iter().copied().filter(|column| column.source() != Source::Seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::group::table::columns_of;

    /// The values of a column for which a row matches, as bits.
    fn mask(row: &Row, column: Column) -> u16 {
        let all = (1 << column.values().len()) - 1;
        row.when.iter().find(|cond| cond.column == column).map_or(all, |cond| cond.mask & all)
    }

    /// A combination of values that no row matches.
    fn gap(rows: &[&Row], columns: &[Column]) -> Option<String> {
        let Some((column, rest)) = columns.split_first() else {
            return rows.is_empty().then(String::new);
        };
        column.values().iter().enumerate().find_map(|(at, value)| {
            let left: Vec<&Row> =
                rows.iter().copied().filter(|row| mask(row, *column) & (1 << at) != 0).collect();
            gap(&left, rest).map(|deeper| format!("{}={value} {deeper}", column.name()))
        })
    }

    /// The rows have no combination in common, and together cover as many combinations as exist. Therefore
    /// exactly one row matches each combination.
    #[test]
    fn exactly_one_row_matches_each_combination() {
        let mut total = 0_u64;
        for stage in Stage::ALL {
            let rows: Vec<&Row> = TABLE.iter().filter(|row| row.stages.contains(stage)).collect();
            let columns = columns_of(*stage);
            for (at, one) in rows.iter().enumerate() {
                for other in &rows[at + 1..] {
                    let apart = columns.iter().any(|column| mask(one, *column) & mask(other, *column) == 0);
                    assert!(apart, "{stage:?}: {} and {} match the same", one.id, other.id);
                }
            }
            let volume = |row: &&Row| -> u64 {
                columns.iter().map(|column| u64::from(mask(row, *column).count_ones())).product()
            };
            let matched: u64 = rows.iter().map(volume).sum();
            let all: u64 = columns.iter().map(|column| column.values().len() as u64).product();
            assert!(matched == all, "{stage:?}: no row for {}", gap(&rows, &columns).unwrap_or_default());
            println!("{stage:?}: {} rows, {all} combinations", rows.len());
            total += all;
        }
        println!("{} rows, {total} combinations", TABLE.len());
    }

    #[test]
    fn every_row_is_reachable_by_unique_id() {
        let mut ids: Vec<&str> = TABLE.iter().map(|row| row.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), TABLE.len(), "two rows share an id");
        for row in TABLE {
            assert!(!row.stages.is_empty() && !row.why.is_empty(), "{} says nothing", row.id);
            assert!(row.when.iter().all(|cond| cond.mask != 0), "{} can never match", row.id);
            let columns: std::collections::BTreeSet<_> = row.when.iter().map(|cond| cond.column).collect();
            assert_eq!(columns.len(), row.when.len(), "{} names a column twice", row.id);
        }
    }

    #[test]
    fn no_row_rolls_back_after_the_pivot() {
        for row in TABLE.iter().filter(|row| row.stages.contains(&Stage::Releasing)) {
            assert!(!matches!(row.then, Action::Unwind { .. }), "{} undoes after the pivot", row.id);
            let clocks = row.when.iter().map(|cond| cond.column).filter(|c| c.source() == Source::Clock);
            assert!(clocks.into_iter().all(|clock| clock == Column::Echo), "{} looks at a clock", row.id);
        }
    }

    #[test]
    fn abandoned_run_deletes_nothing_after_the_pivot() {
        let rows: Vec<&Row> = TABLE.iter().filter(|row| row.stages.contains(&Stage::Abandoned)).collect();
        for row in &rows {
            let acts = matches!(row.then, Action::Act(step) if !matches!(step, Step::Retain | Step::Claim));
            assert!(!acts && !matches!(row.then, Action::Unwind { .. }), "{}", row.id);
        }
        assert!(rows.iter().any(|row| row.id == "abandoned/failed"));
    }

    #[test]
    fn group_object_deletes_require_fresh_reads() {
        use crate::machine::group::columns::Fresh;
        for row in TABLE {
            let deletes = matches!(
                row.then,
                Action::Act(Step::DeleteGroup | Step::DeleteContent | Step::UndoDeleteGroup)
                    | Action::Advance(
                        crate::machine::group::event::Milestone::Cleaned
                            | crate::machine::group::event::Milestone::Failed
                    )
            );
            let asks = row
                .when
                .iter()
                .any(|cond| cond.column == Fresh::COLUMN && cond.mask == 1 << Fresh::Yes as u16);
            let never_created = row.id.starts_with("undo/f-never");
            assert!(!deletes || asks || never_created, "{} deletes without a fresh look", row.id);
        }
    }
}
