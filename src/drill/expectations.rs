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

/// Whether the point is in the part of a Backup before its groups have done anything.
fn is_before_groups(point: Point) -> bool {
    match point.milestone_of::<BackupMachine>() {
        Some(milestone) => milestone == backup::Milestone::Formed,
        None => point.is_of::<BackupMachine>(),
    }
}

/// Property of a case that decides its permitted ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Nothing but kills and reply faults.
    Undisturbed,
    /// As [`Course::Undisturbed`], and the deadlines pass while no daemon runs, before the work had begun.
    TooLate,
    /// The case is about a rollback.
    RolledBack,
    /// An operator abandons the run.
    Abandoned,
    /// Disruptions act only behind the pivot.
    DisruptedBehindPivot,
    /// A disruption acts before the pivot, or in a rollback.
    Disrupted,
}

/// The permitted ends of a group run. After the pivot a run only goes forward, whatever the disruption is. If an
/// object is destroyed before the cause of a rollback occurs, the group is cut again, or the run is rolled back
/// for that reason.
const ENDS: &[(Course, &[Allowed])] = &[
    (Course::Undisturbed, &[Allowed::Completed]),
    (Course::TooLate, &[Allowed::Completed, Allowed::Undone]),
    (Course::RolledBack, &[Allowed::Undone]),
    (Course::Abandoned, &[Allowed::Completed, Allowed::Undone, Allowed::Kept]),
    (Course::DisruptedBehindPivot, &[Allowed::Completed]),
    (Course::Disrupted, &[Allowed::Completed, Allowed::Undone]),
];

/// Returns the permitted ends of a case.
pub fn allowed(case: &Case) -> &'static [Allowed] {
    let course = course(case);
    ENDS.iter().find(|(of, _)| *of == course).map_or(&[], |(_, ends)| ends)
}

fn course(case: &Case) -> Course {
    let behind = |at: &Point| matches!(Part::of(*at), Part::Releasing | Part::Deleting);
    match () {
        () if case.has(&[Disruption::Abandon]) => Course::Abandoned,
        () if case.disruptions.is_empty() && case.target.is_undo() => Course::RolledBack,
        () if case.disruptions.is_empty() && case.down > 0 && !case.kills.iter().all(has_begun) => {
            Course::TooLate
        }
        () if case.disruptions.is_empty() => Course::Undisturbed,
        () if !case.target.is_undo() && case.disruptions.iter().all(|(_, at)| behind(at)) => {
            Course::DisruptedBehindPivot
        }
        () => Course::Disrupted,
    }
}

/// Whether the work that a deadline limits was done before the point.
fn has_begun(point: &Point) -> bool {
    Part::of(*point) != Part::Before
        || point.to_string() == "create/after-effects"
        || point.place == Place::milestone::<GroupMachine>(Milestone::Created)
}

/// Invariants that cannot hold under a disruption, however careful the daemon is.
struct Limitation {
    disruption: Disruption,
    acts: fn(Point) -> bool,
    /// Only where the rollback begins before there is a receipt.
    before_receipt: bool,
    unsaved: &'static [Invariant],
}

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
const LIMITATIONS: &[Limitation] = &[
    Limitation {
        disruption: Disruption::Unretain,
        acts: |at| Part::of(at) == Part::Deleting,
        before_receipt: false,
        unsaved: &[Invariant::NoPhantom, Invariant::OneCut, Invariant::NoneLost],
    },
    Limitation {
        disruption: Disruption::TearGroupContent,
        acts: |at| matches!(Part::of(at), Part::Releasing | Part::Deleting) || is_at(at, Step::ClearNames),
        before_receipt: false,
        unsaved: &[Invariant::NothingLeaked, Invariant::OneCut, Invariant::NoneStray],
    },
    Limitation {
        disruption: Disruption::TearGroupContent,
        acts: |at| Part::of(at) == Part::Undoing && is_under_the_delete(at),
        before_receipt: false,
        unsaved: &[Invariant::NothingLeaked, Invariant::StorageFate],
    },
    Limitation {
        disruption: Disruption::TearGroupContent,
        acts: |at| Part::of(at) == Part::Undoing,
        before_receipt: true,
        unsaved: &[Invariant::NothingLeaked, Invariant::StorageFate],
    },
    Limitation {
        disruption: Disruption::ForgetContent,
        acts: |_| true,
        before_receipt: false,
        unsaved: &[Invariant::GroupGone, Invariant::NothingLeaked, Invariant::StorageFate, Invariant::OneCut],
    },
];

/// Returns the invariants that cannot hold in a case.
pub fn known_limitations(case: &Case) -> Vec<Invariant> {
    let applies = |limitation: &&Limitation| {
        let acts = |(disruption, at): &(Disruption, Point)| {
            *disruption == limitation.disruption && (limitation.acts)(*at)
        };
        (!limitation.before_receipt || case.target == Target::UndoCreated)
            && case.disruptions.iter().any(acts)
    };
    LIMITATIONS.iter().filter(applies).flat_map(|limitation| limitation.unsaved).copied().collect()
}

fn is_at(point: Point, step: Step) -> bool {
    point.place == Place::step::<GroupMachine>(step)
}

/// Whether a rollback has read the content for the last time.
fn is_under_the_delete(point: Point) -> bool {
    let sent = point.moment == Moment::AfterEffects;
    is_at(point, Step::UndoDeleteGroup) || (sent && is_at(point, Step::UndoFreeImport))
}
