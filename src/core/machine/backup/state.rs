//! Defines plan and state of a Backup, and the ends of its groups.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::ids::StreamId;
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::plan::{BackupRef, Plan};
use crate::domain::problem::{Code, Problem};
use crate::domain::time::Timestamp;
use crate::machine::backup::{BackupRun, Formed, Stage};
use crate::machine::group::{self, GroupRun};

/// A group that the Backup requested and that was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedGroup {
    /// Namespace of its PVCs.
    pub namespace: String,
    /// Label value.
    pub group: String,
    pub run: StreamId,
}

impl From<&Plan> for AskedGroup {
    fn from(plan: &Plan) -> Self {
        Self { namespace: plan.namespace.clone(), group: plan.group.clone(), run: plan.run }
    }
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

impl FailedGroup {
    /// A refusal. The printed text begins with the group, the namespace, or nothing for the Backup as a whole,
    /// so an identical object is not named again in the message.
    pub fn of(namespace: &str, group: &str, problem: &Problem) -> Self {
        let about = problem.about.to_string();
        let named = match (namespace, group) {
            ("", "") => problem.about.kind == "Backup",
            (_, "") => about.eq_ignore_ascii_case(&format!("namespace {namespace}")),
            _ => about.eq_ignore_ascii_case(&format!("group {namespace}/{group}")),
        };
        let about = if named { String::new() } else { format!("{about}: ") };
        Self {
            namespace: namespace.to_owned(),
            group: group.to_owned(),
            code: problem.code,
            message: limits::clip(&format!("{about}{}; {}", problem.reason, problem.fix)),
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

    /// The end of a Backup, from the numbers of groups that completed and that did not.
    pub fn of_ends(completed: usize, failed: usize) -> Self {
        match (completed, failed) {
            (_, 0) => Self::Completed,
            (0, _) => Self::Failed,
            _ => Self::PartiallyFailed,
        }
    }
}

/// Everything that is settled before the groups are formed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupPlan {
    pub backup: BackupRef,
    /// Label key that groups the PVCs.
    pub label_key: String,
    /// The groups, if an earlier release recorded them with the acceptance of the Backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
}

/// The groups of a Backup as an earlier release recorded them: without their plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Accepted {
    pub groups: Vec<AskedGroup>,
    pub refused: Vec<FailedGroup>,
    pub warnings: Vec<String>,
}

/// The plan of one group. [`Formed`] closes the parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupPart {
    /// Position among the parts of one milestone. The first one discards parts that no milestone closed.
    pub part: u16,
    /// Position among the groups of the Backup.
    pub index: u16,
    #[serde(serialize_with = "crate::machine::kit::run::shared")]
    pub plan: Arc<Plan>,
}

/// How a group ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum GroupResult {
    Completed {
        warnings: Vec<String>,
    },
    Failed {
        code: Code,
        /// Reason, shortened.
        message: String,
    },
}

impl GroupResult {
    pub fn is_completed(&self) -> bool {
        matches!(self, Self::Completed { .. })
    }

    /// Whether storage of the group is not known to be freed.
    pub fn holds(&self) -> bool {
        matches!(self, Self::Completed { .. } | Self::Failed { code: Code::AbandonedRetained, .. })
    }

    /// The failure of this group; none if it completed.
    pub fn failure(&self, group: &AskedGroup) -> Option<FailedGroup> {
        match self {
            Self::Completed { .. } => None,
            Self::Failed { code, message } => Some(FailedGroup {
                namespace: group.namespace.clone(),
                group: group.group.clone(),
                code: *code,
                message: message.clone(),
            }),
        }
    }

    /// The group changed before its run had a plan in the journal. Nothing was done.
    pub fn never_planned() -> Self {
        Self::Failed {
            code: Code::PlanOutdated,
            message: "the group changed before its plan became durable; nothing was done".to_owned(),
        }
    }
}

/// The end of the run of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunEnd {
    /// Position among the groups of the Backup.
    pub index: u16,
    /// Number of records of the run; 0 if it never began.
    pub records: u64,
    /// Hash of its last record; zero if it never began.
    pub hash: [u8; 32],
    pub result: GroupResult,
}

/// The fields of a run that only the Backup machine has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BackupState {
    pub groups: Vec<AskedGroup>,
    /// Groups that were refused or failed.
    pub failed: Vec<FailedGroup>,
    pub warnings: Vec<String>,
    /// When the groups were fixed.
    pub accepted_at: Option<Timestamp>,
    /// Final phase, and its time.
    pub finished: Option<(Phase, Timestamp)>,
    /// Plans of groups whose runs have not begun, by position.
    #[serde(skip)]
    pub plans: Vec<Option<Arc<Plan>>>,
    /// Recorded ends, by position.
    #[serde(skip)]
    pub ends: Vec<Option<RunEnd>>,
    /// Parts that no milestone has closed.
    #[serde(skip)]
    pub parts: Vec<BackupPart>,
}

impl BackupState {
    pub fn new(accepted: Option<&Accepted>, at: Timestamp) -> Self {
        let Some(Accepted { groups, refused, warnings }) = accepted else { return Self::default() };
        Self {
            failed: refused.clone(),
            warnings: warnings.clone(),
            accepted_at: Some(at),
            plans: vec![None; groups.len()],
            ends: vec![None; groups.len()],
            groups: groups.clone(),
            ..Self::default()
        }
    }

