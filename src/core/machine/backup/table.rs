//! Defines the recovery table of the Backup machine.

use std::sync::LazyLock;

use crate::machine::backup::columns::{Column, Fresh, Groups, Owner, Result};
use crate::machine::backup::{BackupMachine, Milestone, Stage, Step};
use crate::machine::kit::{Action, Actor, Row, Wait};
use crate::rows;

/// Version of the table.
pub const RULES: u16 = 1;

/// Condition that a waiting Backup waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The groups run.
    Groups,
    /// The records of a run are missing.
    MissingRecords,
}

impl Wait for Waiting {
    fn text(self) -> &'static str {
        match self {
            Self::Groups => "the groups to end",
            Self::MissingRecords => {
                "an operator to bring back the missing records of a group: the archive that has them, or \
                 journal rebuild --from-cluster"
            }
        }
    }

    fn actor(self) -> Actor {
        match self {
            Self::Groups => Actor::Controller,
            Self::MissingRecords => Actor::User,
        }
    }
}

/// The rows.
pub static TABLE: LazyLock<Vec<Row<BackupMachine>>> = LazyLock::new(|| {
    rows! {
        "backup/claimed" New | InProgress: Owner[Newer] => Action::StepDown,
            "a newer daemon has claimed the Backup, and takes care of it";
        when New: Owner[Ours] Fresh[Yes] {
            "backup/form": => Action::Advance(Milestone::Formed),
                "the groups are formed once, from a fresh read; their plans are durable before the first of them \
                 begins";
        }
        when InProgress: Owner[Ours] {
            "backup/read": Groups[Unread] => Action::Refresh,
                "a run is not in progress: its records say whether it ended or never began";
            "backup/start": Groups[Absent] Fresh[Yes] => Action::Act(Step::StartGroups),
                "a group has no run: it begins with the plan that the Backup has for it";
            "backup/form-again": Groups[Unplanned] Fresh[Yes] => Action::Advance(Milestone::FormedAgain),
                "an earlier release accepted the Backup without the plans of its groups: those without a run are \
                 formed once more, or end";
            "backup/running": Groups[Running] => Action::Wait(Waiting::Groups),
                "every group runs";
            "backup/ends": Groups[SomeEnded] => Action::Advance(Milestone::GroupsEnded),
                "the end of a group is recorded while others run: its records may leave the journal before the \
                 last of them ends";
            "backup/unknown": Groups[Unknown] => Action::Wait(Waiting::MissingRecords),
                "nothing is known about the end of a group: a Backup never ends by a guess";
            when Groups[AllEnded] {
                "backup/completed": Result[Completed] => Action::Advance(Milestone::Completed),
                    "every group completed";
                "backup/partially-failed": Result[PartiallyFailed] => Action::Advance(Milestone::PartiallyFailed),
                    "a group failed or was refused, and another completed";
                "backup/failed": Result[Failed] => Action::Advance(Milestone::Failed),
                    "a group failed or was refused, and none completed";
            }
        }
        "backup/end" Completed | PartiallyFailed | Failed: => Action::Finished, "the Backup is over";
    }
});
