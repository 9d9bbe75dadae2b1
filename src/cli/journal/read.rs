//! Reading: a private copy of the journal, or what the daemon that has it open answers.
//!
//! Which of the two it was is said on stderr. Nothing is held and nothing is written.

use std::path::Path;

use super::asked::{Asked, ask};
use super::problems;
use crate::cli::output::{style, talk};
use crate::domain::problem::Problem;
use crate::journal::{ChainProblem, Entry, Head, JournalError, Snapshot, Verdict, Verification};

/// Where the records come from.
pub enum Source {
    /// A private copy.
    Copy(Box<Snapshot>),
    /// A living daemon.
    Daemon(Asked),
}

/// Why there is no source.
pub enum Unread {
    /// The journal itself could not be copied or opened.
    Journal(JournalError),
    /// The daemon did not answer as it should.
    Daemon(Problem),
}

impl Source {
    /// Asks the daemon that has the journal in `dir` open, else makes a private copy.
    ///
    /// # Errors
    /// The journal is missing, damaged, of a newer release, or held by something that does not answer.
    pub fn open(dir: &Path) -> Result<Self, Unread> {
        if let Some(asked) = ask(dir).map_err(Unread::Daemon)? {
            let Asked { pid, epoch, head, .. } = &asked;
            let shown = format!(
                "asked the daemon that has {} open (pid {pid}, epoch {epoch}): up to record {}",
                dir.display(),
                head.position
            );
            talk(&style::dim(&shown));
            return Ok(Self::Daemon(asked));
        }
        let snapshot = Snapshot::open(dir).map_err(Unread::Journal)?;
        talk(&style::dim(&format!("read a private copy of {}: no daemon has it open", dir.display())));
        snapshot.remarks().iter().for_each(|remark| talk(&format!("note: {remark}")));
        Ok(Self::Copy(Box::new(snapshot)))
    }

    /// Where one half of the journal made up for the other; usually nothing.
    pub fn remarks(&self) -> &[String] {
        match self {
            Self::Copy(snapshot) => snapshot.remarks(),
            Self::Daemon(_) => &[],
        }
    }

    /// Every entry in order; damage is yielded with its position.
    pub fn entries(&self) -> Box<dyn Iterator<Item = Result<Entry, ChainProblem>> + '_> {
        match self {
            Self::Copy(snapshot) => Box::new(snapshot.entries()),
            Self::Daemon(asked) => Box::new(asked.entries.iter().cloned().map(Ok)),
        }
    }

    /// Looks at every record, and compares with a head that was published elsewhere.
    pub fn verify(&self, expected: Option<&Head>) -> Verification {
        match self {
            Self::Copy(snapshot) => snapshot.verify(expected),
            Self::Daemon(asked) => asked.verify(expected),
        }
    }
}

/// Opens a source of the journal in `dir`.
///
/// # Errors
/// As [`Source::open`], for people.
pub fn open(dir: &Path) -> Result<Source, Problem> {
    Source::open(dir).map_err(|unread| match unread {
        Unread::Journal(error) => problems::unreadable(dir, &error),
        Unread::Daemon(problem) => problem,
    })
}

/// All entries of a journal whose chain holds.
///
/// # Errors
/// As [`open`], or the chain does not hold.
pub fn verified(dir: &Path) -> Result<Vec<Entry>, Problem> {
    let source = open(dir)?;
    let verification = source.verify(None);
    match verification.problem {
        Some(problem) if verification.verdict != Verdict::Intact => Err(problems::damaged(dir, &problem)),
        _ => entries(dir, &source),
    }
}

/// All entries, up to the first that does not hold.
///
/// # Errors
/// An entry does not hold.
pub fn entries(dir: &Path, source: &Source) -> Result<Vec<Entry>, Problem> {
    source.entries().collect::<Result<_, _>>().map_err(|problem| problems::damaged(dir, &problem))
}
