//! Defines the Backup machine: the groups that a Backup requested, and their results.
//!
//! It has two records. `Accepted` freezes the groups before the first of them begins. A restarted daemon
//! therefore does not read labels again that may have changed. `Finished` records the result. All records
//! between the two are in the streams of the groups. Queue, hooks and data mover will be states between the
//! two.

use serde::{Deserialize, Serialize};

use crate::domain::ids::StreamId;
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::plan::BackupRef;
use crate::domain::problem::Code;
use crate::domain::time::Timestamp;

/// A group that the Backup requested and that was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedGroup {
    /// Namespace of its PVCs.
    pub namespace: String,
    /// Label value.
    pub group: String,
    pub run: StreamId,
}

/// A group that was refused before its run began, or that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedGroup {
    /// Namespace of its PVCs; empty if the Backup as a whole was refused.
    pub namespace: String,
    /// Label value; empty if the namespace as a whole was refused.
    pub group: String,
    pub code: Code,
    /// Reason, shortened.
    pub message: String,
}

/// The phases of a Backup in Velero that Stillpoint writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The spec is invalid, or requests a feature that this release does not support.
    FailedValidation,
    /// Its groups are running.
    InProgress,
    /// All groups completed.
    Completed,
    /// Some groups completed, some did not.
    PartiallyFailed,
    /// No group completed.
    Failed,
}

impl Phase {
    /// The value of `status.phase`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FailedValidation => "FailedValidation",
            Self::InProgress => "InProgress",
            Self::Completed => "Completed",
            Self::PartiallyFailed => "PartiallyFailed",
            Self::Failed => "Failed",
        }
    }
}

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
    Finished {
        phase: Phase,
        /// Groups that failed while they ran.
        failed: Vec<FailedGroup>,
        /// Warnings that arose while they ran.
        warnings: Vec<String>,
    },
}

/// State of a Backup: the fold of its stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupRun {
    pub backup: BackupRef,
    pub label_key: String,
    pub accepted_at: Timestamp,
    pub groups: Vec<AskedGroup>,
    /// Groups that were refused or failed.
    pub failed: Vec<FailedGroup>,
    pub warnings: Vec<String>,
    /// Final phase, and its time.
    pub finished: Option<(Phase, Timestamp)>,
}

/// A record that is not valid after the records before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEvent {
    /// The first record is not `Accepted`.
    #[error("a Backup begins with its end")]
    NotAccepted,
    /// The Backup was accepted before.
    #[error("the Backup was accepted twice")]
    AcceptedTwice,
    /// The Backup has already finished.
    #[error("the Backup has ended already")]
    Ended,
}

/// Folds one record; `None` is the empty stream.
pub fn fold(state: Option<BackupRun>, event: &Event, at: Timestamp) -> Result<BackupRun, IllegalEvent> {
    match (state, event) {
        (None, Event::Accepted { backup, label_key, groups, refused, warnings }) => Ok(BackupRun {
            backup: backup.clone(),
            label_key: label_key.clone(),
            accepted_at: at,
            groups: groups.clone(),
            failed: refused.clone(),
            warnings: warnings.clone(),
            finished: None,
        }),
        (None, Event::Finished { .. }) => Err(IllegalEvent::NotAccepted),
        (Some(_), Event::Accepted { .. }) => Err(IllegalEvent::AcceptedTwice),
        (Some(run), Event::Finished { .. }) if run.finished.is_some() => Err(IllegalEvent::Ended),
        (Some(mut run), Event::Finished { phase, failed, warnings }) => {
            run.failed.extend(failed.iter().cloned());
            run.warnings.extend(warnings.iter().cloned());
            run.finished = Some((*phase, at));
            Ok(run)
        }
    }
}

/// Result of one group: its warnings if it completed, else its failure.
pub type GroupEnd = Result<Vec<String>, FailedGroup>;

/// Results of the groups of a Backup so far, in the order of [`BackupRun::groups`]; `None` for a group that
/// is still running.
pub type Ends = Vec<Option<GroupEnd>>;

