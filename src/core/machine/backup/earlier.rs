//! The two records of a Backup in releases in which it was no machine: `Accepted` with the groups, `Finished` with
//! the end.
//!
//! They are read for ever, and never written. An accepted Backup folds to InProgress: runs that exist are its
//! children, and groups without a run are formed once more.

use serde::{Deserialize, Serialize};

use crate::domain::plan::BackupRef;
use crate::machine::backup::state::Accepted;
use crate::machine::backup::{
    self, AskedGroup, BackupPlan, BackupRun, BackupState, FailedGroup, GroupResult, Phase, RunEnd,
};

/// One record of a Backup stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The groups are fixed.
    Accepted {
        backup: BackupRef,
        /// Label key that groups the PVCs.
        label_key: String,
        /// Groups that will run, in order.
        groups: Vec<AskedGroup>,
        /// Groups that were refused.
        refused: Vec<FailedGroup>,
        /// Warnings for the operator.
        warnings: Vec<String>,
    },
    /// All groups ended.
    Finished(Finished),
}

/// The end of a Backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub phase: Phase,
    /// Groups that failed while they ran.
    pub failed: Vec<FailedGroup>,
    /// Warnings that arose while they ran.
    pub warnings: Vec<String>,
}

impl From<Event> for backup::Event {
    fn from(event: Event) -> Self {
        match event {
            Event::Accepted { backup, label_key, groups, refused, warnings } => {
                let accepted = Some(Accepted { groups, refused, warnings });
                Self::Planned(Box::new(BackupPlan { backup, label_key, accepted }))
            }
            Event::Finished(finished) => Self::Reconstructed(Box::new(finished)),
        }
    }
}

/// The end that a Backup has by these results of its groups, in their order.
pub fn end(run: &BackupRun, results: Vec<GroupResult>) -> Finished {
    let ends = results.into_iter().enumerate().map(|(index, result)| {
        let index = u16::try_from(index).expect("a Backup has at most 256 groups");
        Some(RunEnd { index, records: 0, hash: [0; 32], result })
    });
    let mut state = BackupState { ends: ends.collect(), ..run.state.clone() };
    let (completed, failed) = state.counts();
    let phase = Phase::of_ends(completed, failed);
    state.finish(phase, run.changed_at);
    Finished {
        phase,
        failed: state.failed.split_off(run.state.failed.len()),
        warnings: state.warnings.split_off(run.state.warnings.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::StreamId;
    use crate::domain::limits;
    use crate::domain::problem::Code;
    use crate::domain::time::Timestamp;
    use crate::machine::backup::{Stage, Timed};
    use crate::machine::kit::{self, IllegalEvent};

    fn failed(group: &str) -> FailedGroup {
        FailedGroup {
            namespace: "shop".to_owned(),
            group: group.to_owned(),
            code: Code::DriverFailed,
            message: "the driver failed".to_owned(),
        }
    }

    fn timed(event: Event) -> Timed {
        Timed { at: Timestamp(1), event: event.into() }
    }

    fn accepted(groups: usize, refused: usize) -> BackupRun {
        let backup =
            BackupRef { namespace: "stillpoint".to_owned(), name: "nightly".to_owned(), uid: "u".into() };
        let group = |i: usize| AskedGroup {
            namespace: "shop".to_owned(),
            group: format!("g{i}"),
            run: StreamId::of_backup(&i.to_string()),
        };
        let event = Event::Accepted {
            backup,
            label_key: "key".to_owned(),
            groups: (0..groups).map(group).collect(),
            refused: (0..refused).map(|i| failed(&format!("r{i}"))).collect(),
            warnings: Vec::new(),
        };
        kit::fold(None, &timed(event)).expect("the first record")
    }

    fn good() -> GroupResult {
        GroupResult::Completed { warnings: vec!["45.0 s apart".to_owned()] }
    }

    fn bad() -> GroupResult {
        GroupResult::Failed { code: Code::DriverFailed, message: "the driver failed".to_owned() }
    }

    #[test]
    fn phase_follows_from_the_groups() {
        let phase = |run: &BackupRun, results| end(run, results).phase;
        assert_eq!(phase(&accepted(2, 0), vec![good(), good()]), Phase::Completed);
        assert_eq!(phase(&accepted(2, 0), vec![good(), bad()]), Phase::PartiallyFailed);
        assert_eq!(phase(&accepted(1, 1), vec![good()]), Phase::PartiallyFailed);
        assert_eq!(phase(&accepted(1, 0), vec![bad()]), Phase::Failed);
        assert_eq!(phase(&accepted(0, 1), vec![]), Phase::Failed);
        assert_eq!(phase(&accepted(0, 0), vec![]), Phase::Completed);
        assert_eq!(end(&accepted(2, 0), vec![good(), bad()]).failed, [failed("g1")]);
    }

    #[test]
    fn records_warnings_of_groups_up_to_limit() {
        let warnings = |groups: usize| end(&accepted(groups, 0), vec![good(); groups]).warnings;
        assert_eq!(warnings(2).len(), 2);
        let many = warnings(limits::MAX_WARNINGS + 4);
        assert_eq!(many.len(), limits::MAX_WARNINGS);
        assert!(many[limits::MAX_WARNINGS - 1].starts_with("and 5 more"), "{many:?}");
    }

    #[test]
    fn accepted_backup_is_in_progress_and_ends_once() {
        let run = accepted(1, 0);
        assert_eq!(run.stage, Stage::InProgress);
        let finished = Finished { phase: Phase::Completed, failed: Vec::new(), warnings: Vec::new() };
        let finished = timed(Event::Finished(finished));
        assert!(matches!(kit::fold(None, &finished), Err(IllegalEvent::NotPlanned(_))));
        let ended = kit::fold(Some(run), &finished).expect("the first end");
        assert_eq!(ended.state.finished, Some((Phase::Completed, Timestamp(1))));
        assert!(matches!(kit::fold(Some(ended), &finished), Err(IllegalEvent::OutOfPlace { .. })));
    }

    #[test]
    fn reason_names_first_group_and_counts_the_rest() {
        assert_eq!(accepted(1, 0).failure_reason(), None);
        let reason = accepted(0, 5).failure_reason().expect("five reasons");
        assert!(
            reason.contains("shop/r0")
                && reason.contains("and 3 more; in full: annotation stillpoint.dev/errors"),
            "{reason}"
        );
        assert!(reason.ends_with("-l velero.io/backup-uid=u"), "{reason}");
    }
}
