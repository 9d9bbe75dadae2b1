//! Defines the group machine: one run of one group, from the plan to members that are ordinary snapshots.
//!
//! | module | contents |
//! |---|---|
//! | [`event`] | steps, milestones with their evidence, receipt |
//! | [`state`] | the fields of a run that only a group has |
//! | [`table`], [`columns`] | the recovery table |
//! | [`matching`] | finds the objects of a run in an observation |
//! | `view` | state × observation → columns |
//! | [`effect`] | effects of a group run |
//! | [`wait`], [`waiting`] | what a run waits for, and why, for users |
//! | [`advance`] | evidence and reasons |
//! | [`desired`] | wanted labels and annotations |
//! | [`reconstruct`] | rebuilds a run from the cluster after its journal was lost |

pub mod advance;
mod calls;
pub mod columns;
mod decide;
pub mod desired;
pub mod effect;
mod effects;
pub mod event;
mod fold;
mod machine;
pub mod matching;
pub mod reconstruct;
mod spec;
pub mod state;
pub mod table;
mod view;
pub mod wait;
pub mod waiting;

pub use effects::effects;
pub use event::{Event, Milestone, Reached, Step, Timed};
pub use machine::GroupMachine;
pub use state::{GroupRun, Stage};
pub use view::{MemberFlags, view};
