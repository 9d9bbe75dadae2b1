//! Defines the report on a waiting run: the awaited condition, the cause, the blocking objects and
//! finalizers, the start and the deadline.
//!
//! It is computed from state, observation, decision and time whenever a run waits. It is never journaled. No
//! text contains a time or an age: while the cause stays the same, the report stays the same, and nothing is
//! written again.

use crate::domain::limits;
use crate::domain::problem::About;
use crate::domain::time::Timestamp;

/// Text of a pause after a failure.
pub const RETRY: &str = "the next try of a step that failed";
/// Text of a stuck run.
pub const MANUAL: &str = "manual intervention: see the reason, and what to do";
/// Text of a run that cannot read its objects.
pub const READS: &str = "the API server to answer reads";
/// Text of a run whose reads are older than events that its watches have received.
pub const OLD_READS: &str = "the API server to answer reads with its newest state";

/// Cause of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The API server refused a write of the step.
    Refused,
    /// The result of a write of the step is unknown.
    Unanswered,
    /// The step succeeded, and another client changed its result back.
    Undone,
    /// The objects of the run cannot be read.
    Unreadable,
    /// The status of an object of the run has an error.
    ErrorReported,
    /// An object is being deleted, and a finalizer of another component blocks it.
    Finalizer,
    /// An unbound PersistentVolumeClaim with a member as data source blocks the deletion of the group.
    Restore,
    /// A controller has not created objects of the run.
    NotMade,
    /// A controller or the driver has not acted.
    NoProgress,
    /// Freeing of storage is disabled, or suspended until an operator has confirmed the cluster.
    FreeingSuspended,
}

impl Cause {
    /// Name in Events and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "StepRefused",
            Self::Unanswered => "StepUnanswered",
            Self::Undone => "StepUndone",
            Self::Unreadable => "ReadsFail",
            Self::ErrorReported => "ErrorReported",
            Self::Finalizer => "HeldByFinalizer",
            Self::Restore => "HeldByClaim",
            Self::NotMade => "ObjectsNotMade",
            Self::NoProgress => "NoProgress",
            Self::FreeingSuspended => "FreeingSuspended",
        }
    }
}

/// An object that blocks a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    pub about: About,
    /// The error in its status, or the error of a refused write to it, verbatim.
    pub error: Option<String>,
    /// Its finalizers, if it is being deleted.
    pub finalizers: Vec<String>,
}

/// Report on a waiting run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitReport {
    /// Row of the recovery table that waits.
    pub row: &'static str,
    /// The awaited condition: one of a small set of texts.
    pub what: &'static str,
    /// Cause, once the wait takes longer than usual.
    pub cause: Option<Cause>,
    /// Description of the cause.
    pub detail: Option<String>,
    /// The blocking objects, at most [`limits::BLOCKERS_SHOWN`].
    pub objects: Vec<Blocker>,
    /// Start of the wait, or of the failures of the step.
    pub since: Timestamp,
    /// Time of the next attempt.
    pub next_try: Option<Timestamp>,
    /// Latest end of the wait, after which the run continues without further action.
    pub deadline: Option<Timestamp>,
    /// The last answer or reported error, verbatim.
    pub last_error: Option<String>,
    /// Whether a user should be warned.
    pub warns: bool,
    /// Time at which to compute the report again if nothing changes before.
    pub recheck: Option<Timestamp>,
}

impl WaitReport {
    /// Report without a cause.
    pub fn new(row: &'static str, what: &'static str, since: Timestamp) -> Self {
        Self {
            row,
            what,
            cause: None,
            detail: None,
            objects: Vec::new(),
            since,
            next_try: None,
            deadline: None,
            last_error: None,
            warns: false,
            recheck: None,
        }
    }

    /// Text for users: the awaited condition and its cause.
    pub fn text(&self) -> String {
        match &self.detail {
            Some(detail) if self.what == RETRY => format!("retry: {detail}"),
            Some(detail) => format!("{}: {detail}", self.what),
            None => self.what.to_owned(),
        }
    }

    /// Report for a step that would free storage while that is not permitted.
    pub fn suspended(row: &'static str, what: &'static str, since: Timestamp) -> Self {
        Self { cause: Some(Cause::FreeingSuspended), warns: true, ..Self::new(row, what, since) }
    }

    /// Text for Events and the log.
    pub fn announcement(&self) -> String {
        match &self.detail {
            Some(detail) if self.what == RETRY => format!("a step fails and is tried again: {detail}"),
            _ => format!("waits for {}", self.text()),
        }
    }

    /// Report for a run whose objects cannot be read.
    pub fn unreadable(row: &'static str, old: bool, error: &str, since: Timestamp, failures: u32) -> Self {
        Self {
            cause: Some(Cause::Unreadable),
            detail: Some(error.to_owned()),
            last_error: Some(error.to_owned()),
            warns: failures >= limits::FAILURES_WARNED,
            ..Self::new(row, if old { OLD_READS } else { READS }, since)
        }
    }
}
