//! Runs one incarnation of the daemon: every run, every Backup, every projection.
//!
//! [`Engine::run`] is one future that holds all of them. Dropping it ends this incarnation at once, without
//! another poll; a drill uses this as a kill. The future returns only when the daemon has to end: the journal
//! cannot be written, a newer daemon took over, or there is a defect.
//!
//! | module | holds |
//! |---|---|
//! | [`daemon`] | runs one daemon: open the journal, reach the cluster, run the engine |
//! | [`driver`] | the one loop of a run of any machine |
//! | [`driven`] | what a machine observes and publishes |
//! | [`binding`], [`foreign`] | which journal may write to this cluster |
//! | [`backup`] | one Backup, from its object to its end |
//! | [`runs`] | starts runs, each in a task of its own |
//! | `group` | what a group run observes and publishes |
//! | [`preflight`] | checks permissions and names before the first group of a Backup |
//! | [`backup_spec`], [`inventory`] | convert objects to the input of planning |
//! | [`cache`] | the caches, and the subscriptions to their changes |
//! | [`run_status`], [`projection`] | the published status of the runs |
//! | [`recover_from_cluster`] | rebuilds a lost journal from the cluster |
//! | [`archiving`] | when finished runs are archived |
//! | [`socket`] | serves the journal to readers while the daemon runs |
//! | [`events`], [`telemetry`] | Kubernetes Events; metrics |
//! | [`crash_points`] | crash points |
//! | [`health`] | liveness and readiness |
//! | [`clock`] | time |
//!
//! Not here: decisions (`machine`), API calls (`cluster`), storage of the journal (`journal`).

pub mod archiving;
pub mod backup;
pub mod backup_spec;
pub mod binding;
pub mod cache;
pub mod clock;
pub mod crash_points;
pub mod daemon;
pub mod deleted_backup;
pub mod driven;
pub mod driver;
pub mod events;
pub mod foreign;
mod group;
pub mod health;
pub mod inventory;
pub mod preflight;
pub mod projection;
pub mod reasons;
pub mod recover_from_cluster;
pub mod run_status;
pub mod runs;
mod snapshots;
pub mod socket;
pub mod telemetry;
mod unknown_fields;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::cluster::Adapter;
use crate::cluster::kinds::Backup;
use crate::domain::ids::{ObjectId, StreamId};
use crate::domain::limits;
use crate::domain::problem::Problem;
use crate::domain::time::Timestamp;
use crate::engine::backup_spec::Defaults;
use crate::engine::binding::{Binder, BindingOptions};
use crate::engine::cache::Cache;
use crate::engine::clock::Clock;
use crate::engine::crash_points::CrashPoints;
use crate::engine::driver::{Context, Driver, journal_problem};
use crate::engine::run_status::{Published, StatusBoard};
use crate::engine::runs::{RunState, Runs, Started, fold_group};
use crate::engine::telemetry::MetricsSink;
use crate::journal::{Entry, Journal, JournalError, Opened};
use crate::machine::group::Event as GroupEvent;
use crate::machine::group::reconstruct::{Reconstructed, Standing};
use crate::machine::group::{GroupMachine, Stage};
use crate::machine::kit::Logic;
use crate::records::{self, Decoded};

/// Options of one incarnation of the daemon.
pub struct Config {
    /// Stillpoint's own namespace: the daemon processes its Backups.
    pub namespace: String,
    /// Options that apply to every Backup.
    pub defaults: Defaults,
    pub points: CrashPoints,
    /// The decisions of group runs.
    pub group_logic: Logic<GroupMachine>,
    pub clock: Clock,
    /// How the journal is bound to the cluster.
    pub binding: BindingOptions,
}

type Work = Pin<Box<dyn Future<Output = Result<Done, Problem>> + Send>>;

/// The result of a task.
enum Done {
    /// A started or resumed run.
    Run(StreamId),
    /// A Backup.
    Backup(StreamId),
    /// The list of Backups may have changed.
    BackupsChanged,
}

/// One incarnation of the daemon.
pub struct Engine {
    context: Context,
    config: Config,
    opened: Opened,
    /// Runs that were started and are not driven.
    started: mpsc::UnboundedReceiver<Started>,
    /// Taken when the engine starts to run.
    event_queue: Option<events::EventQueue>,
    _watches: cache::Watches,
}

/// Tasks in progress.
#[derive(Default)]
struct Tasks {
    work: FuturesUnordered<Work>,
    /// Backups that this incarnation has started to process.
    backups: BTreeSet<StreamId>,
}

impl Engine {
    /// Starts the caches. Nothing is written to the cluster before [`Engine::run`].
    pub fn new(adapter: Adapter, journal: Journal, opened: Opened, config: Config) -> Self {
        Self::observed(adapter, journal, opened, config, telemetry::none())
    }