    /// Numbers of groups that completed, and that failed or were refused.
    pub fn counts(&self) -> (usize, usize) {
        let ended = self.ends.iter().flatten();
        let completed = ended.clone().filter(|end| end.result.is_completed()).count();
        (completed, ended.count() - completed + self.failed.len())
    }

    /// Groups that were refused before any run began.
    pub fn refused(&self) -> &[FailedGroup] {
        let ended = self.ends.iter().flatten().filter(|end| !end.result.is_completed()).count();
        let failed = if self.finished.is_some() { ended } else { 0 };
        &self.failed[..self.failed.len().saturating_sub(failed)]
    }

    /// Records the end, with the failures and warnings of the groups in their order.
    pub fn finish(&mut self, phase: Phase, at: Timestamp) {
        let mut said = Vec::new();
        for (group, end) in self.groups.iter().zip(&self.ends) {
            let Some(RunEnd { result, .. }) = end else { continue };
            if let GroupResult::Completed { warnings } = result {
                said.extend(warnings.iter().map(|warning| limits::clip(warning)));
            }
            self.failed.extend(result.failure(group));
        }
        let room = limits::MAX_WARNINGS.saturating_sub(self.warnings.len()).max(1);
        self.warnings.extend(limits::at_most(said, room));
        self.finished = Some((phase, at));
    }
}

/// Closes the groups that were formed: their plans as parts, and the evidence. Both have the order of `plans`.
pub fn fixed(
    plans: &[Arc<Plan>],
    refused: Vec<FailedGroup>,
    warnings: Vec<String>,
) -> (Vec<BackupPart>, Formed) {
    let part = |(index, plan): (usize, &Arc<Plan>)| {
        let index = position(index);
        BackupPart { part: index, index, plan: plan.clone() }
    };
    let parts: Vec<BackupPart> = plans.iter().enumerate().map(part).collect();
    let formed = Formed { groups: position(parts.len()), hash: hash(&parts), refused, warnings };
    (parts, formed)
}

/// Hash of parts, as stored in the record that closes them.
pub fn hash(parts: &[BackupPart]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        let line = serde_json::to_vec(part).expect("a plan has only strings, numbers and maps of strings");
        hasher.update(&(line.len() as u64).to_be_bytes());
        hasher.update(&line);
    }
    *hasher.finalize().as_bytes()
}

fn position(index: usize) -> u16 {
    u16::try_from(index).expect("a Backup has at most 256 groups")
}

/// The end of a group, from its run.
pub fn end_of(run: &GroupRun) -> GroupResult {
    if run.stage == group::Stage::Completed {
        return GroupResult::Completed { warnings: warnings(run) };
    }
    match &run.reason {
        Some(reason) => GroupResult::Failed { code: reason.code, message: limits::clip(&reason.message) },
        None => GroupResult::Failed {
            code: Code::Internal,
            message: "the run failed without a recorded reason".to_owned(),
        },
    }
}

/// Warnings about a completed group.
fn warnings(run: &GroupRun) -> Vec<String> {
    let grade = run.atomicity().filter(|grade| !grade.is_atomic());
    let group = format!("group {}/{}", run.plan.namespace, run.plan.group);
    let grade = grade.map(|grade| format!("{group}: {}", grade.message(run.plan.atomicity.max_skew)));
    let went = run.state.space_went.then(|| {
        format!(
            "{group}: its namespace was deleted, and the VolumeSnapshots go with it; the storage is kept: the \
             VolumeSnapshotContents with the label {}={} retain it and have its handles",
            labels::RUN,
            run.plan.run
        )
    });
    grade.into_iter().chain(went).collect()
}

impl BackupRun {
    /// When the groups were fixed; before that, when the Backup was taken.
    pub fn accepted_at(&self) -> Timestamp {
        self.state.accepted_at.unwrap_or(self.attempt_at)
    }

    /// Whether storage of one of its groups is not known to be freed.
    pub fn holds(&self) -> bool {
        self.state.ends.iter().flatten().any(|end| end.result.holds())
    }

    /// Whether the groups are fixed.
    pub fn is_formed(&self) -> bool {
        self.stage != Stage::New
    }

    /// The first reasons, the number of the others, and where the complete list is.
    pub fn failure_reason(&self) -> Option<String> {
        const SHOWN: usize = 2;
        let failed = &self.state.failed;
        let first: Vec<String> = failed.iter().take(SHOWN).map(FailedGroup::to_string).collect();
        let (first, more) = (first.join("; "), failed.len().saturating_sub(SHOWN));
        let shown = limits::clip(&first);
        let counted = if more > 0 { format!(" and {more} more") } else { String::new() };
        match failed.len() {
            0 => None,
            _ if more == 0 && shown == first => Some(shown),
            _ => Some(format!(
                "{shown}{counted}; in full: annotation {} of this Backup, and kubectl get groupsnapshots -A -l {}={}",
                labels::ERRORS,
                labels::BACKUP_UID,
                self.plan.backup.uid
            )),
        }
    }
}
