//! The files of a journal that a daemon has open.
//!
//! The daemon answers from its database and its memory, so that damage on disk would show only at its next start.
//! `verify` therefore reads the files as well: it copies them, starts the copy, and takes the word of that start if the
//! daemon appended nothing while the copy was made. Where the daemon never rests, the evidence is read in place.

use std::path::Path;

use super::asked;
use crate::journal::{Head, JournalError, Snapshot, evidence_problem};

/// Copies that are made until one was made while the daemon rested.
const COPIES: u32 = 5;

/// Copies that have to say that something is wrong before it is believed: the daemon may archive meanwhile.
const AGREED: u32 = 2;

/// What the files say.
pub enum Files {
    /// A private copy, which was started.
    Copied(Box<Snapshot>),
    /// A private copy of which nothing can be read.
    Refused(JournalError),
    /// What is wrong with the evidence, if anything is; the daemon appended while each copy was made.
    Evidence(Option<String>),
}

/// Reads the files beside the daemon, whose head is at least `head`.
///
/// # Errors
/// They cannot be read.
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
