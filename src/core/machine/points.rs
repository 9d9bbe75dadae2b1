//! Lists the crash points of all machines.

use std::str::FromStr;

use crate::machine::backup::BackupMachine;
use crate::machine::group::GroupMachine;
use crate::machine::kit::Point;

/// All points, in the order of a run.
pub fn all() -> Vec<Point> {
    [Point::all_of::<GroupMachine>(), Point::all_of::<BackupMachine>()].concat()
}

/// No crash point has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a crash point; see `stillpoint drill points`")]
pub struct UnknownPoint(String);

impl FromStr for Point {
    type Err = UnknownPoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = all().into_iter().find(|point| point.to_string() == text);
        found.ok_or_else(|| UnknownPoint(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crash_point_is_found_by_unique_name() {
        let names: std::collections::BTreeSet<_> = all().iter().map(Point::to_string).collect();
        assert_eq!(names.len(), all().len());
        for point in all() {
            assert_eq!(point.to_string().parse(), Ok(point));
        }
        assert!("retain/whenever".parse::<Point>().is_err());
    }
}
