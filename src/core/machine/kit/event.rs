//! Defines the records that every machine writes.
//!
//! Every record that follows from a decision contains the decision: the row, the version of the table, and
//! the view. A replay folds the records before it, decides again, and compares.

use serde::{Deserialize, Serialize};

use crate::domain::problem::Code;
use crate::domain::time::Timestamp;
use crate::machine::kit::machine::Machine;
use crate::machine::kit::view::View;

crate::named! {
    /// Requests that an operator can make for a run.
    Ask {
        /// Reset the counters of refusals and repetitions, and decide again.
        Resume = "resume",
        /// Abandon the run: roll it back before the pivot, keep its storage after it.
        Abandon = "abandon",
        /// Abandon the run and keep its storage in any stage. A second such request ends the run as it is.
        Keep = "abandon-keep-storage",
    }
}

/// A request of an operator. The journal records it before anything follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRequest {
    pub ask: Ask,
    /// Id of the request, so that it is processed once.
    pub request: String,
    /// Author of the request, unverified.
    pub by: String,
}

/// A decision with its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecisionRecord {
    /// Row of the recovery table.
    pub row: String,
    /// Version of the table.
    pub rules: u16,
    /// View that the decision is based on.
    pub view: View,
}

/// Reason why a run is rolled back or stuck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: Code,
    /// Observed and expected state, shortened.
    pub message: String,
    /// Whether another attempt may help.
    pub transient: bool,
}

/// Outcome of one effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// It was applied. The answer may have the uid and version of the object.
    Done {
        /// Uid of the object; empty if the answer had none.
        uid: String,
        /// Version of the object after the call; empty if the answer had none.
        resource_version: String,
    },
    /// It was certainly not applied.
    Determinate {
        /// HTTP status.
        code: u16,
        /// Reason and message, shortened.
        message: String,
    },
    /// It may have been applied.
    Indeterminate {
        /// Known details, shortened.
        message: String,
    },
}

impl Outcome {
    /// Whether the API server refused the call. 429 (too many requests) is not a refusal.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Determinate { code, .. } if *code != 429)
    }

    /// The answer of a call that was not certainly applied.
    pub fn failure(&self) -> Option<String> {
        match self {
            Self::Done { .. } => None,
            Self::Determinate { code, message } => Some(format!("{code} {message}")),
            Self::Indeterminate { message } => Some(message.clone()),
        }
    }
}

/// One record of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<M: Machine> {
    /// The first record: all values that are fixed before the first effect.
    Planned(Box<M::Plan>),
    /// A step is about to be executed.
    Intended {
        grounds: DecisionRecord,
        step: M::Step,
        /// The missing effects.
        marks: Vec<M::EffectRef>,
    },
    /// A step was executed, with or without success.
    StepCompleted {
        step: M::Step,
        /// One outcome for each effect of the intent, in its order.
        outcomes: Vec<Outcome>,
    },
    /// A slice of a record that is larger than a record. Its milestone closes it; without the milestone it is
    /// ignored.
    Part(M::Part),
    /// The run was reconstructed from the cluster because its journal was lost. Follows plan and parts.
    Reconstructed(Box<M::Reconstructed>),
    /// A milestone was reached, with its evidence.
    MilestoneReached { grounds: DecisionRecord, reached: M::Reached },
    /// An operator made a request. The record has no decision: `fold` applies the request, and the table
    /// decides from the new state.
    RequestReceived(OperatorRequest),
}

impl<M: Machine> Event<M> {
    /// The decision that the record follows from, if any.
    pub fn grounds(&self) -> Option<&DecisionRecord> {
        match self {
            Self::Intended { grounds, .. } | Self::MilestoneReached { grounds, .. } => Some(grounds),
            Self::Planned(_)
            | Self::StepCompleted { .. }
            | Self::Part(_)
            | Self::Reconstructed(_)
            | Self::RequestReceived(_) => None,
        }
    }
}

/// A record with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed<M: Machine> {
    pub at: Timestamp,
    pub event: Event<M>,
}
