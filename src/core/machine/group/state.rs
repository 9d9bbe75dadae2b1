//! Defines the state of a group run: the fold of its journal.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::domain::atomicity::Grade;
use crate::domain::ids::Uid;
use crate::domain::limits;
use crate::domain::names;
use crate::domain::observed::{Scope, ScopeMember};
use crate::domain::problem::Code;
use crate::domain::receipt::{Receipt, ReceiptMember};
use crate::domain::time::Timestamp;
use crate::machine::group::GroupMachine;
use crate::machine::kit::{self, Reason, Run};

/// Stage of a run: the last state that was recorded durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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

impl kit::Stage for Stage {
    const ALL: &'static [Stage] = &[
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

    fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }

    fn is_behind_the_pivot(self) -> bool {
        matches!(self, Self::Releasing | Self::Abandoned)
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

/// State of one group run.
pub type GroupRun = Run<GroupMachine>;

/// The fields of a run that only a group has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupState {
    /// Create of this attempt.
    pub create: CreateFate,
    /// Uid of the VolumeGroupSnapshot of this attempt, once a create was answered or the group was observed.
    pub group_uid: Option<Uid>,
    /// Group handle and time of the cut, once recorded.
    pub cut: Option<(String, Timestamp)>,
    /// Parts of a receipt whose final record is missing.
    pub parts: Vec<ReceiptMember>,
    /// The receipt. Shared, because it can be long.
    #[serde(serialize_with = "shared_option")]
    pub receipt: Option<Arc<Receipt>>,
    /// Reason why the run was abandoned, while another reason blocks its end.
    #[serde(skip)]
    pub given_up: Option<Reason>,
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
}

impl GroupState {
    /// State of an attempt that begins at `at`.
    pub fn new(at: Timestamp) -> Self {
        Self {
            create: CreateFate::Untried,
            group_uid: None,
            cut: None,
            parts: Vec::new(),
            receipt: None,
            given_up: None,
            undone_at: at,
            freed: StorageFate::default(),
            taken_along: false,
            space_went: false,
            released_at: at,
        }
    }
}

fn shared_option<T: Serialize, S: Serializer>(
    value: &Option<Arc<T>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_deref().serialize(serializer)
}

impl GroupRun {
    /// Name of the VolumeGroupSnapshot of this attempt.
    pub fn group_name(&self) -> String {
        self.plan.group_snapshot_name(self.attempt)
    }

    /// Whether another attempt follows a complete rollback.
    pub fn retries(&self) -> bool {
        let limit = self.plan.max_attempts.min(limits::MAX_ATTEMPTS);
        self.reason.as_ref().is_some_and(|reason| reason.transient) && self.attempt < limit
    }

    /// Grade of the cut, once the receipt is complete.
    pub fn atomicity(&self) -> Option<Grade> {
        self.state.receipt.as_deref().map(|receipt| Grade::of(receipt, self.plan.atomicity.max_skew))
    }

    /// Whether the run failed or will fail with its storage retained, so that only the receipt names the
    /// storage.
    pub fn keeps_storage(&self) -> bool {
        let retained = || self.reason.as_ref().is_some_and(|reason| reason.code == Code::AbandonedRetained);
        self.stage == Stage::Abandoned || (self.stage == Stage::Failed && retained())
    }

    /// Whether the run has ended, and storage that it cut is not known to be freed.
    pub fn holds(&self) -> bool {
        self.stage == Stage::Completed || (self.stage == Stage::Failed && self.keeps_storage())
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
        let recorded = |index: usize| self.state.receipt.as_ref().map(|receipt| &receipt.members[index]);
        let run = self.plan.run;
        Scope {
            run: run.to_string(),
            backup: self.plan.backup.uid.clone(),
            namespace: self.plan.namespace.clone(),
            group_name: self.group_name(),
            group_uid: self.state.group_uid.clone(),
            group_content: self.state.receipt.as_ref().map(|receipt| receipt.group_content.name.clone()),
            stub: names::stub_content(run),
            import: matches!(self.stage, Stage::Unwinding | Stage::Abandoned)
                .then(|| names::import_content(run)),
            handles: self
                .state
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
