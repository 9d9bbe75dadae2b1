//! Defines the state of a group run: the fold of its journal.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::domain::atomicity::Grade;
use crate::domain::ids::Uid;
use crate::domain::limits;
use crate::domain::names;
use crate::domain::observed::{Scope, ScopeMember};
use crate::domain::plan::Plan;
#[cfg(feature = "planted")]
use crate::domain::planted;
use crate::domain::problem::Code;
use crate::domain::receipt::{Receipt, ReceiptMember};
use crate::domain::time::Timestamp;
use crate::machine::group::effect::EffectRef;
use crate::machine::group::event::{Milestone, OperatorRequest, Reason, Step};

/// Stage of a run: the last state that was recorded durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Stage {
    /// The journal has no proof that this attempt created an object.
    Planned,
    /// The VolumeGroupSnapshot of the run exists.
    Created,
    /// The group is cut, bound and ready. The receipt is complete.
    VSBound,
    /// Members have labels and receipt.
    Relabelled,
    /// All policies are Retain. Last stage from which a rollback is possible.
    Retained,
    /// The pivot has passed. The run only goes forward.
    Releasing,
    /// The group objects are deleted. The members remain.
    Cleaned,
    /// The members are handed over.
    Completed,
    /// A rollback is running.
    Unwinding,
    /// Abandoned by an operator after the pivot, or with a request to keep the storage. Nothing more is
    /// deleted. The run verifies that the storage is retained.
    Abandoned,
    /// Rolled back, or abandoned with its storage retained.
    Failed,
}

impl Stage {
    pub const ALL: &'static [Stage] = &[
        Stage::Planned,
        Stage::Created,
        Stage::VSBound,
        Stage::Relabelled,
        Stage::Retained,
        Stage::Releasing,
        Stage::Cleaned,
        Stage::Completed,
        Stage::Unwinding,
        Stage::Abandoned,
        Stage::Failed,
    ];

    /// Whether the run is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// The journal's knowledge about the create of this attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum CreateFate {
    /// Never intended.
    Untried,
    /// Intended, and not certainly refused.
    Unknown,
    /// Refused permanently.
    Refused,
    /// The create was applied: the content of its group exists. The uid is unknown.
    Happened,
}

/// A rollback's knowledge about the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StorageFate {
    /// No delete is known to have freed the storage.
    #[default]
    Unknown,
    /// A delete that frees it is intended.
    Intended,
    /// That delete was applied to an existing object, and a finalizer blocked the deletion.
    Settled,
}

/// Attempts of the current step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RetryState {
    pub step: Option<Step>,
    /// Consecutive intents.
    pub intents: u32,
    /// Consecutive intents with an effect that was not certainly applied.
    pub failures: u32,
    /// When the last attempt ended.
    pub last: Option<Timestamp>,
    /// Message of the last failure.
    pub error: Option<String>,
    /// Consecutive failures that the API server certainly refused, except with 429. Computed from the records
    /// like all other fields; not serialized, because the golden states are older.
    #[serde(skip)]
    pub refused: u32,
    /// Number of these intents whose answers were lost.
    #[serde(skip)]
    pub lost: u32,
    /// Time of the first of the consecutive failures.
    #[serde(skip)]
    pub failing_since: Option<Timestamp>,
    /// Effect that failed last, with message `error`.
    #[serde(skip)]
    pub failed: Option<EffectRef>,
}

impl RetryState {
    /// Whether these attempts count for a step: the same step, or the other step of an import.
    ///
    /// SUBTLE: an import and its deletion revert each other.
    /// 1. The deletion is applied, and its answer is lost.
    /// 2. The fate of the storage is as doubtful as before, and the storage is imported again.
    /// 3. The import is deleted again, and so on.
    ///
    /// Neither step follows itself. With separate counters each began with no attempts, and the run repeated
    /// both for ever, without a pause.
    pub fn are_of(&self, step: Step) -> bool {
        let of_import = |step: Step| matches!(step, Step::UndoImport | Step::UndoFreeImport);
        self.step.is_some_and(|before| before == step || of_import(before) && of_import(step))
    }
}

