//! Replaces a lost journal with a new one, which is recovered from other sources.
//!
//! The new journal is written beside the old one. When it is complete, renames put it in place. The rename
//! of its log is the moment at which it becomes the journal. After a kill before that moment the lost
//! journal is still there. After a kill behind it the index is made from the log. The old files are
//! renamed, never removed.
//!
//! Not here: the records of the new journal.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::handle::Journal;
use super::lock::Lock;
use super::options::Options;
use super::owner::Owner;
use super::owner_file;
use super::paths;
use super::snapshot::Snapshot;
use super::verification::Verdict;

const DRAFT: &str = "rebuild.new";

/// A new journal that is not in its place yet.
pub struct Replacement {
    dir: PathBuf,
    journal: Option<Journal>,
    _lock: Lock,
}

impl Replacement {
    /// Begins a new journal for the directory of a lost one. Its epoch is above `epoch` and above that of
    /// the last owner.
    ///
    /// # Errors
    /// [`JournalError::NotLost`] if the directory has a readable journal. Other errors if a running process
    /// holds it, or the new journal cannot be written.
    pub fn begin(dir: &Path, epoch: u64, options: Options) -> Result<Replacement, JournalError> {
        fs::create_dir_all(dir).map_err(JournalError::io("create", dir))?;
        let lock = Lock::exclusive(dir)?;
        let owner = Owner::read(dir).ok().flatten().map_or(0, |owner| owner.epoch);
        let draft = dir.join(DRAFT);
        paths::remove(&draft)?;
        let options = Options { after_epoch: epoch.max(owner), ballast_bytes: 0, ..options };
        let (journal, _) = Journal::open_thread(&draft, options)?;
        Ok(Replacement { dir: dir.to_owned(), journal: Some(journal), _lock: lock })
    }

    /// Checks that the journal in `dir` is lost: it does not exist, or a daemon does not
    /// start from it and its log cannot be rebuilt from its index.
    ///
    /// # Errors
    /// [`JournalError::NotLost`], or a running process holds it, or a newer Stillpoint wrote it.
    pub fn is_called_for(dir: &Path) -> Result<(), JournalError> {
        let not_lost = || Err(JournalError::NotLost { dir: dir.to_owned() });
        match Snapshot::open(dir) {
            Ok(snapshot) => match snapshot.verify(None).verdict {
                Verdict::Corrupt | Verdict::CutTail if !Snapshot::is_rebuildable(dir)? => Ok(()),
                _ => not_lost(),
            },
            Err(
                error @ (JournalError::Held { .. }
                | JournalError::NewerSchema { .. }
                | JournalError::Io { .. }),
            ) => Err(error),
            Err(_) => Ok(()),
        }
    }

    /// The new journal.
    pub fn journal(&self) -> &Journal {
        self.journal.as_ref().expect("it is closed only by put_in_place, which consumes this")
    }

    /// Closes the new journal and puts it in the place of the lost one. Returns the renamed files.
    ///
    /// # Errors
    /// A rename failed. A repetition continues.
    pub fn put_in_place(mut self) -> Result<Vec<String>, JournalError> {
        let epoch = self.journal().epoch();
        self.journal = None;
        let mut aside = Vec::new();
        for name in ["sled", paths::LOG, paths::EARLIER_LOG, "archive"] {
            aside.extend(paths::set_aside(&self.dir, name, epoch)?);
        }
        let draft = self.dir.join(DRAFT);
        paths::put_in_place(&paths::log(&draft), &self.dir.join(paths::LOG))?;
        // The present file witnesses records of the lost journal. Without one, an empty directory would be a
        // new journal.
        paths::put_in_place(&owner_file::path(&draft), &owner_file::path(&self.dir))?;
        paths::put_in_place(&paths::index(&draft), &paths::index(&self.dir))?;
        paths::remove(&draft)?;
        Ok(aside)
    }
}
