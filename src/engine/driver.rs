//! Drives one group run in a single loop: observe → decide → intent → durable → effects → outcomes → durable.
//!
//! One [`Driver`] runs one group run from the last record of its journal to its end. A start is the recovery
//! of an empty journal: there is no other entry point. The driver is the only caller of [`Adapter::perform`].

mod answer;
mod free_permission;
mod next_action;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use tokio::time::Instant;
use tracing::Instrument;

use crate::cluster::{Adapter, EffectResult, classify};
use crate::domain::ids::StreamId;
use crate::domain::limits;
use crate::domain::observed::Scope;
use crate::domain::problem::{About, Code, Problem};
use crate::domain::time::Timestamp;
use crate::engine::binding::Binder;
use crate::engine::cache::{Cache, MinVersions, ReadError, Subscription};
use crate::engine::clock::Clock;
use crate::engine::crash_points::CrashPoints;
use crate::engine::events::EventRecorder;
use crate::engine::preflight::Granted;
use crate::engine::run_status::{RunStatus, StatusBoard};
use crate::engine::telemetry::{Metric, MetricsSink};
use crate::journal::{Durable, Journal, StreamState};
use crate::machine::group::advance::{self, grounds};
use crate::machine::group::effect::{Effect, EffectKind, EffectRef, Intent, Outcome};
use crate::machine::group::reconstruct::{Reconstructed, Standing};
use crate::machine::group::waiting::Cause;
use crate::machine::group::{Event, GroupRun, Milestone, Step, Timed, WaitReport, effects, fold};
use crate::machine::point::{Moment, Place, Point};
use crate::records;

use next_action::{Decided, NextAction};

/// Dependencies that all runs share: the adapter to the cluster, the caches, the journal, the clock.
#[derive(Clone)]
pub struct Context {
    pub adapter: Adapter,
    pub cache: Cache,
    pub journal: Journal,
    pub clock: Clock,
    pub points: CrashPoints,
    /// Receives the published status of the runs.
    pub status_board: StatusBoard,
    /// Receives metrics.
    pub metrics: Arc<dyn MetricsSink>,
    /// Queues Kubernetes Events.
    pub recorder: EventRecorder,
    /// The permissions that a review found granted.
    pub granted: Granted,
    /// The binding of the journal to the cluster.
    pub binder: Binder,
}

/// One run in progress.
pub struct Driver {
    context: Context,
    /// Shared with readers of the run's status.
    run: Arc<GroupRun>,
    /// Names and ids that the run observes in the cluster. The scope changes only with the run, and computing
    /// its names takes time.
    scope: Arc<Scope>,
    seq: u64,
    fresh: bool,
    error_since: Option<Timestamp>,
    /// Numbers of members that exist and that are ready, and since when both have been unchanged.
    members: Option<((usize, usize), Timestamp)>,
    trouble: u32,
    /// When reads began to fail.
    trouble_since: Option<Timestamp>,
    /// Minimum versions of a read that has not succeeded yet.
    looking: Option<MinVersions>,
    /// End of the pause after a failure. Until then the driver does no fresh read after changes in the
    /// cluster.
    paused: Option<Timestamp>,
    /// Row of the step that is retried after the pause.
    pausing: &'static str,
    /// Whether the next step may free storage: binding, claim and receipts were just read.
    permitted: bool,
    /// Since when freeing is not permitted.
    suspended_since: Option<Timestamp>,
    /// Since when every read has shown a state older than the known one.
    behind_since: Option<Timestamp>,
    /// The last request that could not be parsed: logged once.
    misunderstood: Option<String>,
    /// Sequence, wait reason and number of ready members of the last published status.
    shown: Option<(u64, Option<Arc<WaitReport>>, Option<usize>)>,
    /// Causes of waits that were logged.
    warned: BTreeSet<String>,
}

impl Driver {
    /// A run that is already in the journal: `run` is the fold of its `seq` records.
    pub fn resume(context: Context, run: GroupRun, seq: u64) -> Self {
        let scope = Arc::new(run.scope());
        Self {
            context,
            run: Arc::new(run),
            scope,
            seq,
            fresh: false,
            error_since: None,
            members: None,
            trouble: 0,
            trouble_since: None,
            looking: None,
            paused: None,
            pausing: "",
            permitted: false,
            suspended_since: None,
            behind_since: None,
            misunderstood: None,
            shown: None,
            warned: BTreeSet::new(),
        }
    }

