//! Reads a journal from a private copy, from the daemon that has the journal open, or from an exported file.
//!
//! The source is printed to stderr. The commands neither lock nor write the journal.

use std::path::Path;

use super::asked::{Asked, ask};
use super::exported::Exported;
use super::{SourceArgs, problems};
use crate::cli::output::{style, talk};
use crate::domain::problem::Problem;
use crate::journal::{ChainProblem, Entry, Head, JournalError, Snapshot, Verification};

/// The source of the records.
pub enum Source {
    Copy(Box<Snapshot>),
    /// A running daemon.
    Daemon(Box<Asked>),
    Export(Exported),
}

/// The reason why no source could be opened.
pub enum ReadError {
    /// The journal itself could not be copied or opened.
    Journal(JournalError),
    /// The reply of the daemon was invalid, or the file does not exist.
    Other(Problem),
}

impl Source {
    /// Opens an exported file if `args` names one. Else requests the records from the daemon that has the
    /// journal open. Without such a daemon it opens a private copy.
    ///
    /// # Errors
    /// The journal is missing, damaged, of a newer release, or locked by a process that does not answer; or
    /// the file does not exist.
    pub fn open(args: &SourceArgs) -> Result<Self, ReadError> {
        match &args.export {
            Some(path) => {
                let exported = Exported::open(path).map_err(ReadError::Other)?;
                talk(&style::dim(&format!("read the exported journal {}", path.display())));
                Ok(Self::Export(exported))
            }
            None => Self::open_dir(&args.journal, args.archive.as_deref()),
        }
    }

    fn open_dir(dir: &Path, archive: Option<&Path>) -> Result<Self, ReadError> {
        if let Some(asked) = ask(dir, archive).map_err(ReadError::Other)? {
            let Asked { pid, epoch, head, .. } = &asked;
            let shown = format!(
                "asked the daemon that has {} open (pid {pid}, epoch {epoch}): up to record {}",
                dir.display(),
                head.position
            );
            talk(&style::dim(&shown));
            asked.archives.remark().iter().for_each(|remark| talk(&format!("note: {remark}")));
            return Ok(Self::Daemon(Box::new(asked)));
        }
        let snapshot = Snapshot::open_with(dir, archive).map_err(ReadError::Journal)?;
        talk(&style::dim(&format!("read a private copy of {}: no daemon has it open", dir.display())));
        snapshot.remarks().iter().for_each(|remark| talk(&format!("note: {remark}")));
        Ok(Self::Copy(Box::new(snapshot)))
    }

    /// All entries of the chain in order; damage is yielded with its position.
    pub fn entries(&self) -> Box<dyn Iterator<Item = Result<Entry, ChainProblem>> + '_> {
        match self {
            Self::Copy(snapshot) => Box::new(snapshot.entries()),
            Self::Daemon(asked) => Box::new(asked.entries()),
            Self::Export(exported) => Box::new(exported.entries()),
        }
    }

    /// Entries from missing archives, of runs that had not ended there. They come before all other entries
    /// and are not part of the chain.
    fn carried(&self) -> &[Entry] {
        match self {
            Self::Copy(snapshot) => snapshot.carried(),
            Self::Daemon(asked) => &asked.carried,
            Self::Export(_) => &[],
        }
    }

    /// Verifies every record in one pass, passes each valid entry to `each`, and compares the chain with a
    /// head that was published elsewhere. The verdict comes with remarks for the reader, usually none:
    /// repairs that the next start will make, or readable fields of an export that differ from the bytes.
    pub fn verify_each(
        &self,
        expected: Option<&Head>,
        mut each: impl FnMut(Entry),
    ) -> (Verification, Vec<String>) {
        self.carried().iter().cloned().for_each(&mut each);
        match self {
            Self::Copy(snapshot) => (snapshot.verify_each(expected, each), snapshot.remarks().to_vec()),
            Self::Daemon(asked) => {
                (asked.verify_each(expected, &mut each), asked.archives.remark().into_iter().collect())
            }
            Self::Export(exported) => exported.verify_each(expected, &mut each),
        }
    }
}

impl Source {
    /// The reason why the next start of a daemon refuses the journal in `dir`. None if the start does not
    /// refuse it, or if the source cannot answer this.
    pub fn refusal(&self, dir: &Path) -> Option<Problem> {
        match self {
            Self::Copy(snapshot) => snapshot.refusal().map(|error| problems::unreadable(dir, error)),
            Self::Daemon(_) | Self::Export(_) => None,
        }
    }
}

/// Opens a source.
///
/// # Errors
/// As [`Source::open`], as a problem for the user.
pub fn open(args: &SourceArgs) -> Result<Source, Problem> {
    Source::open(args).map_err(|unread| match unread {
        ReadError::Journal(error) => problems::unreadable(args.path(), &error),
        ReadError::Other(problem) => problem,
    })
}

/// Passes every entry of a journal to `each`. If the chain is broken, the caller must discard the entries.
///
/// # Errors
/// As [`open`], or the chain is broken.
pub fn verified_each(args: &SourceArgs, each: impl FnMut(Entry)) -> Result<(), Problem> {
    let source = open(args)?;
    let (Verification { verdict, problem, .. }, _) = source.verify_each(None, each);
    let damage =
        problem.filter(|_| !verdict.is_whole()).map(|problem| problems::damaged(args.path(), &problem));
    source.refusal(args.path()).or(damage).map_or(Ok(()), Err)
}

/// All entries of a journal with a valid chain.
///
/// # Errors
/// As [`verified_each`].
pub fn verified(args: &SourceArgs) -> Result<Vec<Entry>, Problem> {
    let mut entries = Vec::new();
    verified_each(args, |entry| entries.push(entry))?;
    Ok(entries)
}

/// All entries.
///
/// # Errors
/// As [`open`], or an entry is invalid.
pub fn entries(args: &SourceArgs) -> Result<Vec<Entry>, Problem> {
    match until_damage(args)? {
        (_, Some(problem)) => Err(problem),
        (entries, None) => Ok(entries),
    }
}

/// All entries up to the first invalid entry, with the problem of that entry; or with the reason why a daemon
/// would not continue from them.
///
/// # Errors
/// As [`open`].
pub fn until_damage(args: &SourceArgs) -> Result<(Vec<Entry>, Option<Problem>), Problem> {
    let source = open(args)?;
    let mut entries = source.carried().to_vec();
    for entry in source.entries() {
        match entry {
            Ok(entry) => entries.push(entry),
            Err(problem) => return Ok((entries, Some(problems::damaged(args.path(), &problem)))),
        }
    }
    Ok((entries, source.refusal(args.path())))
}
