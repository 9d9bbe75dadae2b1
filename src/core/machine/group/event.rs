//! Defines the records of a group run: its steps, its milestones with their evidence, and its receipt.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::ids::{ObjectId, Uid};
use crate::domain::receipt::{Provenance, ReceiptMember, SecretRef};
use crate::machine::group::GroupMachine;
use crate::machine::kit::{self, Phase, Reason};
use crate::named;

named! {
    /// The steps that have effects. Each is idempotent: when repeated, it reads the objects first and writes
    /// only missing values.
    Step {
        /// Create the VolumeGroupSnapshot.
        Create = "create",
        /// Take the VolumeGroupSnapshot over from an older epoch.
        Claim = "claim",
        /// Write labels and receipt into the members.
        Relabel = "relabel",
        /// Set all policies to Retain, with receipt and run label.
        Retain = "retain",
        /// Release 1: clear the group name in the status of the members. Its intent is the pivot.
        ClearNames = "clear-names",
        /// Release 2: remove owner references and finalizers, set the class.
        Detach = "detach",
        /// Release 5: delete the VolumeGroupSnapshot.
        DeleteGroup = "delete-group",
        /// Release 5: rebuild lost members from their handles.
        Rebuild = "rebuild",
        /// Create a stub content with the group handle while members are rebuilt after the content is gone.
        MakeStub = "make-stub",
        /// Delete the stub content.
        DropStub = "drop-stub",
        /// Release 6: delete the VolumeGroupSnapshotContent.
        DeleteContent = "delete-content",
        /// Release 6: set the annotation that lets the sidecar finish a deletion that another client began.
        MarkContent = "mark-content",
        /// Release 7: restore the group name.
        RestoreNames = "restore-names",
        /// Release 8: delete the contents that rebuilt members have replaced. Their policy is Retain.
        DropReplaced = "drop-replaced",
        /// Rollback: repeat a create with unknown result, so that a known object exists to delete.
        UndoCreate = "undo-create",
        /// Rollback (a): set all policies to Delete.
        UndoFree = "undo-free",
        /// Rollback (c): delete the VolumeGroupSnapshot.
        UndoDeleteGroup = "undo-delete-group",
        /// Rollback (d): annotate and delete the content that the controller left behind.
        UndoDeleteContent = "undo-delete-content",
        /// Rollback (e): delete the remaining VolumeSnapshots of the members.
        UndoDeleteSnapshots = "undo-delete-snapshots",
        /// Rollback (e): delete the remaining VolumeSnapshotContents of the members.
        UndoDeleteContents = "undo-delete-contents",
        /// Rollback (f): import the group from the recorded handles, so that the driver reports whether it
        /// still has it.
        UndoImport = "undo-import",
        /// Rollback (f): delete the import, and with it the storage in the driver.
        UndoFreeImport = "undo-free-import",
    }
}

impl kit::Step for Step {
    fn phase(self) -> Phase {
        match self {
            Self::Create | Self::Claim | Self::Relabel | Self::Retain => Phase::Forward,
            Self::ClearNames => Phase::Pivot,
            Self::Detach
            | Self::DeleteGroup
            | Self::Rebuild
            | Self::MakeStub
            | Self::DropStub
            | Self::DeleteContent
            | Self::MarkContent
            | Self::RestoreNames
            | Self::DropReplaced => Phase::Release,
            Self::UndoCreate
            | Self::UndoFree
            | Self::UndoDeleteGroup
            | Self::UndoDeleteContent
            | Self::UndoDeleteSnapshots
            | Self::UndoDeleteContents
            | Self::UndoImport
            | Self::UndoFreeImport => Phase::Rollback,
        }
    }

    fn frees(self) -> bool {
        self.phase() == Phase::Rollback && self != Self::UndoCreate
    }

    /// Also the deletes of the release: behind them only the receipt names the storage.
    fn is_irreversible(self) -> bool {
        let deletes = matches!(self, Self::DeleteGroup | Self::DeleteContent);
        self.frees() || self.phase() == Phase::Pivot || deletes
    }

    /// SUBTLE: an import and its deletion revert each other.
    /// 1. The deletion is applied, and its answer is lost.
    /// 2. The fate of the storage is as doubtful as before, and the storage is imported again.
    /// 3. The import is deleted again, and so on.
    ///
    /// Neither step follows itself. With separate counters each began with no attempts, and the run repeated
    /// both for ever, without a pause.
    fn shares_retries_with(self, other: Self) -> bool {
        let of_import = |step: Self| matches!(step, Self::UndoImport | Self::UndoFreeImport);
        self == other || of_import(self) && of_import(other)
    }
}

