//! The `stillpoint` command.

fn main() -> std::process::ExitCode {
    stillpoint::cli::main()
}
