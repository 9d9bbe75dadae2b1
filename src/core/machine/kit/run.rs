//! Defines the state of a run: the fold of its journal.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::domain::time::Timestamp;
use crate::machine::kit::event::{OperatorRequest, Reason};
use crate::machine::kit::machine::{Machine, Step};

/// Attempts of the current step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(bound = "")]
pub struct RetryState<M: Machine> {
    #[serde(serialize_with = "step_name")]
    pub step: Option<M::Step>,
    /// Consecutive intents.
    pub intents: u32,
    /// Consecutive intents with an effect that was not certainly applied.
    pub failures: u32,
    /// When the last attempt ended.
    pub last: Option<Timestamp>,
    /// Message of the last failure.
    pub error: Option<String>,
    /// Consecutive failures that the API server certainly refused, except with 429. Computed from the records
    /// like all other fields; not serialized, because the golden states are older.
    #[serde(skip)]
    pub refused: u32,
    /// Number of these intents whose answers were lost.
    #[serde(skip)]
    pub lost: u32,
    /// Time of the first of the consecutive failures.
    #[serde(skip)]
    pub failing_since: Option<Timestamp>,
    /// Effect that failed last, with message `error`.
    #[serde(skip)]
    pub failed: Option<M::EffectRef>,
}

impl<M: Machine> Default for RetryState<M> {
    fn default() -> Self {
        Self {
            step: None,
            intents: 0,
            failures: 0,
            last: None,
            error: None,
            refused: 0,
            lost: 0,
            failing_since: None,
            failed: None,
        }
    }
}

impl<M: Machine> RetryState<M> {
    /// Whether these attempts count for a step: the same step, or one that reverts it.
    pub fn are_of(&self, step: M::Step) -> bool {
        self.step.is_some_and(|before| before == step || before.shares_retries_with(step))
    }
}

/// A reached milestone, for the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(bound = "")]
pub struct TimelineEntry<M: Machine> {
    #[serde(serialize_with = "name")]
    pub milestone: M::Milestone,
    pub at: Timestamp,
    pub attempt: u32,
}

/// The last operator request, and the state in which it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answered {
    pub asked: OperatorRequest,
    /// When it was applied.
    pub at: Timestamp,
    /// State name before the request, as published to users.
    pub was: &'static str,
}

/// State of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(bound = "")]
pub struct Run<M: Machine> {
    /// The plan. Shared, because the state is copied with every record.
    #[serde(serialize_with = "shared")]
    pub plan: Arc<M::Plan>,
    /// Attempt, from 1.
    pub attempt: u32,
    /// When this attempt began.
    pub attempt_at: Timestamp,
    pub stage: M::Stage,
    /// Reason why the run is being rolled back, failed or is stuck.
    pub reason: Option<Reason>,
    /// Row that made the run stuck, if it is stuck.
    pub stuck: Option<String>,
    /// Step with an intent and without outcomes.
    #[serde(serialize_with = "step_name")]
    pub open_intent: Option<M::Step>,
    /// Effects of the last intent.
    #[serde(skip)]
    pub marks: Arc<[M::EffectRef]>,
    /// Time of the last record.
    #[serde(skip)]
    pub changed_at: Timestamp,
    /// Attempts of the current step.
    pub tries: RetryState<M>,
    /// Milestones so far.
    pub timeline: Vec<TimelineEntry<M>>,
    /// The last operator request, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
    /// The fields that only this machine has.
    #[serde(flatten)]
    pub state: M::State,
}

impl<M: Machine> Run<M> {
    /// State after the first record.
    pub fn new(plan: impl Into<Arc<M::Plan>>, at: Timestamp) -> Self {
        let plan = plan.into();
        let (stage, state) = M::begin(&plan, at);
        Self {
            plan,
            attempt: 1,
            attempt_at: at,
            stage,
            reason: None,
            stuck: None,
            open_intent: None,
            marks: Arc::default(),
            changed_at: at,
            tries: RetryState::default(),
            timeline: Vec::new(),
            answered: None,
            state,
        }
    }

    /// Begins another attempt after a complete rollback.
    pub fn begin_next_attempt(&mut self, at: Timestamp) {
        let (timeline, reason) = (std::mem::take(&mut self.timeline), self.reason.take());
        let (attempt, answered) = (self.attempt + 1, self.answered.take());
        *self = Self { attempt, timeline, reason, answered, ..Self::new(self.plan.clone(), at) };
    }

    /// Adds a milestone to the timeline.
    pub fn note(&mut self, milestone: M::Milestone, at: Timestamp) {
        self.timeline.push(TimelineEntry { milestone, at, attempt: self.attempt });
    }

    /// State name published to users.
    pub fn state_name(&self) -> &'static str {
        M::state_name(self)
    }
}

/// Serializes what an `Arc` holds.
pub(crate) fn shared<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
    (**value).serialize(serializer)
}

fn name<T: super::Named, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.name())
}

fn step_name<T: super::Named, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(super::Named::name).serialize(serializer)
}
