//! The command line: one file per command, and a dispatcher.
//!
//! A command reads, then renders: what it found is a value that can be serialized, and a table is one way to show it.
//! Data goes to stdout, talk to stderr, and a [`Problem`] is shown the same way everywhere ([`output`]).
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 3 done but degraded or different, 4 refused.

mod drill;
mod explain;
mod journal;
pub mod output;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::domain::problem::{About, Code, Problem};
use output::Format;

/// Crash-consistent snapshots of groups of Kubernetes volumes, by a service that never loses its place.
#[derive(Debug, Parser)]
#[command(name = "stillpoint", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read, verify and replay a journal.
    #[command(subcommand)]
    Journal(journal::Command),
    /// Crash drills.
    #[command(subcommand)]
    Drill(drill::Command),
    /// Say what an error code means.
    Explain(explain::Command),
}

/// How data is shown.
#[derive(Debug, Clone, Copy, Args)]
struct OutputArgs {
    /// Format of the data on stdout.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Format,
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    ExitCode::from(run(Cli::parse().command))
}

fn run(command: Command) -> u8 {
    let format = command.format();
    let result = match command {
        Command::Journal(command) => command.run(),
        Command::Drill(command) => command.run(),
        Command::Explain(command) => command.run(),
    };
    result.unwrap_or_else(|problem| output::report(&problem, format.is_document()))
}

impl Command {
    fn format(&self) -> Format {
        match self {
            Self::Journal(command) => command.format(),
            Self::Drill(command) => command.format(),
            Self::Explain(command) => command.format(),
        }
    }
}

/// Writes data to stdout as a document, or as what `table` makes of it.
fn show<T: serde::Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Problem> {
    print(&format.document(value)?.unwrap_or_else(|| table(value)))
}

/// Writes text to stdout.
fn print(text: &str) -> Result<(), Problem> {
    output::data(text).map_err(|error| {
        let about = About::new("File", "", "stdout");
        Problem::new(Code::Internal, about, format!("write the output: {error}"), "make room and try again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_journal_takes_a_directory_and_a_format() {
        for command in ["list", "show", "verify", "replay", "export"] {
            let line = ["stillpoint", "journal", command, "--journal", "/tmp/j", "-o", "json"];
            let cli = Cli::try_parse_from(line).expect(command);
            assert_eq!(cli.command.format(), Format::Json, "{command}");
            assert!(Cli::try_parse_from(["stillpoint", "journal", command, "--what"]).is_err());
        }
    }
}
