//! `stillpoint journal`: read, verify and replay a journal.
//!
//! | command | shows |
//! |---|---|
//! | `list` | the streams and where they stand |
//! | `show` | records as lines, or as data |
//! | `explain` | why a record is there: the row that was decided, and why no other |
//! | `diff` | what changed between two records of a stream |
//! | `verify` | whether the journal is whole |
//! | `replay` | whether everything would be decided the same again |
//! | `export` | every record with its exact bytes |
//! | `archive` | what was archived: it moves full segments out of the live journal |
//! | `rebuild` | what of a lost journal the cluster still shows: it makes a new one |
//! | `confirm-cluster` | that the daemon may free storage again: it writes to the binding in the cluster |
//!
//! All but the last three only read. They never hold the journal: while a daemon has it open they ask the daemon, else they
//! start a private copy and read that, and say on stderr which of the two it was. All but `export` also read what `export` wrote (`--export FILE`), so that an
//! auditor needs no directory.

mod archive;
mod asked;
mod beside;
mod confirm;
mod diff;
mod explain;
mod export;
mod exported;
mod list;
mod problems;
mod read;
mod rebuild;
mod replay;
mod show;
mod verify;

#[cfg(test)]
mod testing;

use std::path::{Path, PathBuf};

use super::common::OutputArgs;
use super::output::{Format, report};
use crate::domain::problem::{About, Code, Problem};

/// Reads, verifies and replays a journal.
#[derive(Debug, clap::Subcommand)]
pub enum Journal {
    /// List the runs and Backups of a journal.
    List(list::Args),
    /// Show records, of all streams or of one.
    Show(show::Args),
    /// Explain a record: the row that was decided, what it looked at, and why no other row was.
    Explain(explain::Args),
    /// Compare what a stream folds to after two of its records.
    Diff(diff::Args),
    /// Check every record and the chain of hashes.
    Verify(verify::Args),
    /// Make every recorded decision again and compare.
    Replay(replay::Args),
    /// Print every record as a line of JSON with its exact bytes.
    Export(export::Args),
    /// Move records of finished runs to archives.
    Archive(archive::Args),
    /// Put a lost journal together again from what the cluster shows.
    Rebuild(rebuild::Args),
    /// Let the daemon free storage again after the cluster went back in time.
    ConfirmCluster(confirm::Args),
}

/// Waits for work on a runtime of its own: commands run on one already, whose thread may not be blocked.
fn on_a_runtime<T: Send, F>(work: impl FnOnce() -> F + Send) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Problem>>,
{
    let internal = |reason: String| {
        let about = About::new("Command", "", "journal");
        Problem::new(Code::Internal, about, reason, "try again")
    };
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| internal(format!("start a runtime: {error}")))?;
        runtime.block_on(work())
    };
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|_| Err(internal("the command ended in a panic".to_owned())))
}

/// The journal of a command that is about a directory and nothing else, and how its data is shown.
#[derive(Debug, Clone, clap::Args)]
struct DirectoryArgs {
    /// Directory of the journal.
    #[arg(long, value_name = "DIR", env = "STILLPOINT_JOURNAL", default_value = "stillpoint-journal")]
    journal: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl DirectoryArgs {
    fn format(&self) -> Format {
        self.output.output
    }
}

/// Where the records are.
#[derive(Debug, Clone, clap::Args)]
struct SourceArgs {
    /// Directory of the journal.
    #[arg(long, value_name = "DIR", env = "STILLPOINT_JOURNAL", default_value = "stillpoint-journal")]
    journal: PathBuf,
    /// Where archives were moved to; those in the journal's own directory are found.
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// Read a file that `journal export` wrote instead of a directory; - is stdin.
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
}

impl SourceArgs {
    /// What is read.
    fn path(&self) -> &Path {
        self.export.as_ref().unwrap_or(&self.journal)
    }
}

/// Which journal, and how its data is shown.
#[derive(Debug, Clone, clap::Args)]
struct JournalArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl JournalArgs {
    fn format(&self) -> Format {
        self.output.output
    }
}

impl Journal {
    fn format(&self) -> Format {
        match self {
            Self::List(args) => args.common.format(),
            Self::Show(args) => args.common.format(),
            Self::Explain(args) => args.common.format(),
            Self::Diff(args) => args.common.format(),
            Self::Verify(args) => args.common.format(),
            Self::Replay(args) => args.common.format(),
            Self::Export(args) => args.directory.format(),
            Self::Archive(args) => args.directory.format(),
            Self::Rebuild(args) => args.directory.format(),
            Self::ConfirmCluster(args) => args.format(),
        }
    }

    /// Reads and prints.
    pub fn execute(self) -> u8 {
        let format = self.format();
        self.run().unwrap_or_else(|problem| report(&problem, format.is_document()))
    }

    fn run(self) -> Result<u8, Problem> {
        match self {
            Self::List(args) => list::run(&args),
            Self::Show(args) => show::run(&args),
            Self::Explain(args) => explain::run(&args),
            Self::Diff(args) => diff::run(&args),
            Self::Verify(args) => verify::run(&args),
            Self::Replay(args) => replay::run(&args),
            Self::Export(args) => export::run(&args),
            Self::Archive(args) => archive::run(&args),
            Self::Rebuild(args) => rebuild::run(&args),
            Self::ConfirmCluster(args) => confirm::run(&args),
        }
    }
}
