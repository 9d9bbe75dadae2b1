//! Keeps this journal bound to this cluster while the daemon runs.
//!
//! [`Binder::bind`] comes before the first write. It reads the binding, judges it
//! ([`crate::domain::binding::judge`]) and writes it; a record precedes and follows each write.
//! [`Binder::guard`] then watches the binding, renews it, and ends the daemon when another journal or a newer
//! start is bound. [`Binder::may_free`] reads the binding again before every step that frees storage.
//!
//! Not here: the fields of the binding in the cluster (`cluster::binding`), and its records
//! (`records::binding`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use tokio::sync::watch;
use uuid::Uuid;

use crate::cluster::Adapter;
use crate::cluster::binding::{self, Wanted, Written};
use crate::cluster::kinds::Backup;
use crate::cluster::observe;
use crate::domain::binding::{
    Binding, BindingMark, BindingRefusal, BindingState, Judgement, Standing, compare, judge,
};
use crate::domain::ids::{StreamId, Uid};
use crate::domain::limits;
use crate::domain::plan::Plan;
use crate::domain::problem::{About, Code, Problem};
use crate::domain::time::Timestamp;
use crate::engine::cache::Cache;
use crate::engine::clock::Clock;
use crate::engine::driver::{internal, journal_problem};
use crate::engine::foreign;
use crate::engine::runs::fold_group;
use crate::journal::{Appended, Entry, Journal, JournalError, StreamState};
use crate::machine::group::Stage;
use crate::records::binding::{self as records, BindingEvent, BindingRecord};

/// Options of the binding.
#[derive(Debug, Clone, Copy)]
pub struct BindingOptions {
    /// Id of this start. It becomes the id of a journal that has none.
    pub start: Uuid,
    /// The journal that this one replaces, at the request of an operator.
    pub take_over: Option<Uuid>,
    /// Free no storage.
    pub no_free: bool,
    /// False: behave like the releases without a binding. Drills use it for a second daemon that no binding
    /// restrains.
    pub bound: bool,
}

impl BindingOptions {
    /// A daemon that is bound, takes over no journal and may free storage.
    pub fn new(start: Uuid) -> Self {
        Self { start, take_over: None, no_free: false, bound: true }
    }
}

/// State of the binding in this incarnation.
struct Held {
    state: BindingState,
    roll: u64,
    /// The open stream and the sequence of its last record; none before the first record of this incarnation.
    stream: Option<(StreamId, u64)>,
    /// Open streams of earlier incarnations, to be closed.
    older: Vec<(StreamId, u64)>,
    /// `noFree` of the binding.
    no_free: bool,
    /// Why the records of the binding cannot be read.
    unreadable: Option<Problem>,
}

/// The binding of one incarnation of the daemon. Cheap to clone.
#[derive(Clone)]
pub struct Binder {
    inner: Arc<Inner>,
}

struct Inner {
    adapter: Adapter,
    cache: Cache,
    journal: Journal,
    clock: Clock,
    namespace: String,
    options: BindingOptions,
    held: Mutex<Held>,
    changed: watch::Sender<u64>,
    /// Serializes writes.
    turn: tokio::sync::Mutex<()>,
}

