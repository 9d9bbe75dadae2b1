//! How a drill may end: for each target, rival and part of the run at which the rival acts.
//!
//! Said honestly: what cannot be saved is not expected to be saved.

use crate::drill::disruption::Disruption;
use crate::drill::invariants::Invariant;
use crate::drill::scenario::{Case, Target};
use crate::machine::group::{Milestone, Step};
use crate::machine::point::{Moment, Place, Point};

/// A way in which a drill may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// `Completed`: every member kept or rebuilt.
    Completed,
    /// `Failed`: undone to a clean cluster.
    Undone,
    /// `Failed`: abandoned behind its pivot, with its storage retained.
    Kept,
}

/// The parts of a run that a rival's deed falls into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Before the group exists.
    Before,
    /// From the group to the pivot: it can be undone.
    Reversible,
    /// From the pivot to the last look before the group is deleted.
    Releasing,
    /// From there to the end: the group, then its content go.
    Deleting,
    /// The run is being undone.
    Undoing,
}

impl Part {
    /// The part that a point is in.
    pub fn of(point: Point) -> Self {
        let begun = point.moment != Moment::BeforeIntent;
        match point.place {
            Place::Accepted | Place::Planned | Place::Step(Step::Create) => Self::Before,
            Place::Milestone(Milestone::Created) if point.moment == Moment::BeforeRecord => Self::Before,
            Place::Step(Step::Claim | Step::Relabel | Step::Retain) => Self::Reversible,
            Place::Milestone(
                Milestone::Created
                | Milestone::Cut
                | Milestone::VsBound
                | Milestone::Relabelled
                | Milestone::Retained,
            ) => Self::Reversible,
            Place::Step(Step::ClearNames) => {
                if begun {
                    Self::Releasing
                } else {
                    Self::Reversible
                }
            }
            Place::Step(Step::Detach) => Self::Releasing,
            Place::Milestone(Milestone::Unwinding | Milestone::Failed | Milestone::Retried) => Self::Undoing,
            Place::Step(
                Step::UndoCreate
                | Step::UndoFree
                | Step::UndoDeleteGroup
                | Step::UndoDeleteContent
                | Step::UndoDeleteSnapshots
                | Step::UndoDeleteContents
                | Step::UndoImport
                | Step::UndoFreeImport,
            ) => Self::Undoing,
            _ => Self::Deleting,
        }
    }
}

/// How the case may end.
pub fn allowed(case: &Case) -> &'static [Allowed] {
    use Allowed::{Completed, Kept, Undone};
    if case.disruptions.is_empty() {
        return alone(case);
    }
    if case.has(&[Disruption::Abandon]) {
        return &[Completed, Undone, Kept];
    }
    // Behind the pivot a run only goes forward, whoever does what. What somebody destroys before the cause of an undo
    // is met is cut again, or undone for that.
    let behind = |at: &Point| matches!(Part::of(*at), Part::Releasing | Part::Deleting);
    let only_forward = !case.target.is_undo() && case.disruptions.iter().all(|(_, at)| behind(at));
    if only_forward { &[Completed] } else { &[Completed, Undone] }
}

/// Nobody interferes.
fn alone(case: &Case) -> &'static [Allowed] {
    use Allowed::{Completed, Undone};
    if case.target.is_undo() {
        return &[Undone];
    }
    let created = |point: &Point| {
        Part::of(*point) != Part::Before
            || point.to_string() == "create/after-effects"
            || matches!(point.place, Place::Milestone(Milestone::Created))
    };
    // The deadlines pass while nobody is alive: what was not begun is too late, what was done in the meantime is not.
    let too_late = case.down > 0 && !case.kills.iter().all(created);
    if too_late { &[Completed, Undone] } else { &[Completed] }
}

/// What cannot hold, whoever is careful.
///
/// The API has no delete of one object under the condition that another one did not change: whoever sets the content of
/// the group to Delete between the last look and the delete of the group takes the storage with it, and nothing that the
/// daemon reads says so. For the same reason whoever tears that content out once an undo has looked at it for the last time
/// leaves the storage behind, and whoever does it before there is a receipt takes the handles along by which it could be
/// freed. Where it is torn out while the group stands, the snapshot-controller makes it again, and writes the status of the
/// members anew: one that is released at that instant is not ready, and gets a content and a snapshot of its own beside
/// those of the group. What a life left that no journal knows of is recognised only as long as the uid of the group is not
/// known.
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
    point.place == Place::Step(step)
}

/// An undo has looked at the content for the last time.
fn is_under_the_delete(point: Point) -> bool {
    let sent = point.moment == Moment::AfterEffects;
    is_at(point, Step::UndoDeleteGroup) || (sent && is_at(point, Step::UndoFreeImport))
}
