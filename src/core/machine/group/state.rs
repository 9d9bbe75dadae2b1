//! What the journal of a group run folds to.

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

/// Where a run stands: the last thing that is durably true of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Stage {
    /// Nothing has been created in this attempt, as far as the journal knows.
    Planned,
    /// Our VolumeGroupSnapshot exists.
    Created,
    /// Cut, bound, ready; the receipt is complete.
    VSBound,
    /// Members carry labels and receipt.
    Relabelled,
    /// All policies are Retain. Last stage that can be undone.
    Retained,
    /// The pivot is passed: only forward.
    Releasing,
    /// The group objects are gone, the members stay.
    Cleaned,
    /// Handed over.
    Completed,
    /// Being undone.
    Unwinding,
    /// Given up by a person after the pivot: nothing is deleted any more, and the storage is seen to be retained.
    Abandoned,
    /// Undone, or abandoned with its storage retained.
    Failed,
}

impl Stage {
    /// All stages.
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

/// What the journal knows about the create of this attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum CreateFate {
    /// Never intended.
    Untried,
    /// Intended, and not certainly refused.
    Unknown,
    /// Refused for good.
    Refused,
    /// It happened, as the content of its group says; the uid is not known.
    Happened,
}

/// What an undo knows about the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StorageFate {
    /// Nothing that would free it, or what would is undone.
    #[default]
    Unknown,
    /// A delete that frees it is intended.
    Intended,
    /// That delete met what it was meant for, and a finalizer held it.
    Settled,
}

/// Tries of the present step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RetryState {
    /// Which step.
    pub step: Option<Step>,
    /// Intents in a row.
    pub intents: u32,
    /// Of them, those with an effect that did not certainly happen.
    pub failures: u32,
    /// When the last one ended.
    pub last: Option<Timestamp>,
    /// What the last failure said.
    pub error: Option<String>,
    /// Failures in a row of which the API server said that they did not happen, and not that it is busy. Computed from
    /// the records like all else; not shown in golden states, which are older.
    #[serde(skip)]
    pub refused: u32,
    /// Intents of which nothing is known but that their answers were lost.
    #[serde(skip)]
    pub lost: u32,
    /// Since when it has failed in a row.
    #[serde(skip)]
    pub failing_since: Option<Timestamp>,
    /// Which effect failed last: that of `error`.
    #[serde(skip)]
    pub failed: Option<EffectRef>,
}

impl RetryState {
    /// Whether a step goes on with these tries: the same one, or the other half of an import.
    ///
    /// SUBTLE: an import and its release undo each other. 1. The release happens, and its answer is lost; 2. the storage is
    /// as doubtful as before, and is imported again; 3. released again, and so on. Neither step follows itself, so that each
    /// began with fresh tries, and the run went round and round without a pause.
    pub fn are_of(&self, step: Step) -> bool {
        let of_import = |step: Step| matches!(step, Step::UndoImport | Step::UndoFreeImport);
        self.step.is_some_and(|before| before == step || of_import(before) && of_import(step))
    }
}

/// A finished milestone and its time, for the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    /// Milestone.
    pub milestone: Milestone,
    /// Time.
    pub at: Timestamp,
    /// Attempt.
    pub attempt: u32,
}

/// The last request of a person, and what it met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// What was asked.
    pub asked: OperatorRequest,
    /// When it was taken.
    pub at: Timestamp,
    /// The state that it met, as people see it.
    pub was: &'static str,
}

/// State of one group run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupRun {
    /// The plan. Shared: the state is copied with every record, and a receipt can be long.
    #[serde(serialize_with = "shared")]
    pub plan: Arc<Plan>,
    /// Attempt, from 1.
    pub attempt: u32,
    /// When this attempt began.
    pub attempt_at: Timestamp,
    /// Where the run stands.
    pub stage: Stage,
    /// Create of this attempt.
    pub create: CreateFate,
    /// Creates that were intended in this attempt.
    #[cfg(feature = "planted")]
    #[serde(skip)]
    pub creates: u32,
    /// Uid of the VolumeGroupSnapshot of this attempt, once a create was answered or the group was seen.
    pub group_uid: Option<Uid>,
    /// Group handle and time, once the cut is recorded.
    pub cut: Option<(String, Timestamp)>,
    /// Parts of the receipt that are not closed yet.
    pub parts: Vec<ReceiptMember>,
    /// The receipt.
    #[serde(serialize_with = "shared_option")]
    pub receipt: Option<Arc<Receipt>>,
    /// Why the run is being undone, failed or is stuck.
    pub reason: Option<Reason>,
    /// Why the run was given up, while something else is in the way of its end.
    #[serde(skip)]
    pub given_up: Option<Reason>,
    /// Row of the present Stuck, if the run is stuck.
    pub stuck: Option<String>,
    /// Step with an intent and without outcomes.
    pub open_intent: Option<Step>,
    /// The effects of the last intent.
    #[serde(skip)]
    pub marks: Arc<[EffectRef]>,
    /// Time of the last record: since then the run does what it does now.
    #[serde(skip)]
    pub changed_at: Timestamp,
    /// Tries of the present step.
    pub tries: RetryState,
    /// Since when nothing was left to be deleted: start of the look for a late content.
    pub undone_at: Timestamp,
    /// What the undo knows about the storage.
    #[serde(skip)]
    pub freed: StorageFate,
    /// Whether the controller itself took the VolumeGroupSnapshotContent along with the group that was deleted: it knows of
    /// that then, and makes none late.
    #[serde(skip)]
    pub taken_along: bool,
    /// Whether the namespace was going, or gone, when the run had released its members: they go with it.
    #[serde(skip)]
    pub space_went: bool,
    /// When the release last touched the group or its members: since then controllers can have heard of it.
    #[serde(skip)]
    pub released_at: Timestamp,
    /// Milestones so far.
    pub timeline: Vec<TimelineEntry>,
    /// The last request of a person, once one was taken.
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
    /// The state after the first record.
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

    /// A name that is made anew for each create, and known only once that is answered.
    #[cfg(feature = "planted")]
    fn generated_name(&self) -> String {
        let answered = u32::from(self.group_uid.is_some());
        format!("{}-{}", self.plan.group_snapshot_name(self.attempt), self.creates.saturating_sub(answered))
    }

    /// Whether a failure, once undone, is followed by another attempt.
    pub fn retries(&self) -> bool {
        let limit = self.plan.max_attempts.min(limits::MAX_ATTEMPTS);
        self.reason.as_ref().is_some_and(|reason| reason.transient) && self.attempt < limit
    }

    /// How far apart its members were cut, once the receipt is complete.
    pub fn atomicity(&self) -> Option<Grade> {
        self.receipt.as_deref().map(|receipt| Grade::of(receipt, self.plan.atomicity.max_skew))
    }

    /// Whether the run failed, or is going to, with its storage retained and owned by the receipt alone.
    pub fn keeps_storage(&self) -> bool {
        let retained = || self.reason.as_ref().is_some_and(|reason| reason.code == Code::AbandonedRetained);
        self.stage == Stage::Abandoned || (self.stage == Stage::Failed && retained())
    }

    /// The name that people see: one of the five states, or what surrounds them.
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

    /// What to look for in the cluster.
    pub fn scope(&self) -> Scope {
        self.scope_of(|index| names::rebuilt_member(self.plan.run, &self.plan.members[index].volume_handle))
    }

    /// The same, after an earlier one of this run: names of rebuilt members are hashes, which take time and never
    /// change.
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
