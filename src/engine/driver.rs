//! Drives one run of any machine in a single loop: observe → decide → intent → durable → effects → outcomes →
//! durable.
//!
//! One [`Driver`] runs one run from the last record of its journal to its end. A start is the recovery of an
//! empty journal: there is no other entry point. The driver is the only caller of [`Adapter::perform`].

mod append;
mod free_permission;
mod next_action;
mod requests;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;
use tracing::Instrument;

use crate::cluster::{Adapter, EffectResult, classify};
use crate::domain::ids::StreamId;
use crate::domain::limits;
use crate::domain::problem::{About, Code, Problem};
use crate::domain::time::Timestamp;
use crate::engine::backup_spec::Defaults;
use crate::engine::binding::Binder;
use crate::engine::cache::{Cache, MinVersions, ReadError, Subscription};
use crate::engine::clock::Clock;
use crate::engine::crash_points::CrashPoints;
use crate::engine::driven::Driven;
use crate::engine::events::EventRecorder;
use crate::engine::preflight::Granted;
use crate::engine::run_status::{Published, StatusBoard};
use crate::engine::runs::{self, Runs};
use crate::engine::telemetry::{Metric, MetricsSink};
use crate::journal::{AppendError, Durable, Journal, Record, StreamState};
use crate::machine::backup::BackupRun;
use crate::machine::group::GroupMachine;
use crate::machine::kit::wait_report::Cause;
use crate::machine::kit::{
    Calls, DecisionRecord, EffectReference, Event, Intent, Logic, Moment, Named, Outcome, Place, Point, Run,
    Stage, Timed, WaitReport, fold,
};

use append::{append, barrier, encode};
use next_action::NextAction;

/// Dependencies that all runs share: the adapter to the cluster, the caches, the journal, the clock.
#[derive(Clone)]
pub struct Context {
    pub adapter: Adapter,
    pub cache: Cache,
    pub journal: Journal,
    pub clock: Clock,
    pub points: CrashPoints,
    /// The decisions of group runs.
    pub group_logic: Logic<GroupMachine>,
    /// Options that apply to every Backup.
    pub defaults: Defaults,
    /// Receives the published status of the group runs.
    pub status_board: StatusBoard,
    /// Receives the published state of the Backups.
    pub backups: Published<BackupRun>,
    /// The runs of this incarnation.
    pub runs: Runs,
    /// Receives metrics.
    pub metrics: Arc<dyn MetricsSink>,
    /// Queues Kubernetes Events.
    pub recorder: EventRecorder,
    /// The permissions that a review found granted.
    pub granted: Granted,
    /// The binding of the journal to the cluster.
    pub binder: Binder,
}

/// What became of a run that was started.
pub enum Planned<M: Driven> {
    /// It has begun.
    New(Box<Driver<M>>),
    /// It had begun before, with the same plan.
    Same,
    /// It had begun before, with another plan.
    Other,
}

