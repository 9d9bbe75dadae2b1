//! Reads what earlier releases wrote. The code stands with its migration.

#[path = "../../migrations/0007_log/copies.rs"]
pub(crate) mod copies;
#[path = "../../migrations/0007_log/settle.rs"]
pub(crate) mod settle;
