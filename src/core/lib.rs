//! The state machines of Stillpoint as pure functions over data.
//!
//! This package has no clock, randomness, environment, files, async runtime or Kubernetes client. Its
//! `Cargo.toml` names no such crate, and `clippy.toml` bans the parts of the standard library that have them.
//! A replay therefore repeats every recorded decision exactly.
//!
//! | module | contents |
//! |---|---|
//! | [`domain`] | nouns: ids, names, limits, plan, receipt, observed objects |
//! | [`machine::group::table`] | the recovery table, rows as data |
//! | [`machine::kit`] | the kit that carries every machine |
//! | [`machine::group`] | the group machine |
//! | [`machine::backup`] | the machine of a Backup |
//! | [`planning`] | turns a Backup and an inventory into plans or refusals |
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
// `rows!` expands one row of a table at a time.
#![recursion_limit = "512"]

pub mod domain;
pub mod machine;
pub mod planning;
