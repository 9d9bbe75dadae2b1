//! The kit that carries every machine: generic state, fold, table, decision and crash points.
//!
//! A machine implements [`Machine`] and brings data: stages, steps, milestones, [`columns!`](crate::columns),
//! [`rows!`](crate::rows), and a few pure functions.
//!
//! | module | contents |
//! |---|---|
//! | [`machine`] | what a machine adds to the kit |
//! | [`event`] | records of the journal |
//! | [`run`] | the state of a run |
//! | [`fold`](mod@fold) | state × event → state |
//! | [`column`](mod@column), [`view`] | the columns of a recovery table, and the recorded ones |
//! | [`table`] | the rows |
//! | [`proof`] | exactly one row matches each combination |
//! | [`decide`](mod@decide) | state × view × time → row |
//! | [`step`](mod@step) | state × observation × time → next action |
//! | [`wait_report`] | why a run waits |
//! | [`call`] | API calls as data |
//! | [`point`] | crash points |
//! | [`document`](mod@document) | the table as a Markdown page |

pub mod call;
pub mod column;
pub mod decide;
pub mod document;
pub mod event;
pub mod fold;
pub mod machine;
pub mod named;
pub mod point;
pub mod proof;
pub mod run;
pub mod step;
pub mod table;
pub mod view;
pub mod wait_report;

pub use call::{Call, Calls, Entry, Intent, Kind, Patch, Verb};
pub use column::{ColumnId, ColumnValue, Columns, Source};
pub use decide::{Decision, Undecided, decide};
pub use event::{Ask, DecisionRecord, Event, OperatorRequest, Outcome, Reason, Timed};
pub use fold::{IllegalEvent, fold, fold_all};
pub use machine::{EffectReference, Machine, MissingEvidence, Phase, Reached, Stage, Step};
pub use named::Named;
pub use point::{Moment, Place, Point};
pub use run::{Answered, RetryState, Run, TimelineEntry};
pub use step::{Considered, Defect, Logic, Next, step};
pub use table::{Action, Actor, Cond, Row, Wait};
pub use view::View;
pub use wait_report::WaitReport;
