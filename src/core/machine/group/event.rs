//! Defines the records of a group run in the journal.
//!
//! Every record that follows from a decision contains the decision: the row, the version of the table, and
//! the view. A replay folds the records before it, decides again, and compares.

use serde::{Deserialize, Serialize};

use crate::domain::ids::{ObjectId, Uid};
use crate::domain::plan::Plan;
use crate::domain::problem::Code;
use crate::domain::receipt::{ReceiptMember, SecretRef};
use crate::domain::time::Timestamp;
use crate::machine::group::effect::{EffectRef, Outcome};
use crate::machine::group::reconstruct::Reconstructed;
use crate::machine::group::view::View;

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $value:ident = $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $type { $($(#[$vdoc])* $value),+ }

        impl $type {
            /// All values, in order.
            pub const ALL: &'static [$type] = &[$($type::$value),+];

            /// The name in crash points, records and messages.
            pub fn name(self) -> &'static str {
                match self { $($type::$value => $name),+ }
            }
        }
    };
}

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

impl Step {
    /// Whether the step can free storage: it sets a policy to Delete, deletes under Delete, or imports.
    /// Before the first such step the engine reads binding, claim and receipts from the API server.
    pub fn frees(self) -> bool {
        matches!(
            self,
            Self::UndoFree
                | Self::UndoDeleteGroup
                | Self::UndoDeleteContent
                | Self::UndoDeleteSnapshots
                | Self::UndoDeleteContents
                | Self::UndoImport
                | Self::UndoFreeImport
        )
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

named! {
    /// Requests that an operator can make for a run.
    Ask {
        /// Reset the counters of refusals and repetitions, and decide again.
        Resume = "resume",
        /// Abandon the run: roll it back before the pivot, keep its storage after it.
        Abandon = "abandon",
        /// Abandon the run and keep its storage in any stage. A second such request ends the run as it is.
        Keep = "abandon-keep-storage",
    }
}

/// A request of an operator. The journal records it before anything follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRequest {
    pub ask: Ask,
    /// Id of the request, so that it is processed once.
    pub request: String,
    /// Author of the request, unverified.
    pub by: String,
}

/// A decision with its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Row of the recovery table.
    pub row: String,
    /// Version of the table.
    pub rules: u16,
    /// View that the decision is based on.
    pub view: View,
}

/// Reason why a run is rolled back or stuck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: Code,
    /// Observed and expected state, shortened.
    pub message: String,
    /// Whether another attempt may help.
    pub transient: bool,
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

/// Data that is recorded with a milestone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// No data.
    Nothing,
    /// The VolumeGroupSnapshot exists.
    Created { uid: Uid },
    /// Group handle at the cut.
    Cut { group_handle: String },
    /// Final record of the receipt.
    Receipt(Box<ReceiptHead>),
    /// Reason of a rollback or of a stuck run.
    Reason(Reason),
    /// The rebuilt members, in the plan's order; empty if no member was lost.
    Rebuilt(Vec<RebuiltMember>),
}

/// One record of a group stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The first record: all values that are fixed before the first effect.
    Planned(Box<Plan>),
    /// A step is about to be executed.
    Intended {
        grounds: DecisionRecord,
        step: Step,
        /// The missing effects.
        marks: Vec<EffectRef>,
    },
    /// A step was executed, with or without success.
    #[serde(rename = "Ended")]
    StepCompleted {
        step: Step,
        /// One outcome for each effect of the intent, in its order.
        outcomes: Vec<Outcome>,
    },
    /// Some members of the receipt.
    ReceiptPart {
        /// Index of the first of them.
        first: u16,
        members: Vec<ReceiptMember>,
    },
    /// The run was reconstructed from the cluster because its journal was lost. Follows plan and receipt.
    Reconstructed(Box<Reconstructed>),
    /// A milestone was reached.
    #[serde(rename = "Reached")]
    MilestoneReached { grounds: DecisionRecord, milestone: Milestone, facts: Evidence },
    /// An operator made a request. The record has no decision: `fold` applies the request, and the table
    /// decides from the new state.
    #[serde(rename = "Asked")]
    RequestReceived(OperatorRequest),
}

/// A record with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    pub at: Timestamp,
    pub event: Event,
}