    /// A new run: its plan becomes the first record.
    ///
    /// # Errors
    /// The journal cannot be written; the daemon has to end.
    pub async fn plan(context: Context, plan: crate::domain::plan::Plan) -> Result<Self, Problem> {
        context.points.hit(Point::record(Place::Planned, Moment::BeforeRecord)).await;
        let stream = plan.run;
        let (record, encoded) = first_record(plan, context.clock.now())?;
        let run = fold(None, &record).map_err(|error| internal(stream, &error))?;
        let appended = context.journal.append(stream, 0, vec![encoded], StreamState::Open).await;
        appended.map_err(|error| journal_problem(stream, &error))?;
        context.points.hit(Point::record(Place::Planned, Moment::AfterRecord)).await;
        Ok(Self::resume(context, run, 1))
    }

    /// A completed run that is released again.
    ///
    /// # Errors
    /// The journal cannot be written; the daemon has to end.
    pub async fn release_again(context: Context, run: GroupRun, seq: u64) -> Result<Self, Problem> {
        let found = Reconstructed {
            standing: Standing::Released,
            attempt: run.attempt,
            group_uid: run.group_uid.clone(),
            receipt: None,
            seen: vec!["the cluster went back in time: the group objects are there again".to_owned()],
        };
        let mut driver = Self::resume(context, run, seq);
        let at = driver.context.clock.now();
        driver.record(at, vec![Event::Reconstructed(Box::new(found))]).await?;
        Ok(driver)
    }

    pub fn plan_of(&self) -> &crate::domain::plan::Plan {
        &self.run.plan
    }

    /// Drives the run to its end. State that a run needs only occasionally is boxed: thousands of runs only
    /// wait.
    ///
    /// # Errors
    /// The journal cannot be written, a newer daemon took over the run, or the table has no matching row: the
    /// daemon ends.
    pub async fn run(mut self) -> Result<Arc<GroupRun>, Problem> {
        let mut changes = self.context.cache.subscribe(&self.scope);
        self.show(None);
        loop {
            changes.set_interest(&self.scope);
            if let Some(asked) = self.asked() {
                Box::pin(self.answer(asked)).await?;
                continue;
            }
            match self.next()? {
                NextAction::Act(ground, step) => {
                    let span = tracing::info_span!("step", step = step.name());
                    Box::pin(self.act(&ground, step).instrument(span)).await?;
                }
                NextAction::Advance(ground, milestone) => Box::pin(self.advance(&ground, milestone)).await?,
                NextAction::Refresh(row) => Box::pin(self.refresh(row)).await?,
                NextAction::Permit(row) => Box::pin(self.permit(row, &changes)).await?,
                NextAction::Wait { until, report } => self.wait(&mut changes, until, report).await,
                NextAction::StepDown => return Err(self.overtaken()),
                NextAction::Finished => {
                    self.context.metrics.record(Metric::RunEnded(self.run.state_name()));
                    self.show(None);
                    return Ok(self.run);
                }
            }
        }
    }

