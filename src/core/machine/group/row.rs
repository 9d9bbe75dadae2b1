//! What a row of the recovery table is made of: where it matches, under which conditions, and what it says.

use crate::domain::problem::Code;
use crate::machine::group::columns::{Column, ColumnValue, Columns, Fresh};
use crate::machine::group::event::{Milestone, Step};
use crate::machine::group::state::Stage;

/// What a waiting run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The snapshot-controller has not frozen the volumes yet, or the driver has not cut them.
    Cut,
    /// The members are not ready.
    Ready,
    /// The driver reports an error that may pass.
    DriverGrace,
    /// The snapshot-controller has not put the as-source finalizer back.
    Acknowledgement,
    /// The VolumeGroupSnapshot is being deleted.
    GroupGone,
    /// The VolumeGroupSnapshotContent was torn out, and the snapshot-controller has not made it again.
    ContentAgain,
    /// The VolumeGroupSnapshotContent is being deleted.
    ContentGone,
    /// The driver has not freed the storage of the group.
    StorageFreed,
    /// The driver has reported an error that leaves open whether it cut the group.
    DriverAnswer,
    /// A rebuilt member is not ready.
    Rebuilt,
    /// The bound-protection finalizers are not both there.
    Protection,
    /// The shells of the members are being deleted.
    ShellsGone,
    /// A content that the controller may still make.
    LateContent,
    /// A cache that may still have the group.
    Echo,
}

impl Waiting {
    /// Who is waited for, and for what.
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

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Do the missing effects of a step.
    Act(Step),
    /// Record a milestone.
    Advance(Milestone),
    /// Undo the run.
    Unwind {
        /// Why.
        code: Code,
        /// Whether another attempt may help.
        transient: bool,
    },
    /// Read everything from the API server itself and decide again.
    Refresh,
    /// Wait for a change or the next deadline.
    Wait(Waiting),
    /// No automatic answer; the sentence says what to do.
    Stick {
        /// Why.
        code: Code,
        /// What a person can do.
        advice: &'static str,
    },
    /// A newer daemon has the run: stop touching it.
    StepDown,
    /// The run is over.
    Finished,
}

/// A condition: the values of one column that a row takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cond {
    /// The column.
    pub column: Column,
    /// Bits of the values.
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
    /// Stages in which it can match.
    pub stages: &'static [Stage],
    /// Conditions, all of which have to hold. A column that is not named may have any value.
    pub when: &'static [Cond],
    /// What to do.
    pub then: Action,
    /// Why.
    pub why: &'static str,
}

impl Row {
    /// Whether the row acts on a fresh view only.
    pub fn is_fresh(&self) -> bool {
        self.when.iter().any(|cond| cond.column == Fresh::COLUMN)
    }

    /// Whether the row matches.
    pub fn matches(&self, stage: Stage, columns: &Columns) -> bool {
        self.stages.contains(&stage)
            && self.when.iter().filter(|cond| cond.column != Fresh::COLUMN).all(|cond| cond.holds(columns))
    }
}
