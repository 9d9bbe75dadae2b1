//! `stillpoint completion SHELL`: completion scripts, generated from the clap definition of the command line.

use clap::Args;
use clap_complete::Shell;

use crate::cli::output::{data, exit};

/// Print the completion script for a shell
///
/// To load the completions in the current bash session: `source <(stillpoint completion bash)`
#[derive(Debug, Args)]
pub struct Completion {
    /// Shell to generate the script for
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub fn execute(self) -> u8 {
        // A closed stdout is not an error.
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
    fn completion_of_each_shell_has_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for command in ["demo", "groups", "journal", "completion"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
        }
    }
}
