//! The command line: one file per command. Reading and rendering are separate.
//!
//! Data on stdout, messages on stderr, JSON as the contract. Exit codes: 0 done, 1 failed, 2 usage, 3 done
//! but degraded or different, 4 refused ([`output::exit`]).

mod common;
pub mod completion;
pub mod crds;
pub mod demo;
pub mod drill;
pub mod explain;
pub mod groups;
pub mod journal;
pub mod orphans;
pub mod output;
pub mod run;
pub mod sim;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Crash-consistent snapshots of groups of Kubernetes volumes
#[derive(Debug, Parser)]
#[command(name = "stillpoint", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Sim(sim::Sim),
    Run(run::Run),
    #[command(subcommand)]
    Groups(groups::Groups),
    Orphans(orphans::Orphans),
    Crds(crds::Crds),
    Completion(completion::Completion),
    #[command(subcommand)]
    Drill(drill::Drill),
    #[command(subcommand)]
    Journal(journal::Journal),
    Explain(explain::Explain),
}

/// The clap definition of the command line, for completions and for tests that check arguments.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Parses the command line, executes the command, and returns its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread: the daemon is one future, and the tasks beside it (the client, the watches) only run when
    // that future waits for them. With two threads each hand-over wakes the other thread, which costs more
    // than it gains (`cargo bench --bench groups` measures both). The journal writes on its own thread.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::talk(&format!("cannot start: {error}"));
            return ExitCode::from(output::exit::FAILED);
        }
    };
    let code = runtime.block_on(async {
        match cli.command {
            Command::Demo(demo) => demo.execute().await,
            Command::Sim(sim) => sim.execute().await,
            Command::Run(run) => run.execute().await,
            Command::Groups(groups) => groups.execute().await,
            Command::Orphans(orphans) => orphans.execute().await,
            Command::Crds(crds) => crds.execute(),
            Command::Completion(completion) => completion.execute(),
            Command::Drill(drill) => drill.execute().await,
            Command::Journal(journal) => journal.execute(),
            Command::Explain(explain) => explain.execute(),
        }
    });
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// The commands that a text names between backticks.
    fn named(text: &str) -> Vec<&str> {
        text.split('`').skip(1).step_by(2).filter(|quoted| quoted.starts_with("stillpoint ")).collect()
    }

    #[test]
    fn journal_errors_suggest_only_existing_commands() {
        use crate::journal::{ChainProblem, Fault, JournalError, StoreError};
        let dir = || std::path::PathBuf::from("j");
        let io = || std::io::Error::other("full");
        let source = || StoreError::Layout { what: "the head" };
        let problem = || ChainProblem { position: 3, what: Fault::Hash };
        let errors = [
            JournalError::Held { dir: dir(), owner: None },
            JournalError::Unopenable { dir: dir(), source: source() },
            JournalError::NewerSchema { found: 9, known: 2 },
            JournalError::Damaged { torn: true, source: problem() },
            JournalError::Missing { dir: dir() },
            JournalError::Lost { dir: dir(), epoch: 2 },
            JournalError::Short { dir: dir(), last: 1, known: 2, witness: "its index" },
            JournalError::Behind { dir: dir(), found: 1, claimed: 2 },
            JournalError::RebuildShort { dir: dir(), last: 1, known: 2 },
            JournalError::NotDamaged { dir: dir() },
            JournalError::Store(source()),
            JournalError::Io { what: "read", path: dir(), source: io() },
            JournalError::Stopped { reason: "gone".to_owned() },
        ];
        let fixes: String = errors.iter().map(|error| format!("{}\n", error.fix())).collect();
        assert!(named(&fixes).len() >= 2, "{fixes}");
        for line in named(&fixes) {
            let mut command = Cli::command();
            for word in line.split(' ').skip(1).filter(|word| !word.starts_with("--")) {
                let next = command.find_subcommand(word).cloned();
                command = next.unwrap_or_else(|| panic!("`{line}` does not exist"));
            }
        }
    }

    #[test]
    fn journal_commands_take_directory_and_format() {
        for command in [
            &["list"][..],
            &["show"],
            &["explain", "3"],
            &["diff", "1", "2"],
            &["verify"],
            &["replay"],
            &["export"],
        ] {
            let line = [&["stillpoint", "journal"], command, &["--journal", "/tmp/j", "-o", "json"]].concat();
            assert!(Cli::try_parse_from(line).is_ok(), "{command:?}");
            assert!(
                Cli::try_parse_from([&["stillpoint", "journal"], command, &["--what"]].concat()).is_err()
            );
        }
    }
}
