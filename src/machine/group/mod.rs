//! The group machine.
pub mod effect;
