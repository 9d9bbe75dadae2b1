//! Defines the parts of a row of the recovery table: stages, conditions, action and explanation.

use crate::domain::problem::Code;
use crate::machine::group::columns::{Column, ColumnValue, Columns, Fresh};
use crate::machine::group::event::{Milestone, Step};
use crate::machine::group::state::Stage;

/// Condition that a waiting run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The snapshot-controller has not frozen the volumes, or the driver has not cut them.
    Cut,
    /// The members are not ready.
    Ready,
    /// The driver reports a transient error.
    DriverGrace,
    /// The snapshot-controller has not restored the as-source finalizer.
    Acknowledgement,
    /// The VolumeGroupSnapshot is being deleted.
    GroupGone,
    /// The VolumeGroupSnapshotContent was deleted by another client, and the snapshot-controller has not
    /// created it again.
    ContentAgain,
    /// The VolumeGroupSnapshotContent is being deleted.
    ContentGone,
    /// The driver has not freed the storage of the group.
    StorageFreed,
    /// The driver has reported an error that does not say whether it cut the group.
    DriverAnswer,
    /// A rebuilt member is not ready.
    Rebuilt,
    /// A bound-protection finalizer is missing.
    Protection,
    /// The VolumeSnapshots and VolumeSnapshotContents of the members are being deleted.
    ShellsGone,
    /// The controller may still create a content.
    LateContent,
    /// A cache of a controller may still have the group.
    Echo,
}

impl Waiting {
    /// The component that has to act, and its expected action.
    pub fn text(self) -> &'static str {
        match self {
            Self::Cut => "the snapshot-controller and the driver to cut the group",
            Self::Ready => "the members to become ready",
            Self::DriverGrace => "the driver's error to pass",
            Self::Acknowledgement => "the snapshot-controller to see the released members",
            Self::GroupGone => "the snapshot-controller to let the VolumeGroupSnapshot go",
            Self::ContentAgain => {
                "the snapshot-controller to make the VolumeGroupSnapshotContent again, which was deleted"
            }
            Self::ContentGone => "the csi-snapshotter to let the VolumeGroupSnapshotContent go",
            Self::StorageFreed => "the csi-snapshotter and the driver to free the storage of the group",
            Self::DriverAnswer => {
                "the driver to say whether it cut the group; before that the csi-snapshotter lets nothing go"
            }
            Self::Rebuilt => "the rebuilt members to become ready",
            Self::Protection => "the bound-protection finalizers of the group, before which a delete leaks",
            Self::ShellsGone => "the VolumeSnapshots and VolumeSnapshotContents to go",
            Self::LateContent => "a VolumeGroupSnapshotContent that may still come late",
            Self::Echo => {
                "the caches of the snapshot-controller to forget the group, before its name is put back"
            }
        }
    }
}

/// Action of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Execute the missing effects of a step.
    Act(Step),
    /// Record a milestone.
    Advance(Milestone),
    /// Roll the run back.
    Unwind {
        code: Code,
        /// Whether another attempt may help.
        transient: bool,
    },
    /// Read all objects from the API server and decide again.
    Refresh,
    /// Wait for a change or the next deadline.
    Wait(Waiting),
    /// Stop: no automatic action is left. `advice` says how to fix it.
    Stick {
        code: Code,
        /// Instruction for the operator.
        advice: &'static str,
    },
    /// A newer daemon owns the run: stop writing to it.
    StepDown,
    /// The run is over.
    Finished,
}

/// A condition: the values of one column for which a row matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cond {
    pub column: Column,
    /// Accepted values, one bit for each ordinal.
    pub mask: u16,
}

impl Cond {
    /// Whether the column has one of the values.
    pub fn holds(&self, columns: &Columns) -> bool {
        self.mask & (1 << columns.ordinal(self.column)) != 0
    }
}

/// One row of the recovery table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Stable id.
    pub id: &'static str,
    /// Stages in which the row can match.
    pub stages: &'static [Stage],
    /// Conditions, all of which must hold. A column without a condition may have any value.
    pub when: &'static [Cond],
    /// Action.
    pub then: Action,
    /// Explanation for users.
    pub why: &'static str,
}

impl Row {
    /// Whether the row acts on a fresh view only.
    pub fn is_fresh(&self) -> bool {
        self.when.iter().any(|cond| cond.column == Fresh::COLUMN)
    }

    pub fn matches(&self, stage: Stage, columns: &Columns) -> bool {
        self.stages.contains(&stage)
            && self.when.iter().filter(|cond| cond.column != Fresh::COLUMN).all(|cond| cond.holds(columns))
    }
}
