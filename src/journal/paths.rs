//! Names the files and directories of a journal directory, and moves them durably.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::log::sync_parent;

/// The directory of the index.
pub(crate) fn index(journal: &Path) -> PathBuf {
    journal.join("sled")
}

/// Name of the directory of the log.
pub(crate) const LOG: &str = "log";

/// Name of the directory of the log of earlier releases.
pub(crate) const EARLIER_LOG: &str = "evidence";

/// The directory of the log. In a journal that no present release has opened, it has its earlier name.
pub(crate) fn log(journal: &Path) -> PathBuf {
    let (log, earlier) = (journal.join(LOG), journal.join(EARLIER_LOG));
    if !log.exists() && earlier.exists() { earlier } else { log }
}

/// Creates a directory and its entry in the parent directory.
pub(crate) fn create(dir: &Path) -> Result<(), JournalError> {
    let create = || {
        fs::create_dir_all(dir)?;
        sync_parent(dir)
    };
    create().map_err(JournalError::io("create", dir))
}

/// Renames `journal/name` to `journal/name.broken-EPOCH`. Returns the new name. `None` if there is no such
/// file.
pub(crate) fn set_aside(journal: &Path, name: &str, epoch: u64) -> Result<Option<String>, JournalError> {
    let from = journal.join(name);
    if !from.exists() {
        return Ok(None);
    }
    let mut aside = format!("{name}.broken-{epoch}");
    for again in 2.. {
        if !journal.join(&aside).exists() {
            break;
        }
        aside = format!("{name}.broken-{epoch}-{again}");
    }
    let rename = || {
        fs::rename(&from, journal.join(&aside))?;
        File::open(journal)?.sync_all()
    };
    rename().map_err(JournalError::io("set aside", &from))?;
    Ok(Some(aside))
}

/// Renames a complete directory to its final name.
pub(crate) fn put_in_place(draft: &Path, path: &Path) -> Result<(), JournalError> {
    let rename = || {
        fs::rename(draft, path)?;
        sync_parent(path)
    };
    rename().map_err(JournalError::io("put in place", path))
}

/// Removes a directory, if it exists.
pub(crate) fn remove(dir: &Path) -> Result<(), JournalError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(JournalError::io("remove", dir)),
    }
}
