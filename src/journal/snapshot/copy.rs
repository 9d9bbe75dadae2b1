//! Makes the private copy, and reads the rest of a copy that does not start.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::TempDir;

use super::super::archive;
use super::super::catch_up;
use super::super::error::JournalError;
use super::super::lock::{Lock, taken};
use super::super::log;
use super::super::owner::Owner;
use super::super::owner_file;
use super::super::paths;
use super::super::sled_store::SledStore;
use super::super::store::Meta;
use crate::open::recover::read_meta;

/// Takes the locks of a daemon in shared mode, so that the files do not change during the copy.
pub(super) fn lock(dir: &Path) -> Result<(Option<Lock>, Option<File>), JournalError> {
    let lock = Lock::shared(dir)?;
    let path = SledStore::lock_file(&paths::index(dir));
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && paths::log(dir).exists() => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent(dir)),
        other => Some(other.map_err(JournalError::io("open", &path))?),
    };
    if let Some(file) = &file {
        taken(dir, file.try_lock_shared())?;
    }
    Ok((lock, file))
}

fn absent(dir: &Path) -> JournalError {
    match Owner::read(dir) {
        Ok(Some(Owner { epoch, .. })) => JournalError::Lost { dir: dir.to_owned(), epoch },
        _ => JournalError::Missing { dir: dir.to_owned() },
    }
}

/// Copies all files that a start reads. Archives are linked, because they are never written.
pub(super) fn files(dir: &Path) -> Result<TempDir, JournalError> {
    let copy = tempfile::tempdir().map_err(JournalError::io("create", &std::env::temp_dir()))?;
    let copied = || {
        for path in [paths::index(dir), paths::log(dir)] {
            directory(&path, &copy.path().join(path.file_name().unwrap_or_default()))?;
        }
        file(&owner_file::path(dir), &owner_file::path(copy.path()))?;
        archive::copy(dir, copy.path())
    };
    copied().map_err(JournalError::io("copy", dir))?;
    Ok(copy)
}

/// Copies a directory, if it exists.
fn directory(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    fs::create_dir(to)?;
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Copies a file, if it exists.
fn file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::copy(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map(drop),
    }
}

/// The rest of a copy that does not start because of `error`: the log up to its damage, or the index if there
/// is no log. `None` if the error does not concern the records, or nothing can be read.
pub(super) fn readable(copy: &Path, error: &JournalError) -> Option<(SledStore, Meta)> {
    match error {
        JournalError::NewerSchema { .. }
        | JournalError::Held { .. }
        | JournalError::Io { .. }
        | JournalError::Store(_) => None,
        _ => of_log(copy).or_else(|| of_index(copy)),
    }
}

fn of_log(copy: &Path) -> Option<(SledStore, Meta)> {
    let path = paths::log(copy);
    let start = log::read(&path, &mut |_| Ok(())).ok()??.start;
    let mut store = SledStore::open(&copy.join("readable")).ok()?;
    catch_up::catch_up(&mut store, &path, start, start).ok()?;
    let meta = read_meta(&store).ok()?;
    Some((store, meta))
}

fn of_index(copy: &Path) -> Option<(SledStore, Meta)> {
    let path = paths::index(copy);
    if !SledStore::lock_file(&path).exists() {
        return None;
    }
    let store = SledStore::open(&path).ok()?;
    let meta = read_meta(&store).ok()?;
    Some((store, meta))
}

/// Turns a text about a copy into one about the journal.
pub(super) fn of_original(text: &str, copy: &Path, dir: &Path) -> String {
    text.replace(&copy.display().to_string(), &dir.display().to_string())
}
