//! Defines the last process that had the journal open, for users and for messages.
//!
//! Not here: its file ([`super::owner_file`]).

use serde::{Deserialize, Serialize};

/// The last process that opened a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub pid: u32,
    /// Name of its host; in a cluster, of its pod.
    pub host: String,
    /// The epoch that it claimed.
    pub epoch: u64,
    /// Position of a record that is on disk; 0 in the file of an earlier release.
    #[serde(default)]
    pub position: u64,
}
