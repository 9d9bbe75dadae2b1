//! `stillpoint drill`: crash drills.
//!
//! | command | shows |
//! |---|---|
//! | `points` | every crash point by its name, `<step>/<moment>` |

use super::output::{Format, exit};
use super::{OutputArgs, show};
use crate::domain::problem::Problem;
use crate::machine::point::Point;

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the crash points that `run --crash-at` knows.
    Points(OutputArgs),
}

impl Command {
    pub(super) fn format(&self) -> Format {
        match self {
            Self::Points(args) => args.output,
        }
    }

    pub(super) fn run(self) -> Result<u8, Problem> {
        match self {
            Self::Points(args) => show(args.output, &points(), |points| {
                points.iter().map(|point| format!("{point}\n")).collect()
            })?,
        }
        Ok(exit::DONE)
    }
}

fn points() -> Vec<String> {
    Point::all().iter().map(Point::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_names_of_step_and_moment() {
        let points = points();
        assert!(points.contains(&"retain/after-effects".to_owned()));
        assert!(points.iter().all(|point| point.split('/').count() == 2));
    }
}
