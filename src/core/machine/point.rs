//! Defines crash points: every position at which a drill can end the process, by name.
//!
//! A step with effects has five moments. A milestone (a record without effects) has two. With
//! `run --crash-at POINT` the process ends there with SIGKILL. A drill in memory drops the async runtime
//! instead.

use std::fmt;
use std::str::FromStr;

use crate::machine::group::{Milestone, Step};

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
    const OF_STEP: [Moment; 5] =
        [Self::BeforeIntent, Self::AfterIntent, Self::MidEffects, Self::AfterEffects, Self::AfterOutcome];
    const OF_MILESTONE: [Moment; 2] = [Self::BeforeRecord, Self::AfterRecord];

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
    /// The first record of a Backup.
    Accepted,
    /// The last record of a Backup.
    Finished,
    /// The first record of a run.
    Planned,
    /// The record of an operator request.
    Asked,
    /// A step with effects.
    Step(Step),
    /// A record without effects.
    Milestone(Milestone),
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Finished => "finished",
            Self::Planned => "planned",
            Self::Asked => "asked",
            Self::Step(step) => step.name(),
            Self::Milestone(milestone) => milestone.name(),
        }
    }
}

/// One crash point, `<step>/<moment>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    pub place: Place,
    pub moment: Moment,
}

impl Point {
    /// A point of a step.
    pub fn step(step: Step, moment: Moment) -> Self {
        Self { place: Place::Step(step), moment }
    }

    /// A point of a milestone.
    pub fn milestone(milestone: Milestone, moment: Moment) -> Self {
        Self { place: Place::Milestone(milestone), moment }
    }

    /// A point of a record without effects.
    pub fn record(place: Place, moment: Moment) -> Self {
        Self { place, moment }
    }

    /// All points, in the order of a run.
    pub fn all() -> Vec<Point> {
        let moments =
            |place: Place, moments: &'static [Moment]| moments.iter().map(move |moment| (place, *moment));
        let records = [Place::Accepted, Place::Planned, Place::Asked, Place::Finished];
        let milestones = records.into_iter().chain(Milestone::ALL.iter().map(|m| Place::Milestone(*m)));
        let steps = Step::ALL.iter().map(|step| Place::Step(*step));
        steps
            .flat_map(|place| moments(place, &Moment::OF_STEP))
            .chain(milestones.flat_map(|place| moments(place, &Moment::OF_MILESTONE)))
            .map(|(place, moment)| Point { place, moment })
            .collect()
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.place.name(), self.moment.name())
    }
}

/// No crash point has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a crash point; see `stillpoint drill points`")]
pub struct UnknownPoint(String);

impl FromStr for Point {
    type Err = UnknownPoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::all()
            .into_iter()
            .find(|point| point.to_string() == text)
            .ok_or_else(|| UnknownPoint(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crash_point_is_found_by_unique_name() {
        let all = Point::all();
        let names: std::collections::BTreeSet<_> = all.iter().map(Point::to_string).collect();
        assert_eq!(names.len(), all.len());
        for point in all {
            assert_eq!(point.to_string().parse(), Ok(point));
        }
        assert!("retain/whenever".parse::<Point>().is_err());
    }
}
