//! Rules that neither the compiler nor clippy holds: what every dependency has to say about itself, and that the files of
//! `deploy/` are those of the code. Which package may import which is said by their `Cargo.toml`.
//!
//! Each rule prints `file:line` and what to do, and has a test beside it that shows it a violation.

#[path = "rules/dependencies.rs"]
mod dependencies;
#[path = "rules/deploy.rs"]
mod deploy;

/// The root of the repository.
fn root() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Fails with one line for each violation.
fn hold(rule: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{rule}:\n  {}\n", violations.join("\n  "));
}
