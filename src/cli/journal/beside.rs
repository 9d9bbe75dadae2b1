//! The files of a journal that a daemon has open.
//!
//! The daemon serves records from its database and its memory, so damage on disk would only be found at the
//! next start. `verify` therefore also reads the files: it copies them, opens the copy, and uses the result
//! of that open if the daemon appended nothing while the copy was made. If the daemon never pauses, the
//! evidence is read in place.

use std::path::Path;

use super::asked;
use crate::journal::{Head, JournalError, Snapshot, evidence_problem};

/// Maximum number of copies, until one is made while the daemon appends nothing.
const COPIES: u32 = 5;

/// Number of copies that must report a problem before `verify` reports it: the daemon may archive in the
/// meantime.
const AGREED: u32 = 2;

/// The result of reading the files.
pub enum Files {
    /// A private copy, which was opened.
    Copied(Box<Snapshot>),
    /// A private copy that cannot be read.
    Refused(JournalError),
    /// The problem of the evidence, if any. The daemon appended during each copy.
    Evidence(Option<String>),
}

/// Reads the files of the journal while a daemon has them open. The head of the daemon is at least `head`.
///
/// # Errors
/// The files cannot be read.
pub fn files(dir: &Path, archive: Option<&Path>, head: Head) -> Result<Files, JournalError> {
    let (mut wrong, mut last) = (0, None);
    for _ in 0..COPIES {
        let before = asked::head(dir);
        let copied = Snapshot::open_beside(dir, archive);
        if before.is_none() || before != asked::head(dir) {
            continue;
        }
        if copied.as_ref().is_ok_and(|copy| copy.refusal().is_none() && copy.repairs().is_empty()) {
            return copied.map(|copy| Files::Copied(Box::new(copy)));
        }
        wrong += 1;
        last = Some(copied);
        if wrong == AGREED {
            break;
        }
    }
    match last {
        Some(Ok(copy)) => Ok(Files::Copied(Box::new(copy))),
        Some(Err(error)) if error.verdict().is_some() => Ok(Files::Refused(error)),
        Some(Err(error)) => Err(error),
        None => match evidence_problem(dir, head) {
            Err(error) if error.verdict().is_some() => Ok(Files::Refused(error)),
            found => found.map(Files::Evidence),
        },
    }
}
