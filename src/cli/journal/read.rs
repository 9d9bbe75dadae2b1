//! Reading: a private copy of the journal, and its entries.

use std::path::Path;

use super::problems;
use crate::domain::problem::Problem;
use crate::journal::{Entry, Snapshot, Verdict};

/// Opens a private copy of the journal in `dir`.
///
/// # Errors
/// It is missing, held, damaged or of a newer release.
pub fn open(dir: &Path) -> Result<Snapshot, Problem> {
    let snapshot = Snapshot::open(dir).map_err(|error| problems::unreadable(dir, &error))?;
    remark(&snapshot);
    Ok(snapshot)
}

/// Says on stderr where the data comes from, if not from the database alone.
pub fn remark(snapshot: &Snapshot) {
    for remark in snapshot.remarks() {
        anstream::eprintln!("note: {remark}");
    }
}

/// All entries of a journal whose chain holds.
///
/// # Errors
/// As [`open`], or the chain does not hold.
pub fn verified(dir: &Path) -> Result<Vec<Entry>, Problem> {
    let snapshot = open(dir)?;
    let verification = snapshot.verify(None);
    match verification.problem {
        Some(problem) if verification.verdict != Verdict::Intact => Err(problems::damaged(dir, &problem)),
        _ => entries(dir, &snapshot),
    }
}

/// All entries, up to the first that does not hold.
///
/// # Errors
/// An entry does not hold.
pub fn entries(dir: &Path, snapshot: &Snapshot) -> Result<Vec<Entry>, Problem> {
    snapshot.entries().collect::<Result<_, _>>().map_err(|problem| problems::damaged(dir, &problem))
}
