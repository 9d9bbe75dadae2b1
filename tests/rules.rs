//! Rules that the compiler does not hold: which module may import which, what the core may not name, what every file
//! and every dependency has to say about itself.
//!
//! The rules read the sources as text. Each prints `file:line` and what to do. Every rule has a test beside it that
//! shows it a violation, so that a rule that no longer sees anything is noticed.

#[path = "rules/dependencies.rs"]
mod dependencies;
#[path = "rules/deploy.rs"]
mod deploy;
#[path = "rules/imports.rs"]
mod imports;
#[path = "rules/source.rs"]
mod source;
#[path = "rules/text.rs"]
mod text;

/// Fails with one line for each violation.
fn hold(rule: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{rule}:\n  {}\n", violations.join("\n  "));
}
