//! Counts the snapshots of a Backup, as Velero does in its status.

use super::driver::{Context, journal_problem};
use super::runs::fold_group;
use crate::domain::problem::Problem;
use crate::journal::JournalError;
use crate::machine::backup::BackupRun;
use crate::machine::group::Stage;

/// Snapshots of members. Attempted: those of every group that was begun. Completed: those that are ready and
/// retained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Snapshots {
    pub attempted: usize,
    pub completed: usize,
}

impl Snapshots {
    /// Counts the snapshots of a Backup that has ended, from the records of its groups. Groups in an archive
    /// that is missing do not count.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(super) async fn of(context: &Context, run: &BackupRun) -> Result<Self, Problem> {
        let mut snapshots = Self::default();
        for group in &run.state.groups {
            let entries = match context.journal.stream(group.run).await {
                Err(JournalError::ArchiveMissing { .. }) => continue,
                entries => entries.map_err(|error| journal_problem(group.run, &error))?,
            };
            if let Some(run) = fold_group(group.run, &entries)? {
                let members = run.plan.members.len();
                snapshots.attempted += members;
                snapshots.completed += if run.stage == Stage::Completed { members } else { 0 };
            }
        }
        Ok(snapshots)
    }
}
