//! Errors of a journal, as problems for the user.

use std::error::Error;
use std::path::Path;

use crate::domain::problem::{About, Code, Problem};
use crate::journal::{ChainProblem, JournalError};
use crate::records;

/// The problem of a journal in `dir` that cannot be read.
pub fn unreadable(dir: &Path, error: &JournalError) -> Problem {
    Problem::new(records::code(error), about(dir), chained(error), error.fix())
}

/// The problem of an invalid record in the journal in `dir`.
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

/// An error and its causes, in one line.
pub fn chained(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
