//! The group machine: one run of one group, from the plan to members that are ordinary snapshots.
//!
//! | module | holds |
//! |---|---|
//! | [`event`] | what the journal records: plan, intents, outcomes, milestones |
//! | [`state`] | what it folds to |
//! | [`fold`](mod@fold) | state × event → state |
//! | [`columns`] | the questions of the recovery table |
//! | [`matching`] | finds the objects of a run in an observation |
//! | [`view`](mod@view) | state × observation → columns |
//! | [`row`] | what a row is made of |
//! | [`table`] | the rows |
//! | [`decide`](mod@decide) | state × view × time → row |
//! | [`document`](mod@document) | the table as a page |
//! | [`effect`] | calls to the cluster, as data |
//! | [`effects`](mod@effects) | step × observation → the missing effects |
//! | [`advance`] | milestone × observation → the records that go with it |
//! | [`waiting`] | why a run waits, for users |
//! | [`desired`] | labels and annotations that are wanted |
//! | [`reconstruct`] | a run whose journal was lost, from what its cluster shows |

pub mod advance;
pub mod columns;
pub mod decide;
pub mod desired;
pub mod document;
pub mod effect;
pub mod effects;
pub mod event;
pub mod fold;
pub mod matching;
pub mod reconstruct;
pub mod row;
pub mod state;
pub mod table;
pub mod view;
pub mod waiting;

pub use decide::{Decision, decide};
pub use effects::effects;
pub use event::{Ask, Event, Milestone, OperatorRequest, Step, Timed};
pub use fold::{IllegalEvent, fold, fold_all};
pub use state::{GroupRun, Stage};
pub use view::{View, view};
pub use waiting::WaitReport;
