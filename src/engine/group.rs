//! Drives group runs: what they observe in the cluster, and what they publish.

use std::sync::Arc;

use crate::domain::ids::StreamId;
use crate::domain::observed::{Observation, Scope};
use crate::domain::plan::Plan;
use crate::domain::problem::{About, Problem};
use crate::domain::time::Timestamp;
use crate::engine::cache::{MinVersions, ReadError, Subscription};
use crate::engine::driven::Driven;
use crate::engine::driver::Context;
use crate::engine::run_status::RunStatus;
use crate::engine::telemetry::Metric;
use crate::journal::Record;
use crate::machine::group::waiting::{count, report};
use crate::machine::group::{Event, GroupMachine, GroupRun, Milestone, Stage, Step, Timed, matching};
use crate::machine::kit::{Decision, Logic, OperatorRequest, Stage as _, View, WaitReport};
use crate::records::{self, WireError};

/// The wait reason of a run whose members were released by a program other than its own daemon.
const RELEASED: &str = "an operator, because another program has released members of the group: delete their VolumeSnapshots, and \
                        the storage is freed; or keep it: stillpoint groups abandon --keep-storage";

/// What the driver of a group remembers between observations.
#[derive(Debug, Default)]
pub struct Memory {
    /// Since when the driver's present error has been observed.
    error_since: Option<Timestamp>,
    /// Numbers of members that exist and that are ready, and since when both have been unchanged.
    members: Option<((usize, usize), Timestamp)>,
}

impl Memory {
    fn ready(&self) -> Option<usize> {
        self.members.map(|((_, ready), _)| ready)
    }
}

impl Driven for GroupMachine {
    type Memory = Memory;

    fn stream(plan: &Plan) -> StreamId {
        plan.run
    }

    fn logic(context: &Context) -> Logic<Self> {
        context.group_logic
    }

    fn subscribe(context: &Context, scope: &Arc<Scope>) -> Subscription {
        context.cache.subscribe(scope)
    }

    fn set_interest(subscription: &mut Subscription, scope: &Arc<Scope>) {
        subscription.set_interest(scope);
    }

    fn observe(
        context: &Context,
        scope: &Scope,
        fresh: bool,
        now: Timestamp,
        memory: &mut Memory,
    ) -> Observation {
        let mut observation = context.cache.observe(scope, context.journal.epoch(), fresh);
        let failing = observation.content.as_ref().is_some_and(|content| content.error.is_some());
        memory.error_since = failing.then(|| memory.error_since.unwrap_or(now));
        observation.error_since = memory.error_since;
        (observation.journal, observation.cluster) = (context.binder.journal_id(), context.binder.cluster());
        observation
    }

    /// Counts the members that exist and that are ready, and since when both numbers have been unchanged.
    fn remember(memory: &mut Memory, seen: &mut Observation, view: &View, now: Timestamp) {
        let members = count(view);
        let since = match memory.members {
            Some((before, since)) if before == members => since,
            _ => now,
        };
        memory.members = Some((members, since));
        seen.progress_since = Some(since);
    }

    async fn read(
        context: &Context,
        scope: &Scope,
        known: &MinVersions,
        _: &mut Memory,
    ) -> Result<(), ReadError> {
        context.cache.read_run(&context.adapter, scope, known).await
    }

    async fn may_free(
        context: &Context,
        run: &GroupRun,
        seen: &Observation,
    ) -> Result<Option<&'static str>, Problem> {
        if let Some(journal) = matching::journals(run, seen).find(|id| !context.binder.owns(id)) {
            let (namespace, name) = (&run.plan.namespace, run.group_name());
            let why = format!("objects of group {namespace}/{name} belong to journal {journal}");
            return Err(context.binder.overtaken(why));
        }
        let released = matching::has_foreign_release(run, seen).then_some(RELEASED);
        Ok(context.binder.may_free(&run.plan).await?.or(released))
    }

    /// Between `Cleaned` and the end no request is valid.
    fn request(context: &Context, run: &GroupRun) -> Option<Result<OperatorRequest, String>> {
        if run.stage == Stage::Cleaned || run.stage.is_final() {
            return None;
        }
        context.cache.asked(&run.plan)
    }

    fn doubts_refusal(step: Step) -> bool {
        step == Step::Create
    }

    fn closes_receipt(milestone: Milestone) -> bool {
        milestone == Milestone::VsBound
    }

    fn holds(run: &GroupRun) -> bool {
        run.holds()
    }

    fn warns(milestone: Milestone) -> bool {
        matches!(milestone, Milestone::Unwinding | Milestone::Stuck | Milestone::Failed)
    }

    fn report(
        run: &GroupRun,
        seen: &Observation,
        decision: &Decision<Self>,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> WaitReport {
        report(run, seen, decision, until, now)
    }

    fn publish(context: &Context, run: &Arc<GroupRun>, waiting: Option<Arc<WaitReport>>, memory: &Memory) {
        let (ready, head) = (memory.ready(), context.journal.head());
        context.status_board.publish(RunStatus { run: run.clone(), waiting, ready, head });
    }

    fn shown(memory: &Memory) -> Option<usize> {
        memory.ready()
    }

    fn ended(context: &Context, run: &GroupRun) {
        context.metrics.record(Metric::RunEnded(run.state_name()));
    }

    fn claimed(run: &GroupRun) -> About {
        About::new("VolumeGroupSnapshot", &run.plan.namespace, &run.group_name())
    }

    fn fit(event: Event) -> Event {
        records::fit_group(event)
    }

    fn encode(record: &Timed) -> Result<Record, WireError> {
        records::encode_group(record)
    }
}
