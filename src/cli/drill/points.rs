//! `stillpoint drill points`: the crash points.

use clap::Args;

use crate::cli::output::{Format, data, exit, report};
use crate::machine::kit::Point;
use crate::machine::points;

/// List the crash points that `stillpoint run --crash-at` accepts
#[derive(Debug, Args)]
pub struct CrashPoints {
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

impl CrashPoints {
    pub fn execute(self) -> u8 {
        let names: Vec<String> = points::all().iter().map(Point::to_string).collect();
        let text = match self.output.document(&names) {
            Ok(document) => {
                document.unwrap_or_else(|| names.iter().map(|name| format!("{name}\n")).collect())
            }
            Err(problem) => return report(&problem, self.output.is_document()),
        };
        // A closed stdout is not an error.
        let _ = data(&text);
        exit::DONE
    }
}
