//! Locks a journal directory.
//!
//! sled locks its own file. But an index that does not open locks nothing, and no other process may
//! rebuild it at the same time. So the file `lock` is locked first: exclusively by the writer, shared by
//! readers that copy. The kernel releases the lock when its holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::owner::Owner;

/// A lock that is held until it is dropped.
pub(super) struct Lock(#[expect(dead_code, reason = "dropping it releases the lock")] File);

impl Lock {
    /// Locks for the one writer.
    pub fn exclusive(dir: &Path) -> Result<Lock, JournalError> {
        let path = path(dir);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(JournalError::io("open", &path))?;
        taken(dir, file.try_lock())?;
        Ok(Lock(file))
    }

    /// Locks for a reader. `None` if an earlier release wrote the journal, without the file.
    pub fn shared(dir: &Path) -> Result<Option<Lock>, JournalError> {
        let path = path(dir);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(JournalError::io("open", &path))?,
        };
        taken(dir, file.try_lock_shared())?;
        Ok(Some(Lock(file)))
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("lock")
}

pub(super) fn taken(dir: &Path, outcome: Result<(), TryLockError>) -> Result<(), JournalError> {
    match outcome {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(JournalError::Held { dir: dir.to_owned(), owner: Owner::read(dir).ok().flatten() })
        }
        Err(TryLockError::Error(error)) => Err(JournalError::io("lock", &path(dir))(error)),
    }
}
