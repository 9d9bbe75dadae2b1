//! What can be wrong with a journal, as a problem that a person reads.

use std::error::Error;
use std::path::Path;

use crate::domain::problem::{About, Code, Problem};
use crate::journal::{ChainProblem, JournalError};
use crate::records;

/// Why the journal in `dir` cannot be read.
pub fn unreadable(dir: &Path, error: &JournalError) -> Problem {
    Problem::new(records::code(error), about(dir), chained(error), error.fix())
}

/// A record of the journal in `dir` does not hold.
pub fn damaged(dir: &Path, problem: &ChainProblem) -> Problem {
    Problem::new(
        Code::JournalCorrupt,
        about(dir),
        problem.to_string(),
        "keep a copy of the directory and look at it with `stillpoint journal verify`",
    )
}

fn about(dir: &Path) -> About {
    About::new("File", "", &dir.display().to_string())
}

/// An error and what caused it, in one line.
pub fn chained(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
