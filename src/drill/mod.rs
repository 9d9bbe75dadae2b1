//! `drill`.