    /// Executes a step: intent, durable, effects, outcomes, durable.
    async fn act(&mut self, ground: &Decided, step: Step) -> Result<(), Problem> {
        let began = Instant::now();
        let intent = Intent { effects: effects(&self.run, &ground.observation, step) };
        let marks: Vec<_> = intent.effects.iter().map(|(mark, _)| *mark).collect();
        let kinds: Vec<_> = marks.iter().map(|mark| mark.kind).collect();
        self.pass(step, Moment::BeforeIntent).await;
        let event = Event::Intended { grounds: grounds(&ground.decision, &ground.view), step, marks };
        let durable = self.record_durable(ground.now, event, intent).await?;
        self.show(None);
        self.pass(step, Moment::AfterIntent).await;
        let outcomes = self.perform(&durable, step).await;
        (self.fresh, self.permitted) = (false, false);
        self.pass(step, Moment::AfterEffects).await;
        let certain = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done { .. }));
        log_failures(&durable.get().effects, &outcomes);
        count(&*self.context.metrics, &kinds, &outcomes);
        self.record(self.context.clock.now(), vec![Event::StepCompleted { step, outcomes }]).await?;
        tracing::debug!(effects = kinds.len(), row = ground.decision.row.id, "step done");
        self.context.metrics.record(Metric::Step { step: step.name(), took: began.elapsed() });
        self.pass(step, Moment::AfterOutcome).await;
        if !certain {
            // Read before the step is retried. While no read succeeds, nothing is written, and an API server
            // that is unavailable does not count as one that refuses.
            while !self.fresh {
                self.refresh(ground.decision.row.id).await?;
            }
            // This read cannot justify a delete: it may be older than the pause that now follows.
            self.fresh = false;
        }
        Ok(())
    }

    /// Performs all effects of an intent concurrently. If crash points are hooked, in two halves.
    async fn perform(&self, intent: &Durable<Intent>, step: Step) -> Vec<Outcome> {
        let count = intent.get().effects.len();
        let half = if self.context.points.watched() { count / 2 } else { 0 };
        let mut outcomes = self.perform_range(intent, 0..half, step).await;
        self.pass(step, Moment::MidEffects).await;
        outcomes.extend(self.perform_range(intent, half..count, step).await);
        outcomes
    }

    async fn perform_range(
        &self,
        intent: &Durable<Intent>,
        range: std::ops::Range<usize>,
        step: Step,
    ) -> Vec<Outcome> {
        let one = |index: usize| async move {
            let performed = self.perform_one(intent, index, step).await;
            if let Some(object) = performed.object {
                self.context.cache.upsert(object);
            }
            performed.outcome
        };
        // Effects on the group itself (mark, then delete) keep their order; effects on members are
        // concurrent.
        let ordered = intent.get().effects.iter().all(|(mark, _)| mark.member.is_none());
        let width = if ordered { 1 } else { limits::EFFECTS_PER_RUN };
        futures::stream::iter(range).map(one).buffered(width).collect().await
    }

    /// Performs one effect. A refused create ends the run, but an API server that has just started refuses
    /// every request. Such a create certainly did not happen, and is repeated for a limited time.
    async fn perform_one(&self, intent: &Durable<Intent>, index: usize, step: Step) -> EffectResult {
        let doubted = self.context.clock.now().after(limits::REFUSAL_DOUBTED);
        let mut tries = 0;
        loop {
            let performed = self.context.adapter.perform(intent, index).await;
            let refused = step == Step::Create && classify::is_unauthorized(&performed.outcome);
            if !refused || self.context.clock.now() >= doubted {
                return performed;
            }
            tries += 1;
            let pause = limits::backoff(tries);
            tracing::warn!(outcome = ?performed.outcome, "an API server that has just started refuses everybody: trying again in {pause}");
            self.context.clock.sleep_until(Some(self.context.clock.now().after(pause))).await;
        }
    }

    /// Records a milestone: one batch of records, without effects.
    async fn advance(&mut self, ground: &Decided, milestone: Milestone) -> Result<(), Problem> {
        let events = advance::advance(&self.run, &ground.observation, &ground.view, &ground.decision)
            .map_err(|error| internal(self.run.plan.run, &error))?;
        self.context.points.hit(Point::milestone(milestone, Moment::BeforeRecord)).await;
        self.record(ground.now, events).await?;
        self.log(milestone, ground.decision.row.id);
        self.show(None);
        self.context.points.hit(Point::milestone(milestone, Moment::AfterRecord)).await;
        Ok(())
    }

    /// Logs a milestone. If the user has to know about it, the log line is a warning with the reason.
    fn log(&self, milestone: Milestone, row: &'static str) {
        let warns = matches!(milestone, Milestone::Unwinding | Milestone::Stuck | Milestone::Failed);
        match self.run.reason.as_ref().filter(|_| warns) {
            Some(reason) => {
                tracing::warn!(row, code = %reason.code, reason = reason.message, "{}", milestone.name());
            }
            None => tracing::info!(row, "{}", milestone.name()),
        }
    }

    /// Reads the run's objects from the API server. If that fails, or shows a state older than the known one,
    /// the run pauses before the next attempt.
    ///
    /// # Errors
    /// The cluster went back in time: the daemon ends, and the next start reads everything again.
    async fn refresh(&mut self, row: &'static str) -> Result<(), Problem> {
        let known = *self.looking.get_or_insert_with(|| self.context.cache.min_versions());
        let read = self.context.cache.read_run(&self.context.adapter, &self.scope, &known).await;
        self.fresh = read.is_ok();
        match read {
            Ok(()) => {
                (self.trouble, self.trouble_since) = (0, None);
                (self.looking, self.behind_since) = (None, None);
            }
            Err(unread) => {
                self.note_behind(&unread).await?;
                self.trouble += 1;
                tracing::warn!(%unread, "cannot read the run's objects");
                let now = self.context.clock.now();
                let until = now.after(limits::backoff(self.trouble));
                let since = *self.trouble_since.get_or_insert(now);
                let (old, error) = (matches!(unread, ReadError::Behind { .. }), unread.to_string());
                let report = WaitReport::unreadable(row, old, &error, since, self.trouble);
                self.show(Some(Arc::new(WaitReport { next_try: Some(until), ..report })));
                self.context.clock.sleep_until(Some(until)).await;
            }
        }
        Ok(())
    }

    async fn wait(&mut self, changes: &mut Subscription, until: Option<Timestamp>, report: Arc<WaitReport>) {
        (self.fresh, self.permitted) = (false, false);
        self.warn(&report);
        self.show(Some(report));
        tokio::select! {
            biased;
            // Changes that arrive at the same moment are covered by the same observation.
            () = changes.changed() => tokio::task::yield_now().await,
            () = self.context.clock.sleep_until(until) => {}
        }
    }

    async fn record(&mut self, at: Timestamp, events: Vec<Event>) -> Result<(), Problem> {
        let records = self.fold_in(at, events)?;
        append(&self.context, self.run.plan.run, self.seq, &records, self.state()).await?;
        self.seq += records.len() as u64;
        Ok(())
    }

    async fn record_durable(
        &mut self,
        at: Timestamp,
        event: Event,
        intent: Intent,
    ) -> Result<Durable<Intent>, Problem> {
        let records = self.fold_in(at, vec![event])?;
        let stream = self.run.plan.run;
        let encoded = encode(stream, &records)?;
        let began = Instant::now();
        let appended =
            self.context.journal.append_durable(stream, self.seq, encoded, self.state(), intent).await;
        self.context.metrics.record(Metric::Appended { took: began.elapsed() });
        self.seq += records.len() as u64;
        appended.map_err(|error| journal_problem(stream, &error))
    }

    /// Folds events into the state before they are written: an event that cannot be folded is never written.
    /// A record that follows from a decision carries the time of the decision, so that a replay evaluates the
    /// same deadlines.
    fn fold_in(&mut self, at: Timestamp, events: Vec<Event>) -> Result<Vec<Timed>, Problem> {
        let records: Vec<Timed> =
            events.into_iter().map(|event| Timed { at, event: records::fit_group(event) }).collect();
        let folded = records.iter().try_fold((*self.run).clone(), |run, record| fold(Some(run), record));
        self.run = Arc::new(folded.map_err(|error| internal(self.run.plan.run, &error))?);
        let scope = self.run.scope_after(&self.scope);
        if *self.scope != scope {
            self.scope = Arc::new(scope);
        }
        Ok(records)
    }

    fn state(&self) -> StreamState {
        if self.run.stage.is_final() { StreamState::Finished } else { StreamState::Open }
    }

    async fn pass(&self, step: Step, moment: Moment) {
        self.context.points.hit(Point::step(step, moment)).await;
    }

    /// Logs why the run is blocked, once for each cause.
    fn warn(&mut self, report: &WaitReport) {
        let has_room = self.warned.len() < limits::CAUSES_WARNED;
        if report.warns && has_room && self.warned.insert(report.text()) {
            let (row, cause) = (report.row, report.cause.map(Cause::name));
            tracing::warn!(row, cause, "{}", report.announcement());
        }
    }

    /// Publishes the status of the run, unless it is unchanged: a waiting run observes on every change that
    /// can affect it.
    fn show(&mut self, waiting: Option<Arc<WaitReport>>) {
        let ready = self.members.map(|((_, ready), _)| ready);
        let shown = Some((self.seq, waiting.clone(), ready));
        if self.shown == shown {
            return;
        }
        self.shown = shown;
        let head = self.context.journal.head();
        self.context.status_board.publish(RunStatus { run: self.run.clone(), waiting, ready, head });
    }

    fn overtaken(&self) -> Problem {
        let plan = &self.run.plan;
        Problem::new(
            Code::Overtaken,
            About::new("VolumeGroupSnapshot", &plan.namespace, &self.run.group_name()),
            format!(
                "a daemon of a newer epoch than {} has claimed it, or its Backup",
                self.context.journal.epoch()
            ),
            "this daemon ends without another write; look for the other one before it is started again",
        )
    }
}

