//! `planning`.