/// Returns the final record once every group has ended, else nothing.
pub fn decide(run: &BackupRun, ends: &Ends) -> Option<Event> {
    if run.finished.is_some() || ends.iter().any(Option::is_none) {
        return None;
    }
    let failed: Vec<FailedGroup> = ends.iter().flatten().filter_map(|end| end.clone().err()).collect();
    let done = ends.len() - failed.len();
    let phase = match (done, failed.len() + run.failed.len()) {
        (_, 0) => Phase::Completed,
        (0, _) => Phase::Failed,
        _ => Phase::PartiallyFailed,
    };
    let warnings = ends.iter().flatten().flatten().flatten().map(|warning| limits::clip(warning)).collect();
    let room = limits::MAX_WARNINGS.saturating_sub(run.warnings.len()).max(1);
    Some(Event::Finished { phase, failed, warnings: limits::at_most(warnings, room) })
}

impl BackupRun {
    /// The first reasons, the number of the others, and where the complete list is.
    pub fn failure_reason(&self) -> Option<String> {
        const SHOWN: usize = 2;
        let first: Vec<String> = self.failed.iter().take(SHOWN).map(FailedGroup::to_string).collect();
        let (first, more) = (first.join("; "), self.failed.len().saturating_sub(SHOWN));
        let shown = limits::clip(&first);
        let counted = if more > 0 { format!(" and {more} more") } else { String::new() };
        match self.failed.len() {
            0 => None,
            _ if more == 0 && shown == first => Some(shown),
            _ => Some(format!(
                "{shown}{counted}; in full: annotation {} of this Backup, and kubectl get groupsnapshots -A -l {}={}",
                labels::ERRORS,
                labels::BACKUP_UID,
                self.backup.uid
            )),
        }
    }
}

impl std::fmt::Display for FailedGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.group.as_str() {
            "" if self.namespace.is_empty() => write!(f, "{} {}", self.code, self.message),
            "" => write!(f, "{} namespace {}: {}", self.code, self.namespace, self.message),
            group => write!(f, "{} group {}/{group}: {}", self.code, self.namespace, self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(group: &str) -> FailedGroup {
        FailedGroup {
            namespace: "shop".to_owned(),
            group: group.to_owned(),
            code: Code::DriverFailed,
            message: "the driver failed".to_owned(),
        }
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
        fold(None, &event, Timestamp(1)).expect("the first record")
    }

    fn phase(run: &BackupRun, ends: Ends) -> Option<Phase> {
        decide(run, &ends).map(|event| match event {
            Event::Finished { phase, .. } => phase,
            Event::Accepted { .. } => unreachable!("decide only ends"),
        })
    }

    #[test]
    fn backup_ends_when_its_last_group_ends() {
        let good = || Some(Ok(Vec::new()));
        let bad = || Some(Err(failed("g")));
        assert_eq!(phase(&accepted(2, 0), vec![good(), None]), None);
        assert_eq!(phase(&accepted(2, 0), vec![good(), good()]), Some(Phase::Completed));
        assert_eq!(phase(&accepted(2, 0), vec![good(), bad()]), Some(Phase::PartiallyFailed));
        assert_eq!(phase(&accepted(1, 1), vec![good()]), Some(Phase::PartiallyFailed));
        assert_eq!(phase(&accepted(1, 0), vec![bad()]), Some(Phase::Failed));
        assert_eq!(phase(&accepted(0, 1), vec![]), Some(Phase::Failed));
        assert_eq!(phase(&accepted(0, 0), vec![]), Some(Phase::Completed));
    }

    #[test]
    fn records_warnings_of_groups_up_to_limit() {
        let ends = |groups: usize| vec![Some(Ok(vec!["45.0 s apart".to_owned()])); groups];
        let warnings = |groups: usize| match decide(&accepted(groups, 0), &ends(groups)) {
            Some(Event::Finished { warnings, .. }) => warnings,
            other => panic!("{other:?}"),
        };
        assert_eq!(warnings(2).len(), 2);
        let many = warnings(limits::MAX_WARNINGS + 4);
        assert_eq!(many.len(), limits::MAX_WARNINGS);
        assert!(many[limits::MAX_WARNINGS - 1].starts_with("and 5 more"), "{many:?}");
    }

    #[test]
    fn backup_neither_begins_nor_ends_twice() {
        let run = accepted(1, 0);
        let end = Event::Finished { phase: Phase::Completed, failed: Vec::new(), warnings: Vec::new() };
        assert_eq!(fold(None, &end, Timestamp(2)), Err(IllegalEvent::NotAccepted));
        let ended = fold(Some(run), &end, Timestamp(2)).expect("the first end");
        assert_eq!(fold(Some(ended.clone()), &end, Timestamp(3)), Err(IllegalEvent::Ended));
        assert_eq!(ended.finished, Some((Phase::Completed, Timestamp(2))));
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