/// The first record of a run, in folded and in encoded form.
///
/// # Errors
/// [`Code::TooManyMembers`] when the plan does not fit into a record: very many members with very long names.
pub fn first_record(
    plan: crate::domain::plan::Plan,
    at: Timestamp,
) -> Result<(Timed, crate::journal::Record), Problem> {
    let about = About::new("Group", &plan.namespace, &plan.group);
    let record = Timed { at, event: Event::Planned(Box::new(plan)) };
    match records::encode_group(&record) {
        Ok(encoded) => Ok((record, encoded)),
        Err(error) => {
            let fix = "split the group, or give its claims, volumes and handles shorter names";
            Err(Problem::new(Code::TooManyMembers, about, error.to_string(), fix))
        }
    }
}

fn log_failures(effects: &[(EffectRef, Effect)], outcomes: &[Outcome]) {
    for ((mark, effect), outcome) in effects.iter().zip(outcomes) {
        let call = || format!("{} {}", mark.kind.verb(), effect.about());
        match outcome {
            Outcome::Done { .. } => {}
            Outcome::Determinate { code, message } => {
                tracing::warn!(call = call(), code, message, "the API server refused a call");
            }
            Outcome::Indeterminate { message } => {
                tracing::warn!(call = call(), message, "it is not known whether a call happened");
            }
        }
    }
}

