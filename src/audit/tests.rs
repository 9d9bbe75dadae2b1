//! Audits of journals that were really decided, and of journals that were tampered with.

mod explaining;
mod forging;
mod looks;
mod released;
mod replaying;
