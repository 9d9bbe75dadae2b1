//! Converts errors of the journal to messages for users.

use crate::domain::problem::{About, Code, Problem};
use crate::journal::JournalError;

/// The code of the page of `stillpoint explain`.
pub fn code(error: &JournalError) -> Code {
    match error {
        JournalError::Held { .. } => Code::JournalLocked,
        JournalError::NewerSchema { .. } => Code::JournalNewer,
        JournalError::Missing { .. } | JournalError::ArchiveMissing { .. } => Code::JournalMissing,
        JournalError::NotLost { .. } | JournalError::NotDamaged { .. } => Code::Usage,
        JournalError::Damaged { .. }
        | JournalError::Short { .. }
        | JournalError::RebuildShort { .. }
        | JournalError::Unopenable { .. }
        | JournalError::Lost { .. }
        | JournalError::IndexLost { .. }
        | JournalError::CarryOverLost { .. }
        | JournalError::Behind { .. } => Code::JournalCorrupt,
        JournalError::Store(_)
        | JournalError::Io { .. }
        | JournalError::Reopened { .. }
        | JournalError::Stopped { .. } => Code::JournalIo,
    }
}

/// The error with code, object and how to fix it. `dir` is the journal's directory.
pub fn problem(error: &JournalError, dir: &str) -> Problem {
    Problem::new(code(error), About::new("Journal", "", dir), error.text(), error.fix())
}