    /// As [`Engine::new`], with a sink that receives all metrics.
    pub fn observed(
        adapter: Adapter,
        journal: Journal,
        opened: Opened,
        config: Config,
        metrics: Arc<dyn MetricsSink>,
    ) -> Self {
        let mut config = config;
        config.clock = config.clock.not_before(last_time(&opened));
        let (cache, watches) = Cache::start(&adapter, &config.namespace, journal.epoch());
        let (recorder, event_queue) = events::queue(metrics.clone());
        let binder = Binder::open(
            &adapter,
            &cache,
            &journal,
            config.clock,
            &config.namespace,
            config.binding,
            &opened.streams,
        );
        let (runs, started) = Runs::new();
        let context = Context {
            adapter,
            cache,
            journal,
            clock: config.clock,
            points: config.points.clone(),
            group_logic: config.group_logic,
            defaults: config.defaults.clone(),
            status_board: StatusBoard::default(),
            backups: Published::default(),
            runs,
            metrics,
            recorder,
            granted: preflight::Granted::default(),
            binder,
        };
        Self { context, config, opened, started, event_queue: Some(event_queue), _watches: watches }
    }

    /// The published status of the runs.
    pub fn status_board(&self) -> StatusBoard {
        self.context.status_board.clone()
    }

    /// What a [`Driver`] of any machine needs.
    pub fn context(&self) -> Context {
        self.context.clone()
    }

    pub fn cache(&self) -> Cache {
        self.context.cache.clone()
    }

    /// Fills the caches, resumes the unfinished streams of the journal, then processes Backups.
    ///
    /// # Errors
    /// Always returns one: why this incarnation of the daemon ended.
    pub async fn run(mut self) -> Problem {
        let telling =
            events::deliver(self.context.adapter.clone(), self.context.clock, self.event_queue.take());
        tokio::select! {
            biased;
            problem = self.work() => problem,
            never = telling => match never {},
        }
    }

    /// Nothing is written to the cluster before the journal is bound to it.
    async fn work(self) -> Problem {
        let (context, namespace) = (self.context.clone(), self.config.namespace.clone());
        // A missing permission to list or watch would leave the caches empty for ever, so it is reported
        // first.
        tokio::join!(preflight::review_at_start(&context, &namespace), context.cache.synced());
        if let Err(problem) = preflight::refuse_velero_namespace(&context, &namespace).await {
            return problem;
        }
        if let Err(problem) = context.binder.bind().await {
            return problem;
        }
        tokio::select! {
            biased;
            problem = context.binder.guard() => problem,
            problem = self.serve() => problem,
        }
    }

    async fn serve(mut self) -> Problem {
        let mut tasks = Tasks::default();
        if let Err(problem) = self.resume(&mut tasks).await {
            return problem;
        }
        if let Err(problem) = self.release_again(&mut tasks).await {
            return problem;
        }
        tasks.work.push(Box::pin(std::future::ready(Ok(Done::BackupsChanged))));
        loop {
            tokio::select! {
                biased;
                Some(Started::Group(driver)) = self.started.recv() => {
                    self.drive(&tasks, *driver);
                }
                done = tasks.work.next() => match done {
                    Some(Ok(done)) => self.done(&mut tasks, done),
                    Some(Err(problem)) => return problem,
                    None => {}
                }
            }
        }
    }

