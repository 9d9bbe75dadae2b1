//! What happens next: the machines of Stillpoint as pure functions over data.
//!
//! No clock, no randomness, no environment, no file, no runtime, no Kubernetes: `Cargo.toml` of this package names none of
//! their crates, and `clippy.toml` bans what the standard library has of them. A replay decides again what was decided
//! then.
//!
//! | read | for |
//! |---|---|
//! | [`domain`] | the nouns: ids, names, limits, plan, receipt, what was observed |
//! | [`machine::group::table`] | the recovery table, rows as data |
//! | [`machine::group`] | the machine around it: event, fold, view, decide, effects |
//! | [`machine::backup`] | the machine of a Backup |
//! | [`planning`] | from a Backup and plain facts to plans, or to refusals |
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod domain;
pub mod machine;
pub mod planning;
