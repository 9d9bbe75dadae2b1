//! Defines stages, steps and milestones of a Backup, with the evidence of each milestone.

use serde::Serialize;
use serde_json::{Value, json};

use crate::machine::backup::state::{FailedGroup, Phase, RunEnd};
use crate::machine::kit::{self, Reason};

/// Stages of a Backup, by the names of Velero's phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Stage {
    /// Its groups are not fixed.
    New,
    /// Its groups are fixed, and not all of them have ended.
    InProgress,
    Completed,
    PartiallyFailed,
    Failed,
}

impl kit::Stage for Stage {
    const ALL: &'static [Self] =
        &[Self::New, Self::InProgress, Self::Completed, Self::PartiallyFailed, Self::Failed];

    fn is_final(self) -> bool {
        !matches!(self, Self::New | Self::InProgress)
    }

    /// A Backup has no pivot: its groups have.
    fn is_behind_the_pivot(self) -> bool {
        false
    }
}

impl Stage {
    /// The phase of the Backup in this stage.
    pub fn phase(self) -> Phase {
        match self {
            Self::New | Self::InProgress => Phase::InProgress,
            Self::Completed => Phase::Completed,
            Self::PartiallyFailed => Phase::PartiallyFailed,
            Self::Failed => Phase::Failed,
        }
    }
}

crate::named! {
    /// Steps of a Backup.
    Step {
        /// Start the runs of the groups that have not begun.
        StartGroups = "start-groups",
    }
}

impl kit::Step for Step {
    fn phase(self) -> kit::Phase {
        kit::Phase::Forward
    }
}

crate::named! {
    /// Milestones of a Backup.
    Milestone {
        /// The groups are fixed, and their plans are in the journal.
        Formed = "formed",
        /// Groups of an earlier release that have no run were planned again, or ended.
        FormedAgain = "formed-again",
        /// Some groups ended while others run.
        GroupsEnded = "groups-ended",
        /// All groups completed.
        Completed = "completed",
        /// Some groups completed, some did not.
        PartiallyFailed = "partially-failed",
        /// No group completed.
        Failed = "failed",
        /// A rollback begins. A Backup has none.
        Unwinding = "unwinding",
        /// No automatic action is left. No row decides it for a Backup.
        Stuck = "stuck",
    }
}

/// Evidence that the groups are fixed. It closes the parts, which hold the plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Formed {
    /// Number of parts.
    pub groups: u16,
    /// Hash of the parts.
    pub hash: [u8; 32],
    /// Groups that do not run.
    pub refused: Vec<FailedGroup>,
    pub warnings: Vec<String>,
}

/// Evidence that the Backup ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Ends that were not recorded before.
    pub ends: Vec<RunEnd>,
}

/// A milestone with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    Formed(Formed),
    /// The parts before it hold the plans that were formed once more.
    FormedAgain(FormedAgain),
    GroupsEnded(Ended),
    Completed(Ended),
    PartiallyFailed(Ended),
    Failed(Ended),
    Unwinding(Reason),
    Stuck(Reason),
}

/// Evidence about groups that an earlier release recorded without plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FormedAgain {
    /// Number of parts.
    pub groups: u16,
    /// Hash of the parts.
    pub hash: [u8; 32],
    /// Groups that cannot be planned any more.
    pub ends: Vec<RunEnd>,
}

impl Reached {
    /// The ends that the milestone records.
    pub fn ends(&self) -> &[RunEnd] {
        match self {
            Self::FormedAgain(formed) => &formed.ends,
            Self::GroupsEnded(ended)
            | Self::Completed(ended)
            | Self::PartiallyFailed(ended)
            | Self::Failed(ended) => &ended.ends,
            Self::Formed(_) | Self::Unwinding(_) | Self::Stuck(_) => &[],
        }
    }

    /// The ends that the milestone records, to shorten their texts.
    pub fn ends_mut(&mut self) -> &mut [RunEnd] {
        match self {
            Self::FormedAgain(formed) => &mut formed.ends,
            Self::GroupsEnded(ended)
            | Self::Completed(ended)
            | Self::PartiallyFailed(ended)
            | Self::Failed(ended) => &mut ended.ends,
            Self::Formed(_) | Self::Unwinding(_) | Self::Stuck(_) => &mut [],
        }
    }
}

impl kit::Reached for Reached {
    type Milestone = Milestone;
    const UNWINDING: Milestone = Milestone::Unwinding;
    const STUCK: Milestone = Milestone::Stuck;

    fn milestone(&self) -> Milestone {
        match self {
            Self::Formed(_) => Milestone::Formed,
            Self::FormedAgain(_) => Milestone::FormedAgain,
            Self::GroupsEnded(_) => Milestone::GroupsEnded,
            Self::Completed(_) => Milestone::Completed,
            Self::PartiallyFailed(_) => Milestone::PartiallyFailed,
            Self::Failed(_) => Milestone::Failed,
            Self::Unwinding(_) => Milestone::Unwinding,
            Self::Stuck(_) => Milestone::Stuck,
        }
    }

    fn evidence(&self) -> Value {
        match self {
            Self::Formed(formed) => json!(formed),
            Self::FormedAgain(formed) => json!(formed),
            Self::GroupsEnded(ended)
            | Self::Completed(ended)
            | Self::PartiallyFailed(ended)
            | Self::Failed(ended) => json!(ended),
            Self::Unwinding(reason) | Self::Stuck(reason) => json!(reason),
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