/// One run in progress.
pub struct Driver<M: Driven> {
    context: Context,
    stream: StreamId,
    logic: Logic<M>,
    /// Shared with readers of the run's status.
    run: Arc<Run<M>>,
    /// Names and ids that the run observes in the cluster. The scope changes only with the run, and computing
    /// its names takes time.
    scope: Arc<M::Scope>,
    memory: M::Memory,
    seq: u64,
    fresh: bool,
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

impl<M: Driven> Driver<M> {
    /// A run that is already in the journal: `run` is the fold of its `seq` records.
    pub fn resume(context: Context, run: Run<M>, seq: u64) -> Self {
        let logic = M::logic(&context);
        let scope = Arc::new((logic.scope)(&run, None));
        Self {
            stream: M::stream(&run.plan),
            logic,
            context,
            run: Arc::new(run),
            scope,
            memory: M::Memory::default(),
            seq,
            fresh: false,
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
    /// The plan does not fit into a record, or the journal cannot be written; the daemon has to end.
    pub async fn plan(context: Context, plan: M::Plan) -> Result<Self, Problem> {
        let stream = M::stream(&plan);
        match Self::start(context, plan).await? {
            Planned::New(driver) => Ok(*driver),
            Planned::Same | Planned::Other => Err(internal(stream, &HasBegun)),
        }
    }

    /// A new run, unless its stream has records: its plan becomes the first one.
    ///
    /// # Errors
    /// As [`Driver::plan`].
    pub async fn start(context: Context, plan: M::Plan) -> Result<Planned<M>, Problem> {
        context.points.hit(Point::new(Place::planned::<M>(), Moment::BeforeRecord)).await;
        let stream = M::stream(&plan);
        let record = Timed { at: context.clock.now(), event: Event::Planned(Box::new(plan)) };
        let run = fold(None, &record).map_err(|error| internal(stream, &error))?;
        let encoded = encode::<M>(stream, std::slice::from_ref(&record))?;
        let began = Instant::now();
        let appended = context.journal.append(stream, 0, encoded.clone(), StreamState::Open).await;
        context.metrics.record(Metric::Appended { took: began.elapsed() });
        match appended {
            Err(AppendError::Sequence { .. }) => {
                let present = context.journal.stream(stream).await;
                let present = present.map_err(|error| journal_problem(stream, &error))?;
                let payload = |record: &Record| (record.kind, record.version, record.payload.clone());
                let first = present.first().map(|entry| payload(&entry.record));
                let same = first == encoded.first().map(payload);
                return Ok(if same { Planned::Same } else { Planned::Other });
            }
            appended => appended.map_err(|error| journal_problem(stream, &error))?,
        };
        context.points.hit(Point::new(Place::planned::<M>(), Moment::AfterRecord)).await;
        Ok(Planned::New(Box::new(Self::resume(context, run, 1))))
    }

    /// Records what was found in the cluster about a run that is over.
    ///
    /// # Errors
    /// The journal cannot be written; the daemon has to end.
    pub async fn reconstruct(
        context: Context,
        run: Run<M>,
        seq: u64,
        found: M::Reconstructed,
    ) -> Result<Self, Problem> {
        let mut driver = Self::resume(context, run, seq);
        let at = driver.context.clock.now();
        driver.record(at, vec![Event::Reconstructed(Box::new(found))]).await?;
        Ok(driver)
    }

    pub fn plan_of(&self) -> &M::Plan {
        &self.run.plan
    }

    /// Drives the run to its end. State that a run needs only occasionally is boxed: thousands of runs only
    /// wait.
    ///
    /// # Errors
    /// The journal cannot be written, a newer daemon took over the run, or the table has no matching row: the
    /// daemon ends.
    pub async fn run(mut self) -> Result<Arc<Run<M>>, Problem> {
        let mut changes = M::subscribe(&self.context, &self.scope);
        self.show(None);
        loop {
            M::set_interest(&mut changes, &self.scope);
            if let Some(request) = self.request() {
                Box::pin(self.record_request(request)).await?;
                continue;
            }
            match self.next()? {
                NextAction::Act { step, row, grounds, effects, now } => {
                    let span = tracing::info_span!("step", step = step.name());
                    Box::pin(self.act(step, row, *grounds, effects, now).instrument(span)).await?;
                }
                NextAction::Record { milestone, row, events, now } => {
                    Box::pin(self.advance(milestone, row, events, now)).await?;
                }
                NextAction::Refresh(row) => Box::pin(self.refresh(row)).await?,
                NextAction::Permit(row) => Box::pin(self.permit(row, &changes)).await?,
                NextAction::Wait { until, report } => self.wait(&mut changes, until, report).await,
                NextAction::StepDown => return Err(self.overtaken()),
                NextAction::Done => {
                    M::ended(&self.context, &self.run);
                    self.show(None);
                    return Ok(self.run);
                }
            }
        }
    }

    /// Executes a step: intent, durable, effects, outcomes, durable.
    async fn act(
        &mut self,
        step: M::Step,
        row: &'static str,
        grounds: DecisionRecord,
        effects: Vec<(M::EffectRef, M::Effect)>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let began = Instant::now();
        let marks: Vec<_> = effects.iter().map(|(mark, _)| *mark).collect();
        let intent = Intent { effects: effects.iter().map(|(_, effect)| M::calls(effect)).collect() };
        // Effects on the run itself (mark, then delete) keep their order; effects on members are concurrent.
        let ordered = marks.iter().all(|mark| mark.member().is_none());
        let starts = intent.effects.iter().all(|calls| matches!(calls, Calls::StartRun(_)));
        let width = match () {
            () if ordered => 1,
            () if starts => limits::STARTS_AT_ONCE,
            () => limits::EFFECTS_PER_RUN,
        };
        self.hit(step, Moment::BeforeIntent).await;
        let event = Event::Intended { grounds, step, marks: marks.clone() };
        let durable = self.record_durable(now, event, intent).await?;
        self.show(None);
        self.hit(step, Moment::AfterIntent).await;
        let outcomes = self.perform(&durable, step, width).await?;
        (self.fresh, self.permitted) = (false, false);
        self.hit(step, Moment::AfterEffects).await;
        let certain = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done { .. }));
        log_failures(&durable.get().effects, &outcomes);
        count(&*self.context.metrics, &marks, &outcomes);
        self.record(self.context.clock.now(), vec![Event::StepCompleted { step, outcomes }]).await?;
        tracing::debug!(effects = marks.len(), row, "step done");
        self.context.metrics.record(Metric::Step { step: step.name(), took: began.elapsed() });
        self.hit(step, Moment::AfterOutcome).await;
        if !certain {
            // Read before the step is retried. While no read succeeds, nothing is written, and an API server
            // that is unavailable does not count as one that refuses.
            while !self.fresh {
                self.refresh(row).await?;
            }
            // This read cannot justify a delete: it may be older than the pause that now follows.
            self.fresh = false;
        }
        Ok(())
    }