    /// Resumes unfinished streams in batches: the first runs continue while the last are still being folded.
    /// Requests to start runs wait until all streams are resumed. All runs count as in progress from the start, so
    /// that no Backup reads the records of a run that is about to be resumed.
    async fn resume(&mut self, tasks: &mut Tasks) -> Result<(), Problem> {
        let objects = self.context.cache.backups().into_iter().map(|object| (id(&object), object));
        let objects: BTreeMap<StreamId, Arc<Backup>> = objects.collect();
        for (stream, entries) in &self.opened.streams {
            if entries.first().is_some_and(|first| first.record.kind == records::kind::GROUP_PLANNED) {
                self.context.runs.set(StreamId(*stream), RunState::InProgress);
            }
        }
        for (number, (stream, entries)) in std::mem::take(&mut self.opened.streams).into_iter().enumerate() {
            if number % limits::RESUMED_AT_ONCE == limits::RESUMED_AT_ONCE - 1 {
                self.turn(tasks).await?;
            }
            let stream = StreamId(stream);
            if is_binding(&entries) {
                continue;
            }
            match kind(stream, &entries)? {
                Some(Kind::Group) => {
                    if let Some(run) = fold_group(stream, &entries)? {
                        tracing::info!(run = %stream, state = run.state_name(), "resuming");
                        self.drive(tasks, Driver::resume(self.context.clone(), run, entries.len() as u64));
                    }
                }
                Some(Kind::Backup) => {
                    self.take_backup(tasks, stream, objects.get(&stream).cloned());
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Releases completed runs again whose group objects are in the cluster again because it went back in
    /// time. Their members belong to the group and would be deleted with it.
    async fn release_again(&self, tasks: &mut Tasks) -> Result<(), Problem> {
        for stream in self.context.cache.runs_with_group() {
            if self.context.runs.state(stream).is_some() {
                continue;
            }
            let entries = match self.context.journal.stream(stream).await {
                Err(error @ JournalError::ArchiveMissing { .. }) => {
                    tracing::error!(
                        run = %stream, %error,
                        "group objects of a run that is over are in the cluster again: {}", error.fix()
                    );
                    continue;
                }
                entries => entries.map_err(|error| journal_problem(stream, &error))?,
            };
            let Some(run) = fold_group(stream, &entries)? else { continue };
            // A failed run has freed its storage: objects that exist now are left to the operator.
            if run.stage != Stage::Completed {
                tracing::warn!(run = %stream, state = run.state_name(), "group objects of a run that is over");
                continue;
            }
            self.context.binder.shows_again(stream).await?;
            let found = Reconstructed {
                standing: Standing::Released,
                attempt: run.attempt,
                group_uid: run.state.group_uid.clone(),
                receipt: None,
                seen: vec!["the cluster went back in time: the group objects are there again".to_owned()],
            };
            let driver = Driver::reconstruct(self.context.clone(), run, entries.len() as u64, found).await?;
            tracing::warn!(run = %stream, "its group is in the cluster again: the members are released again");
            self.drive(tasks, driver);
        }
        Ok(())
    }

    /// Polls all tasks in progress as far as they can go without waiting.
    async fn turn(&self, tasks: &mut Tasks) -> Result<(), Problem> {
        loop {
            tokio::select! {
                biased;
                Some(done) = tasks.work.next() => self.done(tasks, done?),
                () = tokio::task::yield_now() => return Ok(()),
            }
        }
    }

    /// Drives a run that is in the journal, in a task of its own.
    fn drive(&self, tasks: &Tasks, driver: Driver<GroupMachine>) {
        let (context, stream) = (self.context.clone(), driver.plan_of().run);
        context.runs.set(stream, RunState::InProgress);
        tasks.work.push(Box::pin(async move {
            runs::drive(context, driver, stream).await?;
            Ok(Done::Run(stream))
        }));
    }

    fn take_backup(&self, tasks: &mut Tasks, stream: StreamId, object: Option<Arc<Backup>>) {
        if tasks.backups.insert(stream) {
            let context = self.context.clone();
            tasks.work.push(Box::pin(async move {
                backup::take(context, stream, object).await?;
                Ok(Done::Backup(stream))
            }));
        }
    }

    fn refuse_malformed(&self, tasks: &mut Tasks, object: ObjectId, error: String) {
        let stream = StreamId::of_backup(&object.uid.0);
        if tasks.backups.insert(stream) {
            let context = self.context.clone();
            tasks.work.push(Box::pin(async move {
                backup::refuse_malformed(&context, &object, &error).await;
                Ok(Done::Backup(stream))
            }));
        }
    }

    fn done(&self, tasks: &mut Tasks, done: Done) {
        match done {
            Done::Run(stream) => {
                self.context.runs.set(stream, RunState::Over);
                self.context.cache.run_ended(stream);
            }
            Done::BackupsChanged => {
                for object in self.context.cache.backups().into_iter().filter(|object| is_new(object)) {
                    self.take_backup(tasks, id(&object), Some(object));
                }
                for (object, error) in self.context.cache.malformed_backups() {
                    self.refuse_malformed(tasks, object, error);
                }
                let cache = self.context.cache.clone();
                tasks.work.push(Box::pin(async move {
                    cache.backups_changed().await;
                    Ok(Done::BackupsChanged)
                }));
            }
            Done::Backup(stream) => tracing::debug!(%stream, "the Backup is done"),
        }
    }
}

fn id(backup: &Backup) -> StreamId {
    StreamId::of_backup(backup.metadata.uid.as_deref().unwrap_or_default())
}

/// Whether a Backup has not ended. Velero's other phases (Deleting and later ones) are not handled.
fn is_new(backup: &Backup) -> bool {
    let phase = backup.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    backup.metadata.deletion_timestamp.is_none() && matches!(phase, "" | "New" | "InProgress")
}

/// Time of the last record of an unfinished stream. Finished streams have no deadlines.
fn last_time(opened: &Opened) -> Timestamp {
    let unfinished = opened.streams.iter().filter(|(_, entries)| !is_binding(entries));
    let entries = unfinished.flat_map(|(_, entries)| entries);
    Timestamp(entries.map(|entry| entry.record.time_ns).max().unwrap_or(i64::MIN))
}

/// Whether a stream holds the records of the binding.
fn is_binding(entries: &[Entry]) -> bool {
    entries.first().is_some_and(|entry| crate::records::binding::is_binding(&entry.record))
}

enum Kind {
    Group,
    Backup,
}

/// The first record determines the kind of a stream.
fn kind(stream: StreamId, entries: &[Entry]) -> Result<Option<Kind>, Problem> {
    let Some(first) = entries.first() else { return Ok(None) };
    match records::decode(&first.record).map_err(|error| driver::internal(stream, &error))? {
        Decoded::Group(record) => Ok(matches!(record.event, GroupEvent::Planned(_)).then_some(Kind::Group)),
        Decoded::Backup(_) | Decoded::EarlierBackup { .. } => Ok(Some(Kind::Backup)),
    }
}