fn count(metrics: &dyn MetricsSink, kinds: &[EffectKind], outcomes: &[Outcome]) {
    for (kind, outcome) in kinds.iter().zip(outcomes) {
        let outcome = match outcome {
            Outcome::Done { .. } => "done",
            Outcome::Determinate { .. } => "determinate",
            Outcome::Indeterminate { .. } => "indeterminate",
        };
        metrics.record(Metric::Effect { kind: kind_name(*kind), outcome });
    }
}

/// As in the records: the variant in camelCase.
fn kind_name(kind: EffectKind) -> &'static str {
    match kind {
        EffectKind::CreateGroup => "createGroup",
        EffectKind::ClaimGroup => "claimGroup",
        EffectKind::LabelMember => "labelMember",
        EffectKind::SetGroupContentPolicy => "setGroupContentPolicy",
        EffectKind::SetContentPolicy => "setContentPolicy",
        EffectKind::SetGroupName => "setGroupName",
        EffectKind::DetachMember => "detachMember",
        EffectKind::DeleteGroup => "deleteGroup",
        EffectKind::MarkGroupContent => "markGroupContent",
        EffectKind::DeleteGroupContent => "deleteGroupContent",
        EffectKind::CreateContent => "createContent",
        EffectKind::CreateSnapshot => "createSnapshot",
        EffectKind::CreateStub => "createStub",
        EffectKind::DeleteSnapshot => "deleteSnapshot",
        EffectKind::DeleteContent => "deleteContent",
        EffectKind::CreateImport => "createImport",
    }
}

fn encode(stream: StreamId, records: &[Timed]) -> Result<Vec<crate::journal::Record>, Problem> {
    records
        .iter()
        .map(records::encode_group)
        .collect::<Result<_, _>>()
        .map_err(|error| internal(stream, &error))
}

async fn append(
    context: &Context,
    stream: StreamId,
    seq: u64,
    records: &[Timed],
    state: StreamState,
) -> Result<(), Problem> {
    let encoded = encode(stream, records)?;
    let began = Instant::now();
    let appended = context.journal.append(stream, seq, encoded, state).await;
    context.metrics.record(Metric::Appended { took: began.elapsed() });
    appended.map(|_| ()).map_err(|error| journal_problem(stream, &error))
}

/// The daemon ends on this error: records that were not written did not happen, and the next start continues
/// from the last written record.
pub(super) fn journal_problem(stream: StreamId, error: &dyn std::error::Error) -> Problem {
    Problem::new(
        Code::JournalIo,
        About::new("Run", "", &stream.to_string()),
        format!("the journal does not take records: {error}"),
        "mend the disk or make room on it and start the daemon again; it goes on from its last durable record",
    )
}

pub(super) fn internal(stream: StreamId, error: &dyn std::error::Error) -> Problem {
    Problem::new(
        Code::Internal,
        About::new("Run", "", &stream.to_string()),
        error.to_string(),
        "this is a defect of Stillpoint: keep the journal and report it",
    )
}
