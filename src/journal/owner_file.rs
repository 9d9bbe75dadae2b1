//! Reads and writes `owner.json`: the process that has the journal open, for users and for messages.
//!
//! This file is not the lock. It is a witness: it is written after its epoch and the record at its position
//! are on disk. So a log without them has lost its end. It is written at each start, behind the first batch of
//! each segment, and when the journal is closed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::fault_injection::{Call, FaultHook};
use super::owner::Owner;

/// Path of the file in a journal directory.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("owner.json")
}

impl Owner {
    /// Reads the file. `None` if it is missing.
    ///
    /// # Errors
    /// The file cannot be read, or its contents are invalid.
    pub fn read(dir: &Path) -> Result<Option<Owner>, JournalError> {
        let path = path(dir);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(JournalError::io("read", &path))?,
        };
        let owner = serde_json::from_slice(&text).map_err(io::Error::from);
        owner.map(Some).map_err(JournalError::io("read", &path))
    }

    /// Replaces the file atomically, also in a loss of power.
    pub(super) fn write(&self, dir: &Path, faults: &FaultHook) -> Result<(), JournalError> {
        let (path, draft) = (path(dir), dir.join("owner.json.tmp"));
        let replace = || {
            let mut file = File::create(&draft)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(dir)?.sync_all()
        };
        let written = faults.run(Call::OwnerWrite, |error| error, replace);
        written.map_err(JournalError::io("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_file_round_trips_and_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Owner::read(dir.path()).expect("readable"), None);
        for epoch in [1, 2] {
            let owner = Owner { pid: 7, host: "node".to_owned(), epoch, position: 4 };
            owner.write(dir.path(), &FaultHook::default()).expect("written");
            assert_eq!(Owner::read(dir.path()).expect("readable"), Some(owner));
        }
        fs::write(path(dir.path()), r#"{"pid":7,"host":"node","epoch":3}"#).expect("written");
        let earlier = Owner::read(dir.path()).expect("an earlier release wrote it").expect("there");
        assert_eq!((earlier.epoch, earlier.position), (3, 0));
    }

    #[test]
    fn rejects_invalid_owner_text() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(path(dir.path()), "{\"pid\":-1}").expect("written");
        assert!(matches!(Owner::read(dir.path()), Err(JournalError::Io { .. })));
    }
}
