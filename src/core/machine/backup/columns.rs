//! Defines the columns of the Backup machine.

use crate::columns;

columns! {
    /// Which daemon has claimed the Backup.
    Seen Owner {
        /// This one, an earlier one, or none.
        Ours,
        /// A newer one.
        Newer,
    }
    /// The groups without a recorded end.
    Seen Groups {
        /// Every group has ended.
        AllEnded,
        /// Some have ended, and others run.
        SomeEnded,
        /// All run.
        Running,
        /// One has no run.
        Absent,
        /// One has neither a run nor a plan: an earlier release accepted the Backup.
        Unplanned,
        /// All that are left have a run whose records are missing.
        Unknown,
        /// One is not in progress, and its records were not read.
        Unread,
    }
    /// Whether the runs were just read from the journal, and new groups from the API server.
    Seen Fresh {
        /// They were.
        Yes,
        /// They were not.
        No,
    }
    /// The ends of the groups so far, recorded and seen, with the groups that were refused.
    Derived Result {
        /// All completed, or there was none.
        Completed,
        /// Some completed, some did not.
        PartiallyFailed,
        /// None completed.
        Failed,
    }
}
