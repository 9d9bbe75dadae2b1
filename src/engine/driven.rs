//! Defines [`Driven`]: how the engine observes the cluster for a machine, and what it publishes.

use std::future::Future;
use std::sync::Arc;

use crate::domain::ids::StreamId;
use crate::domain::problem::{About, Problem};
use crate::domain::time::Timestamp;
use crate::engine::cache::{MinVersions, ReadError, Subscription};
use crate::engine::driver::Context;
use crate::journal::Record;
use crate::machine::kit::{Decision, Event, Logic, Machine, OperatorRequest, Run, Timed, View, WaitReport};
use crate::records::WireError;

/// A machine that the engine drives.
pub trait Driven: Machine {
    /// What the driver remembers between observations, without journaling it.
    type Memory: Default + Send + 'static;

    /// Stream of the run.
    fn stream(plan: &Self::Plan) -> StreamId;

    /// The decisions of the machine.
    fn logic(_context: &Context) -> Logic<Self> {
        Logic::default()
    }

    /// Subscribes to changes in the scope.
    fn subscribe(context: &Context, scope: &Arc<Self::Scope>) -> Subscription;

    /// Changes the scope of a subscription.
    fn set_interest(subscription: &mut Subscription, scope: &Arc<Self::Scope>);

    /// Observes from the caches; `fresh` if they were just read from the API server.
    fn observe(
        context: &Context,
        scope: &Self::Scope,
        fresh: bool,
        now: Timestamp,
        memory: &mut Self::Memory,
    ) -> Self::Seen;

    /// Updates what the driver remembers by a view, and the observation by that.
    fn remember(_memory: &mut Self::Memory, _seen: &mut Self::Seen, _view: &View, _now: Timestamp) {}

    /// Reads the objects of the scope from the API server.
    fn read(
        context: &Context,
        scope: &Self::Scope,
        known: &MinVersions,
        memory: &mut Self::Memory,
    ) -> impl Future<Output = Result<(), ReadError>> + Send;

    /// Why a step that frees storage has to wait; none if it is permitted. The objects were just read.
    ///
    /// # Errors
    /// Another journal, or a newer start, has taken over: the daemon ends and has freed nothing.
    fn may_free(
        context: &Context,
        run: &Run<Self>,
        seen: &Self::Seen,
    ) -> impl Future<Output = Result<Option<&'static str>, Problem>> + Send;

    /// The first request of an operator that the run has not processed, or why it cannot be parsed.
    fn request(_context: &Context, _run: &Run<Self>) -> Option<Result<OperatorRequest, String>> {
        None
    }

    /// Whether a refusal of the step by the authorizer is doubted for a short time, because it would end the
    /// run: an API server that has just started refuses every request.
    fn doubts_refusal(_step: Self::Step) -> bool {
        false
    }

    /// Whether the milestone completes a receipt, without which storage cannot be freed.
    fn closes_receipt(_milestone: Self::Milestone) -> bool {
        false
    }

    /// Whether the run has ended, and something that it made is not known to be freed. Its receipts then stay in
    /// the live journal.
    fn holds(run: &Run<Self>) -> bool;

    /// Whether a user has to know of the milestone.
    fn warns(milestone: Self::Milestone) -> bool;

    /// Why the run waits, for users.
    fn report(
        run: &Run<Self>,
        seen: &Self::Seen,
        decision: &Decision<Self>,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> WaitReport;

    /// Publishes the durable state of the run, and why it waits.
    fn publish(
        context: &Context,
        run: &Arc<Run<Self>>,
        waiting: Option<Arc<WaitReport>>,
        memory: &Self::Memory,
    );

    /// Value that changes with what [`Driven::publish`] shows beside run and wait.
    fn shown(_memory: &Self::Memory) -> Option<usize> {
        None
    }

    /// The run is over.
    fn ended(_context: &Context, _run: &Run<Self>) {}

    /// The object that a newer daemon has claimed.
    fn claimed(run: &Run<Self>) -> About;

    /// Shortens the texts of an event until it fits into a record.
    fn fit(event: Event<Self>) -> Event<Self>;

    /// The record of an event.
    ///
    /// # Errors
    /// It does not fit into a record.
    fn encode(record: &Timed<Self>) -> Result<Record, WireError>;
}