/// A reached milestone, for the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    pub milestone: Milestone,
    pub at: Timestamp,
    pub attempt: u32,
}

/// The last operator request, and the state in which it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answered {
    pub asked: OperatorRequest,
    /// When it was applied.
    pub at: Timestamp,
    /// State name before the request, as published to users.
    pub was: &'static str,
}

/// State of one group run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupRun {
    /// The plan. Shared, because the state is copied with every record.
    #[serde(serialize_with = "shared")]
    pub plan: Arc<Plan>,
    /// Attempt, from 1.
    pub attempt: u32,
    /// When this attempt began.
    pub attempt_at: Timestamp,
    pub stage: Stage,
    /// Create of this attempt.
    pub create: CreateFate,
    /// Number of creates intended in this attempt.
    #[cfg(feature = "planted")]
    #[serde(skip)]
    pub creates: u32,
    /// Uid of the VolumeGroupSnapshot of this attempt, once a create was answered or the group was observed.
    pub group_uid: Option<Uid>,
    /// Group handle and time of the cut, once recorded.
    pub cut: Option<(String, Timestamp)>,
    /// Parts of a receipt whose final record is missing.
    pub parts: Vec<ReceiptMember>,
    /// The receipt. Shared, because it can be long.
    #[serde(serialize_with = "shared_option")]
    pub receipt: Option<Arc<Receipt>>,
    /// Reason why the run is being rolled back, failed or is stuck.
    pub reason: Option<Reason>,
    /// Reason why the run was abandoned, while another reason blocks its end.
    #[serde(skip)]
    pub given_up: Option<Reason>,
    /// Row that made the run stuck, if it is stuck.
    pub stuck: Option<String>,
    /// Step with an intent and without outcomes.
    pub open_intent: Option<Step>,
    /// Effects of the last intent.
    #[serde(skip)]
    pub marks: Arc<[EffectRef]>,
    /// Time of the last record.
    #[serde(skip)]
    pub changed_at: Timestamp,
    /// Attempts of the current step.
    pub tries: RetryState,
    /// Time since which no object was left to delete: start of the wait for a late content.
    pub undone_at: Timestamp,
    /// The rollback's knowledge about the storage.
    #[serde(skip)]
    pub freed: StorageFate,
    /// Whether the controller itself deleted the VolumeGroupSnapshotContent with the group. The controller
    /// then knows of the deletion and creates no content later.
    #[serde(skip)]
    pub taken_along: bool,
    /// Whether the namespace was being deleted, or was gone, when the run had released its members. They are
    /// deleted with it.
    #[serde(skip)]
    pub space_went: bool,
    /// Last time that the release wrote to the group or its members. Since then controllers can know of it.
    #[serde(skip)]
    pub released_at: Timestamp,
    /// Milestones so far.
    pub timeline: Vec<TimelineEntry>,
    /// The last operator request, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
}

fn shared<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
    (**value).serialize(serializer)
}

fn shared_option<T: Serialize, S: Serializer>(
    value: &Option<Arc<T>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_deref().serialize(serializer)
}

impl GroupRun {
    /// State after the first record.
    pub fn new(plan: impl Into<Arc<Plan>>, at: Timestamp) -> Self {
        Self {
            plan: plan.into(),
            attempt: 1,
            attempt_at: at,
            stage: Stage::Planned,
            create: CreateFate::Untried,
            #[cfg(feature = "planted")]
            creates: 0,
            group_uid: None,
            cut: None,
            parts: Vec::new(),
            receipt: None,
            reason: None,
            given_up: None,
            stuck: None,
            open_intent: None,
            marks: Arc::default(),
            changed_at: at,
            tries: RetryState::default(),
            undone_at: at,
            freed: StorageFate::default(),
            taken_along: false,
            space_went: false,
            released_at: at,
            timeline: Vec::new(),
            answered: None,
        }
    }

    /// Name of the VolumeGroupSnapshot of this attempt.
    pub fn group_name(&self) -> String {
        #[cfg(feature = "planted")]
        if planted::is("generated-names") {
            return self.generated_name();
        }
        self.plan.group_snapshot_name(self.attempt)
    }

