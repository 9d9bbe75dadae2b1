//! Sets the columns of a group run that are not seen: from the journal, the view and the time.

use crate::domain::limits;
use crate::domain::time::Timestamp;
use crate::machine::group::columns::{
    AfterUndo, Atomicity, Carrier, Column, Content, Create, CutDeadline, CutRecorded, Echo, Grace, Group,
    GroupName, LateWindow, NameClash, Names, Policies, ReadyDeadline, Retention, Storage, Stub, Taken,
};
use crate::machine::group::state::{CreateFate, GroupRun, StorageFate};
use crate::machine::kit::{Columns, View};

pub(super) fn compute(columns: &mut Columns<Column>, run: &GroupRun, view: &View, now: Timestamp) {
    set_known(columns, run);
    set_derived(columns, run.plan.keep_group_name);
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
    let too_far = run.plan.atomicity.required && run.atomicity().is_some_and(|grade| !grade.is_atomic());
    columns.set(if too_far { Atomicity::TooFar } else { Atomicity::Accepted });
}

fn set_derived(columns: &mut Columns<Column>, puts_names_back: bool) {
    // While another object has the name, a create of unknown fate cannot be repeated.
    if columns.is(Create::Unknown) && columns.is(Group::Foreign) {
        columns.set(Create::Happened);
    }
    let clash = columns.is(Group::Foreign) && !columns.is(Names::Clear);
    columns.set(if clash { NameClash::Yes } else { NameClash::No });
    columns.set(group_name(columns, puts_names_back));
    columns.set(retention(columns));
    columns.set(carrier(columns));
}

fn retention(columns: &Columns<Column>) -> Retention {
    let deletes = columns.is(Content::Delete) || columns.is(Content::DeleteTerminating);
    if deletes || columns.is(Policies::Delete) { Retention::Missing } else { Retention::Complete }
}

fn carrier(columns: &Columns<Column>) -> Carrier {
    match () {
        () if columns.is(Content::Delete) || columns.is(Content::Retain) => Carrier::Content,
        () if !columns.is(Content::Absent) => Carrier::Terminating,
        () if columns.is(Stub::Exists) => Carrier::Stub,
        () => Carrier::None,
    }
}

fn group_name(columns: &Columns<Column>, puts_back: bool) -> GroupName {
    match puts_back {
        false if columns.is(Names::Clear) => GroupName::Cleared,
        false => GroupName::Unwanted,
        true if columns.is(Group::Foreign) => GroupName::Taken,
        true if columns.is(Names::Set) => GroupName::Restored,
        true => GroupName::Missing,
    }
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
    use crate::machine::group::columns::*;
    use crate::machine::group::event::Step;
    use crate::machine::group::state::Stage;
    use crate::machine::group::table::TABLE;
    use crate::machine::kit::proof::prove;
    use crate::machine::kit::{Action, ColumnId as _, Columns, Row, Source};

    /// The columns after the seen and known ones were set.
    fn derived(set: impl FnOnce(&mut Columns<Column>), puts_names_back: bool) -> Columns<Column> {
        let mut columns = Columns::new();
        set(&mut columns);
        super::set_derived(&mut columns, puts_names_back);
        columns
    }

    #[test]
    fn retention_requires_all_policies_and_receipt() {
        use Content::{Absent, Delete, DeleteTerminating, Retain, RetainTerminating};
        for content in [Absent, Delete, Retain, DeleteTerminating, RetainTerminating] {
            for policies in [Policies::Retain, Policies::Delete] {
                let columns = derived(
                    |columns| {
                        columns.set(content);
                        columns.set(policies);
                    },
                    false,
                );
                let retains = policies == Policies::Retain && ![Delete, DeleteTerminating].contains(&content);
                assert_eq!(columns.is(Retention::Complete), retains, "{content:?} {policies:?}");
            }
        }
    }

    #[test]
    fn stub_carries_handle_after_content_is_gone() {
        let carrier = |content: Content, stub: Stub| {
            let columns = derived(
                |columns| {
                    columns.set(content);
                    columns.set(stub);
                },
                false,
            );
            columns.value_name(Column::Carrier)
        };
        assert_eq!(carrier(Content::Retain, Stub::Exists), "Content");
        assert_eq!(carrier(Content::RetainTerminating, Stub::Exists), "Terminating");
        assert_eq!(carrier(Content::Absent, Stub::Exists), "Stub");
        assert_eq!(carrier(Content::Absent, Stub::Absent), "None");
    }

    #[test]
    fn foreign_group_prevents_repeated_create_and_names() {
        let with = |group: Group, names: Names, puts_back: bool| {
            let set = |columns: &mut Columns<Column>| {
                columns.set(group);
                columns.set(names);
                columns.set(Create::Unknown);
            };
            let columns = derived(set, puts_back);
            [Column::Create, Column::NameClash, Column::GroupName].map(|column| columns.value_name(column))
        };
        assert_eq!(with(Group::Foreign, Names::Mixed, true), ["Happened", "Yes", "Taken"]);
        assert_eq!(with(Group::Foreign, Names::Clear, false), ["Happened", "No", "Cleared"]);
        assert_eq!(with(Group::Absent, Names::Mixed, true), ["Unknown", "No", "Missing"]);
        assert_eq!(with(Group::Absent, Names::Set, true), ["Unknown", "No", "Restored"]);
        assert_eq!(with(Group::Absent, Names::Set, false), ["Unknown", "No", "Unwanted"]);
    }

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