    /// Performs all effects of an intent. If crash points are hooked, in two halves.
    ///
    /// # Errors
    /// The journal cannot be written, where an effect starts a run: the daemon ends.
    async fn perform(
        &self,
        intent: &Durable<Intent>,
        step: M::Step,
        width: usize,
    ) -> Result<Vec<Outcome>, Problem> {
        let count = intent.get().effects.len();
        let half = if self.context.points.watched() { count / 2 } else { 0 };
        let mut outcomes = self.perform_range(intent, 0..half, step, width).await?;
        self.hit(step, Moment::MidEffects).await;
        outcomes.extend(self.perform_range(intent, half..count, step, width).await?);
        Ok(outcomes)
    }

    async fn perform_range(
        &self,
        intent: &Durable<Intent>,
        range: std::ops::Range<usize>,
        step: M::Step,
        width: usize,
    ) -> Result<Vec<Outcome>, Problem> {
        let one = |index: usize| async move {
            if let Some(Calls::StartRun(plan)) = intent.get().effects.get(index) {
                return runs::start(&self.context, plan).await;
            }
            let performed = self.perform_one(intent, index, step).await;
            if let Some(object) = performed.object {
                self.context.cache.upsert(object);
            }
            Ok(performed.outcome)
        };
        futures::stream::iter(range).map(one).buffered(width).try_collect().await
    }

    /// Performs one effect. A refused create ends the run, but an API server that has just started refuses
    /// every request. Such a create certainly did not happen, and is repeated for a limited time.
    async fn perform_one(&self, intent: &Durable<Intent>, index: usize, step: M::Step) -> EffectResult {
        let doubted = self.context.clock.now().after(limits::REFUSAL_DOUBTED);
        let mut tries = 0;
        loop {
            let performed = self.context.adapter.perform(intent, index).await;
            let refused = M::doubts_refusal(step) && classify::is_unauthorized(&performed.outcome);
            if !refused || self.context.clock.now() >= doubted {
                return performed;
            }
            tries += 1;
            let pause = limits::backoff(tries);
            tracing::warn!(outcome = ?performed.outcome, "an API server that has just started refuses everybody: trying again in {pause}");
            self.context.clock.pause(tries).await;
        }
    }

    /// Records a milestone: one batch of records, without effects.
    async fn advance(
        &mut self,
        milestone: M::Milestone,
        row: &'static str,
        events: Vec<Event<M>>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let place = Place::milestone::<M>(milestone);
        self.context.points.hit(Point::new(place, Moment::BeforeRecord)).await;
        self.record(now, events).await?;
        self.log(milestone, row);
        self.show(None);
        self.context.points.hit(Point::new(place, Moment::AfterRecord)).await;
        Ok(())
    }

