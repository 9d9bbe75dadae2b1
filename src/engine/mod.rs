//! `engine`.

pub mod world;
