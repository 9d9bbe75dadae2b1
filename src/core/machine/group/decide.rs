//! Sets the columns of a group run that are not seen: from the journal, the view and the time.

use crate::domain::limits;
use crate::domain::time::Timestamp;
use crate::machine::group::columns::{
    AfterUndo, Atomicity, Column, Create, CutDeadline, CutRecorded, Echo, Grace, KeepName, LateWindow,
    ReadyDeadline, Storage, Taken,
};
use crate::machine::group::state::{CreateFate, GroupRun, StorageFate};
use crate::machine::kit::{Columns, View};

pub(super) fn compute(columns: &mut Columns<Column>, run: &GroupRun, view: &View, now: Timestamp) {
    set_known(columns, run);
    set_computed(columns, run, view, now);
}

fn set_known(columns: &mut Columns<Column>, run: &GroupRun) {
    columns.set(match (run.state.create, &run.state.group_uid) {
        (_, Some(_)) | (CreateFate::Happened, None) => Create::Happened,
        (CreateFate::Untried, None) => Create::Untried,
        (CreateFate::Unknown, None) => Create::Unknown,
        (CreateFate::Refused, None) => Create::Refused,
    });
    columns.set(if run.state.cut.is_some() { CutRecorded::Yes } else { CutRecorded::No });
    columns.set(if run.retries() { AfterUndo::Retry } else { AfterUndo::Fail });
    columns.set(if run.plan.keep_group_name { KeepName::Yes } else { KeepName::No });
    let too_far = run.plan.atomicity.required && run.atomicity().is_some_and(|grade| !grade.is_atomic());
    columns.set(if too_far { Atomicity::TooFar } else { Atomicity::Accepted });
}

fn set_computed(columns: &mut Columns<Column>, run: &GroupRun, view: &View, now: Timestamp) {
    let passed = |at: Timestamp| now >= at;
    let doubtful =
        run.state.receipt.is_some() && run.state.freed != StorageFate::Settled && !view.is(Taken::Yes);
    columns.set(if doubtful { Storage::Doubtful } else { Storage::Settled });
    columns.set(if passed(cut_deadline(run)) { CutDeadline::Passed } else { CutDeadline::Open });
    columns.set(if passed(ready_deadline(run)) { ReadyDeadline::Passed } else { ReadyDeadline::Open });
    columns.set(if grace_end(view).is_some_and(passed) { Grace::Passed } else { Grace::Open });
    columns.set(if run.state.taken_along || passed(late_window_end(run)) {
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
    run.state.undone_at.after(limits::LATE_CONTENT_WINDOW)
}

pub(super) fn echo_end(run: &GroupRun) -> Timestamp {
    run.state.released_at.after(limits::NAMES_STAY_AWAY)
}

pub(super) fn deadlines(run: &GroupRun, view: &View) -> Vec<Timestamp> {
    let ends = [cut_deadline(run), ready_deadline(run), late_window_end(run), echo_end(run)];
    ends.into_iter().chain(grace_end(view)).collect()
}

#[cfg(test)]
mod tests {
    use crate::machine::group::GroupMachine;
    use crate::machine::group::columns::Column;
    use crate::machine::group::event::Step;
    use crate::machine::group::state::Stage;
    use crate::machine::group::table::TABLE;
    use crate::machine::kit::proof::prove;
    use crate::machine::kit::{Action, ColumnId as _, Row, Source};

    #[test]
    fn exactly_one_row_matches_each_combination() {
        println!("{:?}", prove::<GroupMachine>().expect("a proof"));
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
        let rows: Vec<&Row<GroupMachine>> =
            TABLE.iter().filter(|row| row.stages.contains(&Stage::Abandoned)).collect();
        for row in &rows {
            let acts = matches!(row.then, Action::Act(step) if !matches!(step, Step::Retain | Step::Claim));
            assert!(!acts && !matches!(row.then, Action::Unwind { .. }), "{}", row.id);
        }
        assert!(rows.iter().any(|row| row.id == "abandoned/failed"));
    }

    #[test]
    fn group_object_deletes_require_fresh_reads() {
        for row in TABLE.iter() {
            let deletes = matches!(
                row.then,
                Action::Act(Step::DeleteGroup | Step::DeleteContent | Step::UndoDeleteGroup)
                    | Action::Advance(
                        crate::machine::group::event::Milestone::Cleaned
                            | crate::machine::group::event::Milestone::Failed
                    )
            );
            let asks = row.is_fresh();
            let never_created = row.id.starts_with("undo/f-never");
            assert!(!deletes || asks || never_created, "{} deletes without a fresh look", row.id);
        }
    }
}
