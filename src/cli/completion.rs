//! `stillpoint completion SHELL`: what a shell completes, from the definition of the command line itself.

use clap::Args;
use clap_complete::Shell;

use crate::cli::output::{data, exit};

/// Prints the completion script of a shell, e.g. for `source <(stillpoint completion bash)`.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    /// Prints.
    pub fn execute(self) -> u8 {
        // A closed stdout is no failure.
        let _ = data(&script(self.shell));
        exit::DONE
    }
}

fn script(shell: Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "stillpoint", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_learns_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for command in ["demo", "groups", "journal", "completion"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
        }
    }
}
