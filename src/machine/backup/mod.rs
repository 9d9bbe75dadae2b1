//! The Backup machine.