    /// A new name for each create, known only after the create was answered.
    #[cfg(feature = "planted")]
    fn generated_name(&self) -> String {
        let answered = u32::from(self.group_uid.is_some());
        format!("{}-{}", self.plan.group_snapshot_name(self.attempt), self.creates.saturating_sub(answered))
    }

    /// Whether another attempt follows a complete rollback.
    pub fn retries(&self) -> bool {
        let limit = self.plan.max_attempts.min(limits::MAX_ATTEMPTS);
        self.reason.as_ref().is_some_and(|reason| reason.transient) && self.attempt < limit
    }

    /// Grade of the cut, once the receipt is complete.
    pub fn atomicity(&self) -> Option<Grade> {
        self.receipt.as_deref().map(|receipt| Grade::of(receipt, self.plan.atomicity.max_skew))
    }

    /// Whether the run failed or will fail with its storage retained, so that only the receipt names the
    /// storage.
    pub fn keeps_storage(&self) -> bool {
        let retained = || self.reason.as_ref().is_some_and(|reason| reason.code == Code::AbandonedRetained);
        self.stage == Stage::Abandoned || (self.stage == Stage::Failed && retained())
    }

    /// State name published to users: one of the five states, or one of the states around them.
    pub fn state_name(&self) -> &'static str {
        match self.stage {
            _ if self.stuck.is_some() => "Stuck",
            Stage::Planned => "Planned",
            Stage::Created => "Created",
            Stage::VSBound => "VSBound",
            Stage::Relabelled => "Relabelled",
            Stage::Retained | Stage::Releasing => "Retained",
            Stage::Cleaned => "Cleaned",
            Stage::Completed => "Completed",
            Stage::Unwinding => "Unwinding",
            Stage::Abandoned => "Abandoned",
            Stage::Failed => "Failed",
        }
    }

    /// Names and handles of the objects to read from the cluster.
    pub fn scope(&self) -> Scope {
        self.scope_of(|index| names::rebuilt_member(self.plan.run, &self.plan.members[index].volume_handle))
    }

    /// Same as [`GroupRun::scope`], but reuses the names of rebuilt members from an earlier scope of this
    /// run. The names are hashes, which take time to compute and never change.
    pub fn scope_after(&self, before: &Scope) -> Scope {
        self.scope_of(|index| before.members[index].rebuilt.clone())
    }

    fn scope_of(&self, rebuilt: impl Fn(usize) -> String) -> Scope {
        let recorded = |index: usize| self.receipt.as_ref().map(|receipt| &receipt.members[index]);
        let run = self.plan.run;
        Scope {
            run: run.to_string(),
            backup: self.plan.backup.uid.clone(),
            namespace: self.plan.namespace.clone(),
            group_name: self.group_name(),
            group_uid: self.group_uid.clone(),
            group_content: self.receipt.as_ref().map(|receipt| receipt.group_content.name.clone()),
            stub: names::stub_content(run),
            import: matches!(self.stage, Stage::Unwinding | Stage::Abandoned)
                .then(|| names::import_content(run)),
            handles: self
                .receipt
                .iter()
                .filter(|_| self.stage == Stage::Unwinding)
                .flat_map(|receipt| receipt.handles())
                .collect(),
            group_class: self.plan.group_class.clone(),
            snapshot_class: self.plan.snapshot_class.clone(),
            labelled: matches!(
                self.stage,
                Stage::Retained | Stage::Releasing | Stage::Cleaned | Stage::Abandoned
            ),
            members: self
                .plan
                .members
                .iter()
                .enumerate()
                .map(|(index, member)| ScopeMember {
                    claim: member.claim.clone(),
                    volume_handle: member.volume_handle.clone(),
                    snapshot: recorded(index).map(|r| r.snapshot.name.clone()),
                    snapshot_uid: recorded(index).map(|r| r.snapshot.uid.clone()),
                    content: recorded(index).map(|r| r.content.name.clone()),
                    rebuilt: rebuilt(index),
                })
                .collect(),
        }
    }
}