named! {
    /// Records without effects: each marks a new state of the run.
    Milestone {
        /// The uid of the run's VolumeGroupSnapshot is known.
        Created = "created",
        /// The driver has cut the group.
        Cut = "cut",
        /// All members are bound and ready. The receipt is complete.
        VsBound = "vs-bound",
        /// All members have labels and receipt.
        Relabelled = "relabelled",
        /// All policies are Retain.
        Retained = "retained",
        /// The members are ordinary snapshots. The group objects are deleted.
        Cleaned = "cleaned",
        /// The members are handed over.
        Completed = "completed",
        /// A rollback of the run begins.
        Unwinding = "unwinding",
        /// The run is rolled back. Another attempt begins.
        Retried = "retried",
        /// The run is rolled back. The cluster is clean.
        Failed = "failed",
        /// No automatic action is left.
        Stuck = "stuck",
    }
}

/// The final record of a receipt: all fields except the members, and their number and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptHead {
    /// CSI group snapshot handle.
    pub group_handle: String,
    pub group_snapshot: ObjectId,
    pub group_content: ObjectId,
    pub secret: Option<SecretRef>,
    /// Number of members.
    pub members: u16,
    /// Hash of the members ([`crate::domain::receipt::Receipt::hash`]).
    pub hash: [u8; 32],
    /// Where and when the cut was made; `None` in a record of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// A member whose objects were lost and replaced by new ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuiltMember {
    /// Index in the plan.
    pub index: u16,
    /// The new VolumeSnapshot.
    pub snapshot: ObjectId,
    /// The new VolumeSnapshotContent.
    pub content: ObjectId,
}

/// Some members of a receipt, which is larger than a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReceiptPart {
    /// Index of the first of them.
    pub first: u16,
    pub members: Vec<ReceiptMember>,
}

/// A milestone with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// The VolumeGroupSnapshot exists.
    Created {
        uid: Uid,
    },
    /// Group handle at the cut.
    Cut {
        group_handle: String,
    },
    /// Final record of the receipt.
    VsBound(Box<ReceiptHead>),
    Relabelled,
    Retained,
    /// The rebuilt members, in the plan's order; empty if no member was lost.
    Cleaned(Vec<RebuiltMember>),
    Completed,
    Unwinding(Reason),
    Retried,
    Failed,
    Stuck(Reason),
}

impl kit::Reached for Reached {
    type Milestone = Milestone;
    const UNWINDING: Milestone = Milestone::Unwinding;
    const STUCK: Milestone = Milestone::Stuck;

    fn milestone(&self) -> Milestone {
        match self {
            Self::Created { .. } => Milestone::Created,
            Self::Cut { .. } => Milestone::Cut,
            Self::VsBound(_) => Milestone::VsBound,
            Self::Relabelled => Milestone::Relabelled,
            Self::Retained => Milestone::Retained,
            Self::Cleaned(_) => Milestone::Cleaned,
            Self::Completed => Milestone::Completed,
            Self::Unwinding(_) => Milestone::Unwinding,
            Self::Retried => Milestone::Retried,
            Self::Failed => Milestone::Failed,
            Self::Stuck(_) => Milestone::Stuck,
        }
    }

    fn evidence(&self) -> Value {
        match self {
            Self::Created { uid } => json!({"Created": {"uid": uid}}),
            Self::Cut { group_handle } => json!({"Cut": {"group_handle": group_handle}}),
            Self::VsBound(head) => json!({"Receipt": head}),
            Self::Unwinding(reason) | Self::Stuck(reason) => json!({"Reason": reason}),
            Self::Cleaned(members) => json!({"Rebuilt": members}),
            Self::Relabelled | Self::Retained | Self::Completed | Self::Retried | Self::Failed => {
                json!("Nothing")
            }
        }
    }

    fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Unwinding(reason) | Self::Stuck(reason) => Some(reason),
            _ => None,
        }
    }

    fn unwinding(reason: Reason) -> Self {
        Self::Unwinding(reason)
    }

    fn stuck(reason: Reason) -> Self {
        Self::Stuck(reason)
    }
}

/// One record of a group stream.
pub type Event = kit::Event<GroupMachine>;

/// A record with its time.
pub type Timed = kit::Timed<GroupMachine>;