impl Binder {
    /// Builds the binder from the records in the journal; writes nothing. Unreadable records are an error of
    /// [`Self::bind`].
    pub fn open(
        adapter: &Adapter,
        cache: &Cache,
        journal: &Journal,
        clock: Clock,
        namespace: &str,
        options: BindingOptions,
        streams: &[(Uuid, Vec<Entry>)],
    ) -> Self {
        let read = records::newest(streams);
        let unreadable = read.as_ref().err().map(|error| internal(StreamId(options.start), error));
        let read = read.unwrap_or_default();
        let state = read.as_ref().map(|read| read.state.clone());
        let is_binding =
            |entries: &[Entry]| entries.first().is_some_and(|entry| records::is_binding(&entry.record));
        let older = streams.iter().filter(|(_, entries)| is_binding(entries));
        let held = Held {
            state: state.unwrap_or_else(|| BindingState::new(options.start)),
            roll: read.map_or(0, |read| read.roll),
            stream: None,
            older: older
                .map(|(stream, entries)| (StreamId(*stream), entries.last().map_or(0, |e| e.seq)))
                .collect(),
            no_free: false,
            unreadable,
        };
        Self {
            inner: Arc::new(Inner {
                adapter: adapter.clone(),
                cache: cache.clone(),
                journal: journal.clone(),
                clock,
                namespace: namespace.to_owned(),
                options,
                held: Mutex::new(held),
                changed: watch::Sender::new(0),
                turn: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// The id that objects of this journal carry; none where no binding is used.
    pub fn journal_id(&self) -> Option<String> {
        self.inner.options.bound.then(|| self.state().journal.to_string())
    }

    /// Uid of the cluster; `None` if no binding is used.
    pub fn cluster(&self) -> Option<String> {
        self.state().cluster.filter(|_| self.inner.options.bound).map(|uid| uid.0)
    }

    /// Whether objects that carry this id belong to this journal. A string that is not an id belongs to no
    /// known journal.
    pub fn owns(&self, journal: &str) -> bool {
        !self.inner.options.bound || journal.parse().is_ok_and(|id| self.state().owns(id))
    }

    /// Why nothing is freed, as far as that is known without a read from the cluster.
    pub fn doubt(&self) -> Option<String> {
        self.state().doubt
    }

    /// Whether this journal replaced another one, from whose runs it was recovered.
    pub fn supersedes_another(&self) -> bool {
        !self.state().supersedes.is_empty()
    }

    fn state(&self) -> BindingState {
        self.held(|held| held.state.clone())
    }

    fn held<T>(&self, act: impl FnOnce(&mut Held) -> T) -> T {
        act(&mut self.inner.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Binds the journal to the cluster, before anything else is written there.
    ///
    /// # Errors
    /// The daemon must not write to this cluster, or the journal cannot be written.
    pub async fn bind(&self) -> Result<(), Problem> {
        if !self.inner.options.bound {
            return Ok(());
        }
        if let Some(problem) = self.held(|held| held.unreadable.clone()) {
            return Err(problem);
        }
        self.inner.adapter.mark_with(self.state().journal.to_string());
        let _turn = self.inner.turn.lock().await;
        for tries in 0.. {
            if self.try_bind().await? {
                return Ok(());
            }
            // Two daemons write at once: the next read shows which one won.
            self.pause(tries).await;
        }
        Ok(())
    }

    /// Returns false if another write was faster or the API server does not answer.
    async fn try_bind(&self) -> Result<bool, Problem> {
        let Some(cluster) = unless_unanswered(self.inner.adapter.cluster_uid().await)? else {
            return Ok(false);
        };
        let Some(seen) = unless_unanswered(self.read().await)? else { return Ok(false) };
        let found = seen.as_ref().map(|(_, binding)| binding);
        let judged = judge(&self.state(), found, &cluster, self.inner.options.take_over);
        let (replaces, doubt) = match judged.map_err(|refusal| self.refused(&refusal))? {
            Judgement::Absent { copied_from } => {
                if let Some(other) = copied_from {
                    tracing::warn!(cluster = %other, "the binding was copied from another cluster and does not count");
                }
                if !self.nothing_foreign().await? {
                    return Ok(false);
                }
                (None, None)
            }
            Judgement::Renew { replaces, doubt } => {
                if let (None, Some((object, binding))) =
                    (&doubt, seen.as_ref().filter(|_| replaces.is_none()))
                {
                    self.held(|held| held.state.acknowledged = Some(binding.mark));
                    // The operator confirmed while no daemon was running.
                    self.take_confirmation(object, binding.mark.epoch).await?;
                }
                (replaces, doubt)
            }
        };
        self.held(|held| {
            held.state.cluster = Some(cluster.clone());
            held.no_free = found.is_some_and(|binding| binding.no_free);
            if let Some(replaced) = replaces.filter(|id| !held.state.supersedes.contains(id)) {
                held.state.supersedes.push(replaced);
            }
        });
        if let Some(why) = doubt {
            self.enter_doubt(why).await?;
        }
        let Some(mark) = self.write(seen.as_ref().map(|(object, _)| object), &cluster).await? else {
            return Ok(false);
        };
        tracing::info!(journal = %self.state().journal, %cluster, epoch = mark.epoch, "bound");
        Ok(true)
    }

    /// Records the intent, writes the binding, and records the acknowledgement. Returns `None` if another
    /// write was faster.
    async fn write(&self, seen: Option<&ConfigMap>, cluster: &Uid) -> Result<Option<BindingMark>, Problem> {
        let appended = self.record(BindingEvent::Intended).await?;
        let mark = BindingMark {
            epoch: self.inner.journal.epoch(),
            position: appended.last.position,
            hash: appended.last.hash,
        };
        self.held(|held| held.state.intended = Some(mark));
        let state = self.state();
        let wanted = Wanted { state: &state, cluster, mark };
        let written = match seen {
            None => self.inner.adapter.create_binding(&self.inner.namespace, &wanted).await,
            Some(seen) => self.inner.adapter.renew_binding(seen, &wanted).await,
        };
        match unless_unanswered(written)? {
            Some(Written::Done) => {}
            Some(Written::Lost) | None => return Ok(None),
        }
        self.held(|held| held.state.acknowledged = Some(mark));
        self.record(BindingEvent::Acknowledged).await?;
        Ok(Some(mark))
    }

    /// Fails if this namespace has objects or Backups of another journal: then the binding was deleted, and
    /// this is not its journal. Returns false if the API server does not answer.
    async fn nothing_foreign(&self) -> Result<bool, Problem> {
        let Inner { adapter, namespace, .. } = &*self.inner;
        let Some(found) = unless_unanswered(foreign::journals(adapter, namespace).await)? else {
            return Ok(false);
        };
        let others: BTreeSet<String> = found.into_iter().filter(|id| !self.owns(id)).collect();
        let Some(other) = others.iter().next() else { return Ok(true) };
        Err(Problem::new(
            Code::BindingRefused,
            About::new("ConfigMap", namespace, binding::NAME),
            format!(
                "the binding is missing, and the cluster has objects of journal {other}; this is journal {}",
                self.state().journal
            ),
            format!(
                "stop the other daemon; to give its place to this journal, restore the binding and run with \
                 --take-over {other}"
            ),
        ))
    }

    async fn read(&self) -> Result<Option<(ConfigMap, Binding)>, Problem> {
        let Some(object) = self.inner.adapter.binding(&self.inner.namespace).await? else { return Ok(None) };
        match binding::parse(&object) {
            Ok(binding) => Ok(Some((object, binding))),
            Err(why) => Err(Problem::new(
                Code::BindingRefused,
                About::new("ConfigMap", &self.inner.namespace, binding::NAME),
                why,
                "restore it from a backup, or delete it: it is made again if nothing of another journal is found",
            )),
        }
    }

    async fn enter_doubt(&self, why: String) -> Result<(), Problem> {
        tracing::error!(
            why,
            "the cluster may have gone back in time: nothing is freed until `stillpoint journal confirm-cluster`"
        );
        self.held(|held| held.state.doubt = Some(limits::clip(&why)));
        self.record(BindingEvent::Doubted).await?;
        self.inner.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn record(&self, event: BindingEvent) -> Result<Appended, Problem> {
        let (start, at) = (self.inner.options.start, self.inner.clock.now());
        let (stream, seq, roll) = self.held(|held| {
            // The first record of an incarnation begins a new stream. A stream that reaches the limit is
            // followed by the next.
            let fits = held.stream.filter(|(_, seq)| *seq < limits::BINDING_RECORDS);
            if fits.is_none() {
                held.older.extend(held.stream.take());
                held.roll += 1;
            }
            let next = (records::stream(held.state.journal, held.roll), 0);
            let (stream, seq) = fits.unwrap_or(next);
            (stream, seq, held.roll)
        });
        let record = BindingRecord { event, roll, start, state: self.state() };
        let appended = self.append(stream, seq, &record, at, StreamState::Open).await?;
        let older = self.held(|held| {
            held.stream = Some((stream, seq + 1));
            std::mem::take(&mut held.older)
        });
        for (stream, seq) in older {
            let closed = BindingRecord { event: BindingEvent::Closed, ..record.clone() };
            self.append(stream, seq, &closed, at, StreamState::Finished).await?;
        }
        Ok(appended)
    }

    async fn append(
        &self,
        stream: StreamId,
        seq: u64,
        record: &BindingRecord,
        at: Timestamp,
        state: StreamState,
    ) -> Result<Appended, Problem> {
        let encoded = records::encode(record, at).map_err(|error| internal(stream, &error))?;
        let appended = self.inner.journal.append(stream, seq, vec![encoded], state).await;
        appended.map_err(|error| journal_problem(stream, &error))
    }

    async fn pause(&self, failures: u32) {
        let clock = &self.inner.clock;
        clock.sleep_until(Some(clock.now().after(limits::backoff(failures + 1)))).await;
    }

    /// Watches the binding and renews it as long as this daemon owns it.
    ///
    /// # Errors
    /// Always returns one: why this incarnation of the daemon has to end.
    pub async fn guard(self) -> Problem {
        if !self.inner.options.bound {
            return std::future::pending().await;
        }
        let mut renewed = self.inner.clock.now();
        loop {
            let due = renewed.after(limits::BINDING_RENEWAL);
            let renews = tokio::select! {
                biased;
                () = self.inner.cache.binding_changed() => false,
                () = self.inner.clock.sleep_until(Some(due)) => true,
            };
            if renews {
                renewed = self.inner.clock.now();
            } else if !self.is_odd().await {
                continue;
            }
            if let Err(problem) = self.look(renews).await {
                return problem;
            }
        }
    }

    /// Whether the cached binding requires a read from the API server. Watch events are late: the cached
    /// state may be older than the last write.
    async fn is_odd(&self) -> bool {
        let Some(object) = self.inner.cache.binding() else { return true };
        let Ok(found) = binding::parse(&object) else { return true };
        let (confirmed, epoch) = (binding::confirmed(&object), self.inner.journal.epoch());
        self.held(|held| {
            let switched = held.no_free != found.no_free;
            let confirms = held.state.doubt.is_some() && confirmed == Some(epoch);
            switched || confirms || compare(&held.state, epoch, &found) != Standing::Ours
        })
    }

    /// Reads the binding from the API server and acts on it.
    async fn look(&self, renews: bool) -> Result<(), Problem> {
        let turn = self.inner.turn.lock().await;
        let Some(seen) = unless_unanswered(self.read().await)? else { return Ok(()) };
        let Some((object, found)) = seen else {
            drop(turn);
            tracing::warn!("the binding was deleted");
            return self.bind().await;
        };
        self.take_settings(&object, &found).await?;
        self.check(&found).await?;
        if renews && let Some(run) = self.completed_run_with_group().await? {
            let why = format!("the group objects of completed run {run} are in the cluster again");
            return Err(self.went_back(why).await?);
        }
        // The journal has no records after the two of the last renewal.
        if renews && !self.is_quiet() {
            let cluster = found.cluster.clone();
            self.write(Some(&object), &cluster).await?;
        }
        Ok(())
    }

    /// Whether the only record since the last mark is its acknowledgement.
    fn is_quiet(&self) -> bool {
        let head = self.inner.journal.head().position;
        self.state().acknowledged.is_some_and(|mark| head <= mark.position + 1)
    }

    async fn take_settings(&self, object: &ConfigMap, found: &Binding) -> Result<(), Problem> {
        let switched = self.held(|held| std::mem::replace(&mut held.no_free, found.no_free)) != found.no_free;
        if switched {
            tracing::warn!(no_free = found.no_free, "freeing of storage was switched in the binding");
            self.inner.changed.send_modify(|count| *count += 1);
        }
        self.take_confirmation(object, self.inner.journal.epoch()).await
    }

    /// Applies an operator's confirmation of the cluster for the start of an epoch.
    async fn take_confirmation(&self, object: &ConfigMap, epoch: u64) -> Result<(), Problem> {
        if binding::confirmed(object) == Some(epoch) && self.doubt().is_some() {
            self.held(|held| held.state.doubt = None);
            self.record(BindingEvent::Confirmed).await?;
            tracing::warn!("an operator confirmed the cluster: storage may be freed");
            self.inner.changed.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    async fn check(&self, found: &Binding) -> Result<(), Problem> {
        let epoch = self.inner.journal.epoch();
        match compare(&self.state(), epoch, found) {
            Standing::Ours => Ok(()),
            Standing::Lost(why) => Err(self.overtaken(why)),
            Standing::WentBack(why) => Err(self.went_back(why).await?),
        }
    }

    /// Handles group objects of a run that the journal completed: the cluster went back in time.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub async fn shows_again(&self, run: StreamId) -> Result<(), Problem> {
        if self.inner.options.bound && self.doubt().is_none() {
            self.enter_doubt(format!("the group objects of completed run {run} are in the cluster again"))
                .await?;
        }
        Ok(())
    }

    /// A completed run whose group objects are in the caches, if there is one.
    async fn completed_run_with_group(&self) -> Result<Option<StreamId>, Problem> {
        for stream in self.inner.cache.runs_with_group() {
            let entries = match self.inner.journal.stream(stream).await {
                // Only a run that has ended can be in an archive, and one that was rolled back leaves nothing live.
                Err(JournalError::ArchiveMissing { .. }) => {
                    let live = self.inner.journal.live(stream).await;
                    if live.map_err(|error| journal_problem(stream, &error))?.is_empty() {
                        continue;
                    }
                    return Ok(Some(stream));
                }
                entries => entries.map_err(|error| journal_problem(stream, &error))?,
            };
            let run = fold_group(stream, &entries)?;
            if run.is_some_and(|run| run.stage == Stage::Completed) {
                return Ok(Some(stream));
            }
        }
        Ok(None)
    }

    /// Records the doubt and returns why this incarnation ends. The next one reads everything again.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub async fn went_back(&self, why: String) -> Result<Problem, Problem> {
        self.enter_doubt(why.clone()).await?;
        Ok(Problem::new(
            Code::ClusterWentBack,
            About::new("ConfigMap", &self.inner.namespace, binding::NAME),
            why,
            "check that the cluster is the one it should be, then run `stillpoint journal confirm-cluster`",
        ))
    }

    /// Whether storage of a run may be freed now. The binding and the Backup's claim are read from the API
    /// server. `Ok(Some(why))`: not now.
    ///
    /// # Errors
    /// Another journal, or a newer start, has taken over: the daemon ends without another write.
    pub async fn may_free(&self, plan: &Plan) -> Result<Option<&'static str>, Problem> {
        let options = &self.inner.options;
        if !options.bound {
            return Ok(options.no_free.then_some(NO_FREE));
        }
        let Some(seen) = unless_unanswered(self.read().await)? else { return Ok(Some(UNANSWERED)) };
        let Some((object, found)) = seen else {
            // The guard creates the binding again, or ends the daemon.
            return Ok(Some("the binding to be made again, which was deleted"));
        };
        self.take_settings(&object, &found).await?;
        self.check(&found).await?;
        let Some(claim) = unless_unanswered(self.claim_of(plan).await)? else { return Ok(Some(UNANSWERED)) };
        if let Some(why) = claim.and_then(|backup| self.foreign_claim(&backup)) {
            return Err(self.overtaken(why));
        }
        if self.doubt().is_some() {
            return Ok(Some(DOUBT));
        }
        let no_free = options.no_free || self.held(|held| held.no_free);
        Ok(no_free.then_some(NO_FREE))
    }

    async fn claim_of(&self, plan: &Plan) -> Result<Option<Backup>, Problem> {
        let asks = &plan.backup;
        let found = self.inner.adapter.backup(&asks.namespace, &asks.name).await?;
        Ok(found.filter(|backup| backup.metadata.uid.as_deref() == Some(asks.uid.0.as_str())))
    }

    /// Why a Backup does not belong to this daemon, if another journal or a newer start has claimed it.
    pub fn foreign_claim(&self, backup: &Backup) -> Option<String> {
        if !self.inner.options.bound {
            return None;
        }
        let (meta, own) = (&backup.metadata, self.inner.journal.epoch());
        let claimed = observe::journal(meta);
        if let Some(journal) = claimed.filter(|id| !self.owns(id)) {
            return Some(format!("journal {journal} has claimed the Backup"));
        }
        let epoch = observe::epoch(meta).filter(|epoch| *epoch > own)?;
        Some(format!("a daemon of epoch {epoch} has claimed the Backup"))
    }

    /// Why this daemon ends without another write.
    pub fn overtaken(&self, why: String) -> Problem {
        let (journal, epoch) = (self.state().journal, self.inner.journal.epoch());
        Problem::new(
            Code::Overtaken,
            About::new("ConfigMap", &self.inner.namespace, binding::NAME),
            format!("{why}; this is journal {journal}, epoch {epoch}"),
            "this daemon ends without another write; look for the other one before it is started again",
        )
    }

    /// Notifies whenever doubt or `noFree` may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    fn refused(&self, refusal: &BindingRefusal) -> Problem {
        let fix = match refusal {
            BindingRefusal::OtherCluster { .. } => {
                "start with the journal of this cluster, or with an empty directory for a new one".to_owned()
            }
            BindingRefusal::OtherJournal { bound, .. } => format!(
                "run one daemon for a namespace; if that journal is lost, run `stillpoint journal rebuild \
                 --from-cluster`; to give its place to this one, stop its daemon and run with --take-over {bound}"
            ),
            BindingRefusal::OlderCopy { .. } => {
                "start with the newest copy of the journal; if it is lost, run \
                 `stillpoint journal rebuild --from-cluster`"
                    .to_owned()
            }
        };
        let about = About::new("ConfigMap", &self.inner.namespace, binding::NAME);
        Problem::new(Code::BindingRefused, about, refusal.to_string(), fix)
    }
}

/// The wait reason of a run that must not free storage.
const NO_FREE: &str = "freeing of storage to be switched on again (--no-free, or noFree in the binding)";
const DOUBT: &str =
    "an operator to run `stillpoint journal confirm-cluster`: the cluster may have gone back in time";
const UNANSWERED: &str = "the API server to answer";

/// `Ok(None)` if the API server does not answer or refuses the call, as one that has just started does. The
/// caller repeats the call and writes nothing meanwhile.
fn unless_unanswered<T>(answer: Result<T, Problem>) -> Result<Option<T>, Problem> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(problem) if matches!(problem.code, Code::Unreachable | Code::Refused) => {
            tracing::warn!(%problem, "waiting for the API server to show and take the binding");
            Ok(None)
        }
        Err(problem) => Err(problem),
    }
}
