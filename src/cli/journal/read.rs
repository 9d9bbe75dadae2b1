//! Reading: a private copy of the journal, what the daemon that has it open answers, or an exported file.
//!
//! Which of the three it was is said on stderr. Nothing is held and nothing is written.

use std::path::Path;

use super::asked::{Asked, ask};
use super::exported::Exported;
use super::{SourceArgs, problems};
use crate::cli::output::{style, talk};
use crate::domain::problem::Problem;
use crate::journal::{ChainProblem, Entry, Head, JournalError, Snapshot, Verification};

/// Where the records come from.
pub enum Source {
    /// A private copy.
    Copy(Box<Snapshot>),
    /// A living daemon.
    Daemon(Box<Asked>),
    /// A file of exported lines.
    Export(Exported),
}

/// Why there is no source.
pub enum ReadError {
    /// The journal itself could not be copied or opened.
    Journal(JournalError),
    /// The daemon did not answer as it should, or there is no such file.
    Other(Problem),
}

impl Source {
    /// Reads an exported file if one is named; else asks the daemon that has the journal open, else makes a private copy.
    ///
    /// # Errors
    /// The journal is missing, damaged, of a newer release, or held by something that does not answer; or there is no
    /// such file.
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

    /// Every entry of the chain in order; damage is yielded with its position.
    pub fn entries(&self) -> Box<dyn Iterator<Item = Result<Entry, ChainProblem>> + '_> {
        match self {
            Self::Copy(snapshot) => Box::new(snapshot.entries()),
            Self::Daemon(asked) => Box::new(asked.entries()),
            Self::Export(exported) => Box::new(exported.entries()),
        }
    }

    /// Entries of archives that are not here, of runs that had not ended there: they belong in front of all others, and
    /// are no part of the chain.
    fn carried(&self) -> &[Entry] {
        match self {
            Self::Copy(snapshot) => snapshot.carried(),
            Self::Daemon(asked) => asked.carried.as_deref().unwrap_or_default(),
            Self::Export(_) => &[],
        }
    }

    /// Looks at every record in one pass, hands out each that held, and compares with a head that was published
    /// elsewhere. Beside the verdict stands what a reader should know, usually nothing: what the next start is going to
    /// repair, or what an export says beside its bytes.
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
    /// Why the next start of a daemon refuses the journal in `dir`; none if it does not, or that is not known from here.
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
/// As [`Source::open`], for people.
pub fn open(args: &SourceArgs) -> Result<Source, Problem> {
    Source::open(args).map_err(|unread| match unread {
        ReadError::Journal(error) => problems::unreadable(args.path(), &error),
        ReadError::Other(problem) => problem,
    })
}

/// Hands out every entry of a journal whose chain holds. What was handed out is worth nothing if it does not.
///
/// # Errors
/// As [`open`], or the chain does not hold.
pub fn verified_each(args: &SourceArgs, each: impl FnMut(Entry)) -> Result<(), Problem> {
    let source = open(args)?;
    let (Verification { verdict, problem, .. }, _) = source.verify_each(None, each);
    let damage =
        problem.filter(|_| !verdict.is_whole()).map(|problem| problems::damaged(args.path(), &problem));
    source.refusal(args.path()).or(damage).map_or(Ok(()), Err)
}

/// All entries of a journal whose chain holds.
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
/// As [`open`], or an entry does not hold.
pub fn entries(args: &SourceArgs) -> Result<Vec<Entry>, Problem> {
    match until_damage(args)? {
        (_, Some(problem)) => Err(problem),
        (entries, None) => Ok(entries),
    }
}

/// All entries up to the first that does not hold, and what is wrong with that one; or why a daemon would not go on
/// from them.
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
