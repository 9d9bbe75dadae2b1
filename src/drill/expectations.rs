//! Defines how a drill may end, for each target, disruption and part of the run in which the disruption acts.
//!
//! Objects that cannot be saved are not expected to be saved.

use crate::drill::disruption::Disruption;
use crate::drill::invariants::Invariant;
use crate::drill::scenario::{Case, Target};
use crate::machine::backup::{self, BackupMachine};
use crate::machine::group::{GroupMachine, Milestone, Step};
use crate::machine::kit::{Moment, Phase, Place, Point, Step as _};

/// A permitted end of a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// `Completed`: every member is kept or rebuilt.
    Completed,
    /// `Failed`: rolled back to a clean cluster.
    Undone,
    /// `Failed`: abandoned after its pivot, with its storage retained.
    Kept,
}

/// Part of a run in which a disruption acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Before the group exists.
    Before,
    /// From the group to the pivot: the run can be rolled back.
    Reversible,
    /// From the pivot to the last fresh read before the group is deleted.
    Releasing,
    /// From that read to the end: the group is deleted, then its content.
    Deleting,
    /// The run is being rolled back.
    Undoing,
}

impl Part {
    /// Returns the part that a point is in.
    pub fn of(point: Point) -> Self {
        if let Some(step) = point.step_of::<GroupMachine>() {
            return Self::of_step(step, point.moment);
        }
        match point.milestone_of::<GroupMachine>() {
            Some(Milestone::Created) if point.moment == Moment::BeforeRecord => Self::Before,
            Some(
                Milestone::Created
                | Milestone::Cut
                | Milestone::VsBound
                | Milestone::Relabelled
                | Milestone::Retained,
            ) => Self::Reversible,
            Some(Milestone::Unwinding | Milestone::Failed | Milestone::Retried) => Self::Undoing,
            None if point.place == Place::planned::<GroupMachine>() || is_before_groups(point) => {
                Self::Before
            }
            _ => Self::Deleting,
        }
    }

    fn of_step(step: Step, moment: Moment) -> Self {
        match step.phase() {
            Phase::Forward if step == Step::Create => Self::Before,
            Phase::Forward => Self::Reversible,
            Phase::Pivot if moment == Moment::BeforeIntent => Self::Reversible,
            Phase::Pivot => Self::Releasing,
            Phase::Release if step == Step::Detach => Self::Releasing,
            Phase::Release => Self::Deleting,
            Phase::Rollback => Self::Undoing,
        }
    }
}

/// Whether the point is in the part of a Backup before its groups begin.
fn is_before_groups(point: Point) -> bool {
    use backup::Milestone;
    let is_started = point.step_of::<BackupMachine>().is_some()
        && matches!(point.moment, Moment::AfterEffects | Moment::AfterOutcome);
    match point.milestone_of::<BackupMachine>() {
        Some(milestone) => milestone == Milestone::Formed,
        None => point.is_of::<BackupMachine>() && !is_started,
    }
}

/// Returns the permitted ends of a case.
pub fn allowed(case: &Case) -> &'static [Allowed] {
    use Allowed::{Completed, Kept, Undone};
    if case.disruptions.is_empty() {
        return alone(case);
    }
    if case.has(&[Disruption::Abandon]) {
        return &[Completed, Undone, Kept];
    }
    // After the pivot a run only goes forward, whatever the disruption is. If an object is destroyed before
    // the cause of a rollback occurs, the group is cut again, or the run is rolled back for that reason.
    let behind = |at: &Point| matches!(Part::of(*at), Part::Releasing | Part::Deleting);
    let only_forward = !case.target.is_undo() && case.disruptions.iter().all(|(_, at)| behind(at));
    if only_forward { &[Completed] } else { &[Completed, Undone] }
}

/// Returns the permitted ends of a case without disruptions.
fn alone(case: &Case) -> &'static [Allowed] {
    use Allowed::{Completed, Undone};
    if case.target.is_undo() {
        return &[Undone];
    }
    let created = |point: &Point| {
        Part::of(*point) != Part::Before
            || point.to_string() == "create/after-effects"
            || point.place == Place::milestone::<GroupMachine>(Milestone::Created)
    };
    // The deadlines pass while no daemon runs. Work that was not begun is too late. Work that was done
    // meanwhile is not.
    let too_late = case.down > 0 && !case.kills.iter().all(created);
    if too_late { &[Completed, Undone] } else { &[Completed] }
}

/// Returns the invariants that cannot hold, however careful the daemon is.
///
/// The API cannot delete one object under the condition that another one is unchanged. This has two
/// consequences:
///
/// - If the group's content is set to Delete between the last fresh read and the delete of the group, the
///   storage is deleted as well. Nothing that the daemon reads shows this.
/// - If that content is deleted with its finalizers removed after the last fresh read of a rollback, the
///   storage is left behind. If this happens before there is a receipt, the handles by which the storage could
///   be freed are lost, too.
///
/// If the content is deleted in this way while the group exists, the snapshot-controller creates it again and
/// rewrites the status of the members. A member that is released at that instant is not ready. It gets a
/// content and a snapshot of its own, beside those of the group.
///
/// Objects that were left by an incarnation that no journal records are recognised only as long as the uid of
/// the group is unknown.
pub fn known_limitations(case: &Case) -> Vec<Invariant> {
    use Invariant as I;
    let before_receipt = case.target == Target::UndoCreated;
    let unsaved = case.disruptions.iter().flat_map(|(disruption, at)| match (disruption, Part::of(*at)) {
        (Disruption::Unretain, Part::Deleting) => [I::NoPhantom, I::OneCut, I::NoneLost].as_slice(),
        (Disruption::TearGroupContent, part)
            if matches!(part, Part::Releasing | Part::Deleting) || is_at(*at, Step::ClearNames) =>
        {
            &[I::NothingLeaked, I::OneCut, I::NoneStray]
        }
        (Disruption::TearGroupContent, Part::Undoing) if before_receipt || is_under_the_delete(*at) => {
            &[I::NothingLeaked, I::StorageFate]
        }
        (Disruption::ForgetContent, _) => &[I::GroupGone, I::NothingLeaked, I::StorageFate, I::OneCut],
        _ => &[],
    });
    unsaved.copied().collect()
}

fn is_at(point: Point, step: Step) -> bool {
    point.place == Place::step::<GroupMachine>(step)
}

/// Whether a rollback has read the content for the last time.
fn is_under_the_delete(point: Point) -> bool {
    let sent = point.moment == Moment::AfterEffects;
    is_at(point, Step::UndoDeleteGroup) || (sent && is_at(point, Step::UndoFreeImport))
}
