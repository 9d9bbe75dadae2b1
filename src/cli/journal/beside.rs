//! The files of a journal that a daemon has open.
//!
//! The daemon serves records from its index and its memory, so damage on disk would only be found at the next
//! start. `verify` therefore also reads the log in place, up to the daemon's head.

use std::path::Path;

use super::asked;
use crate::journal::{Head, JournalError, check_beside};

/// Number of reads that must report a problem before `verify` reports it: the daemon may archive in the
/// meantime.
const READS: u32 = 3;

/// Checks the log of the journal while a daemon has it open. The head of the daemon is at least `head`.
///
/// # Errors
/// The next start would refuse the log, or it cannot be read.
pub fn check(dir: &Path, head: Head) -> Result<(), JournalError> {
    let mut checked = check_beside(dir, head);
    for _ in 1..READS {
        if checked.is_ok() {
            break;
        }
        // An archived head is no longer in the log. The daemon's present head is.
        checked = check_beside(dir, asked::head(dir).unwrap_or(head));
    }
    checked
}
