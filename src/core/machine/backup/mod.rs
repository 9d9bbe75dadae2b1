//! The Backup machine: the groups that a Backup requested, their runs, and its end.
//!
//! The groups are formed once. Their plans are in the journal before the first run begins, so a restarted
//! daemon never reads labels again that may have changed. The runs are children: the machine starts them as
//! effects, observes their ends, and records each end.
//!
//! | module | contents |
//! |---|---|
//! | [`state`] | plan, state and ends |
//! | [`event`] | stages, steps, milestones and their evidence |
//! | [`columns`], [`table`] | the recovery table |
//! | [`seen`] | the observation, and what the machine does with it |
//! | [`machine`] | the machine on the kit |
//! | [`earlier`] | the records of releases in which a Backup was no machine |

pub mod columns;
pub mod earlier;
pub mod event;
pub mod machine;
pub mod seen;
pub mod state;
pub mod table;

use crate::machine::kit;

pub use event::{Ended, Formed, Milestone, Reached, Stage, Step};
pub use machine::BackupMachine;
pub use seen::{FormedGroups, GroupSeen, Seen};
pub use state::{
    AskedGroup, BackupPart, BackupPlan, BackupState, FailedGroup, GroupResult, Phase, RunEnd, end_of, fixed,
};

/// State of one Backup.
pub type BackupRun = kit::Run<BackupMachine>;
/// A record of a Backup.
pub type Event = kit::Event<BackupMachine>;
/// A record of a Backup with its time.
pub type Timed = kit::Timed<BackupMachine>;
