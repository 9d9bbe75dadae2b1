//! Defines crash points: every position at which a drill can end the process, by name.
//!
//! A step with effects has five moments. A milestone (a record without effects) has two. With
//! `run --crash-at POINT` the process ends there with SIGKILL. A drill in memory drops the async runtime
//! instead.

use std::fmt;

use crate::machine::kit::machine::{Machine, Reached};
use crate::machine::kit::named::Named;
use crate::machine::kit::table::Action;

/// Position within one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// The row is decided. Nothing is written.
    BeforeIntent,
    /// The intent is durable. No effect has begun.
    AfterIntent,
    /// Half of the effects (rounded down) were applied and answered. The others never begin.
    MidEffects,
    /// All effects were applied. No outcome is recorded.
    AfterEffects,
    /// The outcomes are durable.
    AfterOutcome,
    /// A milestone is decided but not recorded.
    BeforeRecord,
    /// A milestone is durable.
    AfterRecord,
}

impl Moment {
    /// The moments of a step.
    pub const OF_STEP: [Moment; 5] =
        [Self::BeforeIntent, Self::AfterIntent, Self::MidEffects, Self::AfterEffects, Self::AfterOutcome];
    /// The moments of a record without effects.
    pub const OF_RECORD: [Moment; 2] = [Self::BeforeRecord, Self::AfterRecord];

    fn name(self) -> &'static str {
        match self {
            Self::BeforeIntent => "before-intent",
            Self::AfterIntent => "after-intent",
            Self::MidEffects => "mid-effects",
            Self::AfterEffects => "after-effects",
            Self::AfterOutcome => "after-outcome",
            Self::BeforeRecord => "before-record",
            Self::AfterRecord => "after-record",
        }
    }
}

/// Record or step that a run is about to write or execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A step with effects: machine and step.
    Step(&'static str, &'static str),
    /// A milestone, which is a record without effects: machine and milestone.
    Milestone(&'static str, &'static str),
    /// Another record without effects: machine and record.
    Record(&'static str, &'static str),
}

/// The machine whose points have no prefix.
const UNPREFIXED: &str = "group";

impl Place {
    pub fn step<M: Machine>(step: M::Step) -> Self {
        Self::Step(M::NAME, step.name())
    }

    pub fn milestone<M: Machine>(milestone: M::Milestone) -> Self {
        Self::Milestone(M::NAME, milestone.name())
    }

    /// The first record of a run.
    pub fn planned<M: Machine>() -> Self {
        Self::Record(M::NAME, "planned")
    }

    /// The record of an operator request.
    pub fn requested<M: Machine>() -> Self {
        Self::Record(M::NAME, "asked")
    }

    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Step(machine, name) | Self::Milestone(machine, name) | Self::Record(machine, name) => {
                (machine, name)
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (UNPREFIXED, name) => f.write_str(name),
            (machine, name) => write!(f, "{machine}/{name}"),
        }
    }
}

/// One crash point: `<step>/<moment>` of a group, `<machine>/<step>/<moment>` of any other machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    pub place: Place,
    pub moment: Moment,
}

impl Point {
    pub fn new(place: Place, moment: Moment) -> Self {
        Self { place, moment }
    }

    /// The step of the point, if it belongs to a step of this machine.
    pub fn step_of<M: Machine>(self) -> Option<M::Step> {
        let Place::Step(machine, name) = self.place else { return None };
        M::Step::ALL.iter().copied().find(|step| machine == M::NAME && step.name() == name)
    }

    /// Whether the point belongs to this machine.
    pub fn is_of<M: Machine>(self) -> bool {
        self.place.parts().0 == M::NAME
    }

    /// The milestone of the point, if it belongs to a milestone of this machine.
    pub fn milestone_of<M: Machine>(self) -> Option<M::Milestone> {
        let Place::Milestone(machine, name) = self.place else { return None };
        M::Milestone::ALL.iter().copied().find(|milestone| machine == M::NAME && milestone.name() == name)
    }

    /// The points of a machine: those of its steps, of its plan and its requests, and of its milestones that a row
    /// decides.
    pub fn all_of<M: Machine>() -> Vec<Point> {
        let steps = M::Step::ALL.iter().map(|step| Place::step::<M>(*step));
        let asked = M::ASKED.then(Place::requested::<M>);
        let records = [Place::planned::<M>()].into_iter().chain(asked);
        let decided = M::Milestone::ALL.iter().filter(|milestone| is_decided::<M>(**milestone));
        let milestones = decided.map(|milestone| Place::milestone::<M>(*milestone));
        let of_steps = steps.flat_map(|place| Moment::OF_STEP.map(|moment| Self::new(place, moment)));
        let others = records.chain(milestones);
        of_steps.chain(others.flat_map(Self::of_record)).collect()
    }

    /// The points of a record without effects.
    pub fn of_record(place: Place) -> [Point; 2] {
        Moment::OF_RECORD.map(|moment| Self::new(place, moment))
    }
}

/// Whether a row of the machine records the milestone.
fn is_decided<M: Machine>(milestone: M::Milestone) -> bool {
    M::table().iter().any(|row| match row.then {
        Action::Advance(reached) => reached == milestone,
        Action::Unwind { .. } => milestone == M::Reached::UNWINDING,
        Action::Stick { .. } => milestone == M::Reached::STUCK,
        _ => false,
    })
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.place, self.moment.name())
    }
}
