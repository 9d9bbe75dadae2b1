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
//!
//! They never hold the journal: while a daemon has it open they ask the daemon, else they read a private copy, and say
//! on stderr which of the two it was.

mod asked;
mod diff;
mod explain;
mod export;
mod list;
mod problems;
mod read;
mod replay;
mod show;
mod verify;

#[cfg(test)]
mod testing;

use std::path::PathBuf;

use super::common::OutputArgs;
use super::output::{Format, report};
use crate::domain::problem::Problem;

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
}

/// Which journal, and how its data is shown.
#[derive(Debug, Clone, clap::Args)]
struct JournalArgs {
    /// Directory of the journal.
    #[arg(long, value_name = "DIR", env = "STILLPOINT_JOURNAL", default_value = "stillpoint-journal")]
    journal: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl JournalArgs {
    fn format(&self) -> Format {
        self.output.output
    }
}

impl Journal {
    fn args(&self) -> &JournalArgs {
        match self {
            Self::List(args) => &args.common,
            Self::Show(args) => &args.common,
            Self::Explain(args) => &args.common,
            Self::Diff(args) => &args.common,
            Self::Verify(args) => &args.common,
            Self::Replay(args) => &args.common,
            Self::Export(args) => &args.common,
        }
    }

    /// Reads and prints.
    pub fn execute(self) -> u8 {
        let format = self.args().format();
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
        }
    }
}