    /// Logs a milestone. If the user has to know about it, the log line is a warning with the reason.
    fn log(&self, milestone: M::Milestone, row: &'static str) {
        match self.run.reason.as_ref().filter(|_| M::warns(milestone)) {
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
    /// The journal cannot be read, or the cluster went back in time: the daemon ends, and the next start reads
    /// everything again.
    async fn refresh(&mut self, row: &'static str) -> Result<(), Problem> {
        let known = *self.looking.get_or_insert_with(|| self.context.cache.min_versions());
        let read = M::read(&self.context, &self.scope, &known, &mut self.memory).await;
        self.fresh = read.is_ok();
        match read {
            Ok(()) => {
                (self.trouble, self.trouble_since) = (0, None);
                (self.looking, self.behind_since) = (None, None);
            }
            Err(ReadError::Journal(problem)) => return Err(problem),
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

    async fn record(&mut self, at: Timestamp, events: Vec<Event<M>>) -> Result<(), Problem> {
        let records = self.fold_in(at, events)?;
        append::<M>(&self.context, self.stream, self.seq, &records, self.state()).await?;
        self.seq += records.len() as u64;
        Ok(())
    }

    async fn record_durable(
        &mut self,
        at: Timestamp,
        event: Event<M>,
        intent: Intent,
    ) -> Result<Durable<Intent>, Problem> {
        let barrier = barrier::<M>(&event);
        let records = self.fold_in(at, vec![event])?;
        let encoded = encode::<M>(self.stream, &records)?;
        let began = Instant::now();
        let appended = self
            .context
            .journal
            .append_durable_with(barrier, self.stream, self.seq, encoded, self.state(), intent)
            .await;
        self.context.metrics.record(Metric::Appended { took: began.elapsed() });
        self.seq += records.len() as u64;
        appended.map_err(|error| journal_problem(self.stream, &error))
    }

    /// Folds events into the state before they are written: an event that cannot be folded is never written.
    /// A record that follows from a decision carries the time of the decision, so that a replay evaluates the
    /// same deadlines.
    fn fold_in(&mut self, at: Timestamp, events: Vec<Event<M>>) -> Result<Vec<Timed<M>>, Problem> {
        let records: Vec<Timed<M>> =
            events.into_iter().map(|event| Timed { at, event: M::fit(event) }).collect();
        let folded = records.iter().try_fold((*self.run).clone(), |run, record| fold(Some(run), record));
        self.run = Arc::new(folded.map_err(|error| internal(self.stream, &error))?);
        let scope = (self.logic.scope)(&self.run, Some(&self.scope));
        if *self.scope != scope {
            self.scope = Arc::new(scope);
        }
        Ok(records)
    }

    fn state(&self) -> StreamState {
        match self.run.stage.is_final() {
            false => StreamState::Open,
            true if M::holds(&self.run) => StreamState::Holding,
            true => StreamState::Finished,
        }
    }

    async fn hit(&self, step: M::Step, moment: Moment) {
        self.context.points.hit(Point::new(Place::step::<M>(step), moment)).await;
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
        let shown = Some((self.seq, waiting.clone(), M::shown(&self.memory)));
        if self.shown == shown {
            return;
        }
        self.shown = shown;
        M::publish(&self.context, &self.run, waiting, &self.memory);
    }

    fn overtaken(&self) -> Problem {
        Problem::new(
            Code::Overtaken,
            M::claimed(&self.run),
            format!(
                "a daemon of a newer epoch than {} has claimed it, or its Backup",
                self.context.journal.epoch()
            ),
            "this daemon ends without another write; look for the other one before it is started again",
        )
    }
}

/// A run is planned that has begun.
#[derive(Debug, thiserror::Error)]
#[error("the run has records already")]
struct HasBegun;

fn log_failures(effects: &[Calls], outcomes: &[Outcome]) {
    for (calls, outcome) in effects.iter().zip(outcomes) {
        match outcome {
            Outcome::Done { .. } => {}
            Outcome::Determinate { code, message } => {
                tracing::warn!(call = %calls, code, message, "the API server refused a call");
            }
            Outcome::Indeterminate { message } => {
                tracing::warn!(call = %calls, message, "it is not known whether a call happened");
            }
        }
    }
}

fn count(metrics: &dyn MetricsSink, marks: &[impl EffectReference], outcomes: &[Outcome]) {
    for (mark, outcome) in marks.iter().zip(outcomes) {
        let outcome = match outcome {
            Outcome::Done { .. } => "done",
            Outcome::Determinate { .. } => "determinate",
            Outcome::Indeterminate { .. } => "indeterminate",
        };
        metrics.record(Metric::Effect { kind: mark.kind(), outcome });
    }
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

pub(crate) fn internal(stream: StreamId, error: &dyn std::error::Error) -> Problem {
    Problem::new(
        Code::Internal,
        About::new("Run", "", &stream.to_string()),
        error.to_string(),
        "this is a defect of Stillpoint: keep the journal and report it",
    )
}
