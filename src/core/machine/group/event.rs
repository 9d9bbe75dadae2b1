//! What the journal records about a group run.
//!
//! Every record that follows from a decision carries it: the row, the version of the rules, and the view that was
//! looked at. A replay folds the records before it, decides again, and compares.

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
            /// All of them, in order.
            pub const ALL: &'static [$type] = &[$($type::$value),+];

            /// The name in crash points, records and messages.
            pub fn name(self) -> &'static str {
                match self { $($type::$value => $name),+ }
            }
        }
    };
}

named! {
    /// The steps that have effects. Each is idempotent: redone, it looks and writes only what is missing.
    Step {
        /// Create the VolumeGroupSnapshot.
        Create = "create",
        /// Take the VolumeGroupSnapshot over from an older epoch.
        Claim = "claim",
        /// Write labels and receipt into the members.
        Relabel = "relabel",
        /// Set all policies to Retain, with receipt and run label.
        Retain = "retain",
        /// Release 1: clear the group name in the members' status. Its intent is the pivot.
        ClearNames = "clear-names",
        /// Release 2: owner references and finalizers out, class in.
        Detach = "detach",
        /// Release 5: delete the VolumeGroupSnapshot.
        DeleteGroup = "delete-group",
        /// Release 5: rebuild lost members from their handles.
        Rebuild = "rebuild",
        /// Carry the group handle on a stub content while members are rebuilt late.
        MakeStub = "make-stub",
        /// Drop the stub content again.
        DropStub = "drop-stub",
        /// Release 6: delete the VolumeGroupSnapshotContent.
        DeleteContent = "delete-content",
        /// Release 6: let the sidecar finish a deletion that somebody else began.
        MarkContent = "mark-content",
        /// Release 7: put the group name back.
        RestoreNames = "restore-names",
        /// Release 8: delete the contents whose place rebuilt members have taken; they retain the storage.
        DropReplaced = "drop-replaced",
        /// Undo: repeat a create of unknown fate, so that there is something certain to delete.
        UndoCreate = "undo-create",
        /// Undo (a): all policies to Delete.
        UndoFree = "undo-free",
        /// Undo (c): delete the VolumeGroupSnapshot.
        UndoDeleteGroup = "undo-delete-group",
        /// Undo (d): mark and delete the content that the controller left.
        UndoDeleteContent = "undo-delete-content",
        /// Undo (e): delete the shells of the members.
        UndoDeleteSnapshots = "undo-delete-snapshots",
        /// Undo (e): delete the contents that outlive them.
        UndoDeleteContents = "undo-delete-contents",
        /// Undo (f): import the cut by its handles, so that the driver says whether it has it still.
        UndoImport = "undo-import",
        /// Undo (f): delete the import, and with it what the driver has.
        UndoFreeImport = "undo-free-import",
    }
}

impl Step {
    /// Whether the step can free storage: a policy to Delete, a delete under Delete, an import. Before the first such step
    /// the driver reads binding, claim and receipts afresh.
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
    /// Records without effects: what became true of the run.
    Milestone {
        /// The uid of our VolumeGroupSnapshot is known.
        Created = "created",
        /// The driver has cut the group.
        Cut = "cut",
        /// All members are bound and ready, the receipt is complete.
        VsBound = "vs-bound",
        /// All members carry labels and receipt.
        Relabelled = "relabelled",
        /// All policies are Retain.
        Retained = "retained",
        /// Members are ordinary snapshots, the group objects are gone.
        Cleaned = "cleaned",
        /// Handed over.
        Completed = "completed",
        /// The run is going to be undone.
        Unwinding = "unwinding",
        /// Undone; another attempt begins.
        Retried = "retried",
        /// Undone, to a clean cluster.
        Failed = "failed",
        /// There is no automatic answer.
        Stuck = "stuck",
    }
}

named! {
    /// What a person can ask of a run.
    Ask {
        /// Count refusals and repetitions from the beginning again, and decide anew.
        Resume = "resume",
        /// Give the run up: undo it before the pivot, keep its storage after it.
        Abandon = "abandon",
        /// Give the run up and keep its storage, wherever it is; asked again, end it as it is.
        Keep = "abandon-keep-storage",
    }
}

/// What a person asked: an input that the journal has before anything follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRequest {
    /// What.
    pub ask: Ask,
    /// Id of the request, so that it is answered once.
    pub request: String,
    /// Who, as the request says; it proves nothing.
    pub by: String,
}

/// What was decided, and on what grounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Row of the recovery table.
    pub row: String,
    /// Version of the table.
    pub rules: u16,
    /// What was looked at.
    pub view: View,
}

/// Why a run is undone or stuck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Code.
    pub code: Code,
    /// Observed and expected, clipped.
    pub message: String,
    /// Whether another attempt may help.
    pub transient: bool,
}

/// The closing record of a receipt: everything but the members, and their count and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptHead {
    /// CSI group snapshot handle.
    pub group_handle: String,
    /// The VolumeGroupSnapshot.
    pub group_snapshot: ObjectId,
    /// The VolumeGroupSnapshotContent.
    pub group_content: ObjectId,
    /// Secret for the deletion.
    pub secret: Option<SecretRef>,
    /// Members.
    pub members: u16,
    /// Hash over them ([`crate::domain::receipt::Receipt::hash`]).
    pub hash: [u8; 32],
}

/// A member that stands under new objects since the old ones were lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuiltMember {
    /// Index in the plan.
    pub index: u16,
    /// The VolumeSnapshot that was rebuilt.
    pub snapshot: ObjectId,
    /// The VolumeSnapshotContent that was rebuilt.
    pub content: ObjectId,
}

/// What is recorded with a milestone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// Nothing beside the milestone.
    Nothing,
    /// Uid of the VolumeGroupSnapshot, and whether it was there already.
    Created {
        /// Uid.
        uid: Uid,
    },
    /// Group handle at the cut.
    Cut {
        /// Handle.
        group_handle: String,
    },
    /// The receipt is complete.
    Receipt(Box<ReceiptHead>),
    /// Why.
    Reason(Reason),
    /// The members that were rebuilt, in the plan's order; none in a run that lost nothing.
    Rebuilt(Vec<RebuiltMember>),
}

/// One record of a group stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The first record: everything that is settled before the first effect.
    Planned(Box<Plan>),
    /// A step is about to be done.
    Intended {
        /// Why.
        grounds: DecisionRecord,
        /// Which step.
        step: Step,
        /// The missing effects.
        marks: Vec<EffectRef>,
    },
    /// A step was done, well or badly.
    #[serde(rename = "Ended")]
    StepCompleted {
        /// Which step.
        step: Step,
        /// One outcome for each effect of the intent, in its order.
        outcomes: Vec<Outcome>,
    },
    /// Members of the receipt.
    ReceiptPart {
        /// Index of the first one.
        first: u16,
        /// Members.
        members: Vec<ReceiptMember>,
    },
    /// The run was put together again from what its cluster showed: its journal was lost. Follows plan and receipt.
    Reconstructed(Box<Reconstructed>),
    /// Something became true.
    #[serde(rename = "Reached")]
    MilestoneReached {
        /// Why.
        grounds: DecisionRecord,
        /// What.
        milestone: Milestone,
        /// With which facts.
        facts: Evidence,
    },
    /// A person asked. Nothing was decided: `fold` takes it, and the table decides from there.
    #[serde(rename = "Asked")]
    RequestReceived(OperatorRequest),
}

/// A record with the time at which it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// Time.
    pub at: Timestamp,
    /// Record.
    pub event: Event,
}
