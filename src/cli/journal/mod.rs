//! `stillpoint journal`: read, verify and replay a journal.
//!
//! | command | result |
//! |---|---|
//! | `list` | the streams and their states |
//! | `show` | records as lines, or as data |
//! | `explain` | the reason of a record: the row that was decided, and why no other row matched |
//! | `diff` | the changes between two records of a stream |
//! | `verify` | whether the journal is intact |
//! | `replay` | whether every decision would be the same again |
//! | `export` | every record with its exact bytes |
//! | `archive` | moves full segments out of the live journal and reports them |
//! | `rebuild` | rebuilds a damaged log from its index, or a lost journal from the cluster |
//! | `confirm-cluster` | lets the daemon free storage again: writes to the binding in the cluster |
//!
//! All commands but the last three only read, and never lock the journal. If a daemon has the journal open,
//! they request the records from the daemon. Else they open a private copy. They print the source to stderr.
//! All but `export` also read the output of `export` (`--export FILE`), so that an auditor does not need the
//! directory.

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
mod rebuild_from_index;
mod replay;
mod show;
mod verify;

#[cfg(test)]
mod testing;

use std::path::{Path, PathBuf};

use super::common::OutputArgs;
use super::output::{Format, report};
use crate::domain::problem::{About, Code, Problem};
use crate::journal::Entry;

/// Read, verify and replay a journal
#[derive(Debug, clap::Subcommand)]
pub enum Journal {
    /// List the runs and Backups of a journal
    List(list::Args),
    /// Print the records of all streams or of one stream
    Show(show::Args),
    /// Explain a record: the row that was decided, the columns that the row reads, and why no other row
    /// matched
    Explain(explain::Args),
    /// Compare the states of a stream after two of its records
    Diff(diff::Args),
    /// Verify every record and the hash chain
    Verify(verify::Args),
    /// Repeat every recorded decision and compare the results
    Replay(replay::Args),
    /// Print every record as a line of JSON with its exact bytes
    Export(export::Args),
    /// Move records of finished runs to archives
    Archive(archive::Args),
    /// Rebuild a lost journal from the cluster
    Rebuild(rebuild::Args),
    /// Let the daemon free storage again after the cluster went back in time
    ConfirmCluster(confirm::Args),
}

/// Runs a future on a separate runtime: commands already run on a runtime, and its thread must not be
/// blocked.
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

/// The options of a command that reads only a journal directory: the directory and the output format.
#[derive(Debug, Clone, clap::Args)]
struct DirectoryArgs {
    /// Directory of the journal
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

/// The source of the records.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SourceArgs {
    /// Directory of the journal
    #[arg(long, value_name = "DIR", env = "STILLPOINT_JOURNAL", default_value = "stillpoint-journal")]
    journal: PathBuf,
    /// Directory that archives were moved to. Archives in the journal directory are found without this flag
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// Read a file written by `journal export` instead of a directory; use - for stdin
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
}

impl SourceArgs {
    /// All entries of the journal, whose chain must be valid.
    ///
    /// # Errors
    /// The journal cannot be read, or its chain is broken.
    pub(super) fn verified(&self) -> Result<Vec<Entry>, Problem> {
        read::verified(self)
    }

    /// The path that the command reads.
    fn path(&self) -> &Path {
        self.export.as_ref().unwrap_or(&self.journal)
    }
}

/// The options of a command that reads a journal: the source and the output format.
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
