//! Defines the group machine: one run of one group, from the plan to members that are ordinary snapshots.
//!
//! | module | contents |
//! |---|---|
//! | [`event`] | records of the journal: plan, intents, outcomes, milestones |
//! | [`state`] | the fold of the journal |
//! | [`fold`](mod@fold) | state × event → state |
//! | [`columns`] | the columns of the recovery table |
//! | [`matching`] | finds the objects of a run in an observation |
//! | [`view`](mod@view) | state × observation → columns |
//! | [`row`] | the parts of a row |
//! | [`table`] | the rows |
//! | [`decide`](mod@decide) | state × view × time → row |
//! | [`document`](mod@document) | the table as a Markdown page |
//! | [`effect`] | calls to the cluster, as data |
//! | [`effects`](mod@effects) | step × observation → the missing effects |
//! | [`advance`] | milestone × observation → the records to write |
//! | [`waiting`] | why a run waits, for users |
//! | [`desired`] | wanted labels and annotations |
//! | [`reconstruct`] | rebuilds a run from the cluster after its journal was lost |

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
