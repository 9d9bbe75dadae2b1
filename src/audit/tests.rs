//! Audits of journals with real decisions, and of journals that were tampered with.

mod backups;
mod explaining;
mod forging;
mod looks;
mod orphans;
mod released;
mod replaying;
