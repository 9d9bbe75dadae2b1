//! Opening: wait for the lock, check everything, claim an epoch, then start the writer.
//!
//! The whole chain is checked before anything is appended to it, in the database, in one pass that
//! also collects the open streams, and in the evidence. Where the two differ [`super::settle`] says
//! what is done, and [`super::mend`] does it. The epoch is on disk, in both, before a handle exists.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::ballast;
use super::chain::{ChainProblem, Fault};
use super::envelope::SCHEMA;
use super::error::JournalError;
use super::evidence::{self, EvidenceWriter, SEGMENT_BYTES, Survey, sync_parent};
use super::handle::Journal;
use super::host::{self, QUEUE_LENGTH};
use super::lock::Lock;
use super::mend;
use super::owner::Owner;
use super::probe::{Probe, Probed};
use super::record::{Entry, Head, StreamId};
use super::repair::{self, Repair};
use super::scan::{Damage, scan};
use super::settle::{Common, Database, Row, decide};
use super::sled_store::SledStore;
use super::store::{Batch, Meta, Store, StoreError, StreamHead, StreamState};
use super::twin::TwinStore;
use super::writer::{Shared, Writer};

/// How a journal directory is opened.
#[derive(Clone)]
pub struct Options {
    /// How often the lock is tried while another process holds it.
    pub lock_attempts: u32,
    /// Pause between two tries.
    pub lock_pause: Duration,
    /// How to pause.
    pub sleep: Arc<dyn Fn(Duration) + Send + Sync>,
    /// Name of this host, for `owner.json`.
    pub host: String,
    /// Id of this process, for `owner.json`.
    pub pid: u32,
    /// The time in nanoseconds since the Unix epoch, for the record of a repair.
    pub now: fn() -> i64,
    /// Room to put aside for a full disk, in bytes; 0 for none.
    pub ballast_bytes: u64,
    /// Size from which on a segment of evidence gets a successor, in bytes.
    pub segment_bytes: u64,
    /// Who looks at every call that reaches the disk: tests.
    pub probe: Option<Arc<dyn Probe>>,
}

impl Default for Options {
    /// Ten seconds of patience, which is more than a killed process needs to be gone.
    fn default() -> Options {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Options {
            lock_attempts: 100,
            lock_pause: Duration::from_millis(100),
            sleep: Arc::new(std::thread::sleep),
            host: host.trim().to_owned(),
            pid: std::process::id(),
            now: wall_clock,
            ballast_bytes: ballast::BALLAST_BYTES,
            segment_bytes: SEGMENT_BYTES,
            probe: None,
        }
    }
}

/// Before 1970 and after 2262 it is a number all the same: nothing depends on it.
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { lock_attempts, lock_pause, host, pid, .. } = self;
        write!(f, "Options {{ {lock_attempts} x {lock_pause:?}, pid {pid} on {host} }}")
    }
}

/// What an open found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The epoch that was claimed.
    pub epoch: u64,
    /// The last record.
    pub head: Head,
    /// How many records there are, archived ones not counted.
    pub records: u64,
    /// The entries of every open stream, streams in the order of their first positions.
    pub streams: Vec<(StreamId, Vec<Entry>)>,
    /// What was done beside reading; each is also a record of the journal.
    pub repairs: Vec<Repair>,
    /// Whether room is put aside for a full disk.
    pub ballast: bool,
}

impl Journal {
    /// Opens the journal in `dir`, which is created when it is missing, with its writer on a thread.
    ///
    /// It blocks: while a dying process still holds the lock, and while the chain is checked. A
    /// database or evidence that is damaged, or behind, is made anew from the other; see [`Repair`].
    ///
    /// # Errors
    /// The journal is held, damaged, lost or from a newer Stillpoint, or the disk failed.
    pub fn open_thread(dir: &Path, options: Options) -> Result<(Journal, Opened), JournalError> {
        let (store, meta, opened) = open_with_ballast(dir, &options)?;
        start_on_thread(store, meta, opened, dir)
    }

    /// Opens the journal that `store` keeps, with its writer as a task of the current runtime.
    ///
    /// Meant for simulated time: it commits inline and blocks the runtime meanwhile.
    ///
    /// # Errors
    /// As [`open_thread`](Journal::open_thread), the lock apart.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open_task<S: Store + 'static>(mut store: S) -> Result<(Journal, Opened), JournalError> {
        let (mut meta, mut opened) = recover(&store)?;
        claim(&mut store, &mut meta, &mut opened)?;
        let shared = Shared::new(meta.head);
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
        let writer = Writer::new(store, meta, shared.clone());
        tokio::spawn(host::task(writer, shared.clone(), receiver));
        Ok((Journal::new(sender, shared, None, meta.epoch), opened))
    }
}

pub(super) fn start_on_thread<S: Store + 'static>(
    store: S,
    meta: Meta,
    opened: Opened,
    dir: &Path,
) -> Result<(Journal, Opened), JournalError> {
    let shared = Shared::new(meta.head);
    let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
    let writer = Writer::new(store, meta, shared.clone());
    let thread = host::thread(writer, shared.clone(), receiver);
    let thread = thread.map_err(JournalError::io("start a writer for", dir))?;
    Ok((Journal::new(sender, shared, Some(thread), meta.epoch), opened))
}

fn open_with_ballast(dir: &Path, options: &Options) -> Result<(TwinStore, Meta, Opened), JournalError> {
    let probed = Probed(options.probe.clone());
    match open_dir(dir, options, vec![]) {
        Err(error) if error.is_full() => match ballast::spend(dir) {
            // It is made again by a later open: now there is no room for it.
            Ok(Some(bytes)) => open_dir(dir, options, vec![Repair::BallastSpent { bytes }]),
            _ => Err(error),
        },
        Err(error) => Err(error),
        Ok((store, meta, mut opened)) => {
            opened.ballast = ballast::ensure(dir, options.ballast_bytes, &probed);
            Ok((store, meta, opened))
        }
    }
}

fn open_dir(
    dir: &Path,
    options: &Options,
    told: Vec<Repair>,
) -> Result<(TwinStore, Meta, Opened), JournalError> {
    create(dir).map_err(JournalError::io("create", dir))?;
    let probed = Probed(options.probe.clone());
    let found = wait_for_lock(dir, options, &probed)?;
    found.not_behind(dir)?;
    let (store, meta, opened) = Opening { dir, options, probed: probed.clone(), told }.settle(found)?;
    Owner { pid: options.pid, host: options.host.clone(), epoch: meta.epoch }.write(dir, &probed)?;
    Ok((store, meta, opened))
}

/// Where the database of a journal directory is.
pub(super) fn database(dir: &Path) -> PathBuf {
    dir.join("sled")
}

/// Where the evidence of a journal directory is.
pub(super) fn evidence_dir(dir: &Path) -> PathBuf {
    dir.join("evidence")
}

/// Creates the directory, and makes its entry durable in the directory above it.
fn create(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    sync_parent(dir)
}

/// A journal as it was found, with its lock held.
struct Found {
    lock: Lock,
    owner: Option<Owner>,
    database: FoundDatabase,
    evidence: FoundEvidence,
}

enum FoundDatabase {
    None,
    Whole(Box<(SledStore, Meta, Opened)>),
    /// With its head, if it says.
    Broken(JournalError, Option<Head>),
}

/// Evidence as it was found.
#[derive(Default)]
pub(super) struct FoundEvidence {
    pub survey: Option<Survey>,
    /// The stream of the records that tell of repairs.
    pub repairs: Option<StreamHead>,
    /// Its hash where the database ends.
    pub at_head: Option<[u8; 32]>,
}

fn wait_for_lock(dir: &Path, options: &Options, probed: &Probed) -> Result<Found, JournalError> {
    for _ in 1..options.lock_attempts.max(1) {
        match find(dir, options, probed) {
            Err(JournalError::Held { .. }) => (options.sleep)(options.lock_pause),
            other => return other,
        }
    }
    find(dir, options, probed)
}

fn find(dir: &Path, options: &Options, probed: &Probed) -> Result<Found, JournalError> {
    let lock = Lock::exclusive(dir)?;
    // Under the lock: before, its holder may have written it.
    let owner = Owner::read(dir)?;
    mend::clear(&dir.join(DRAFT))?;
    let path = evidence_dir(dir);
    let has_database = SledStore::lock_file(&database(dir)).exists();
    if !has_database && !path.exists() {
        if let Some(Owner { epoch, .. }) = owner {
            return Err(JournalError::Lost { dir: dir.to_owned(), epoch });
        }
        // A new journal. Evidence without records says so when the first open of sled is cut short.
        let begun = EvidenceWriter::begin(&path, Head::genesis(), options.segment_bytes, probed.clone());
        begun.map_err(JournalError::io("begin evidence in", &path))?;
    }
    let database = if has_database { look(dir, probed)? } else { FoundDatabase::None };
    let head = match &database {
        FoundDatabase::None => None,
        FoundDatabase::Whole(whole) => Some(whole.1.head),
        FoundDatabase::Broken(_, head) => *head,
    };
    let evidence = survey(&path, head)?;
    Ok(Found { lock, owner, database, evidence })
}

/// Name of evidence that is being written.
const DRAFT: &str = "evidence.new";

fn look(dir: &Path, probed: &Probed) -> Result<FoundDatabase, JournalError> {
    let store = match named(dir, SledStore::open_probed(&database(dir), probed.clone())) {
        Ok(store) => store,
        Err(error @ JournalError::Unopenable { source: StoreError::Broken { .. }, .. }) => {
            return Ok(FoundDatabase::Broken(error, None));
        }
        Err(error) => return Err(error),
    };
    match recover(&store) {
        Ok((meta, opened)) => Ok(FoundDatabase::Whole(Box::new((store, meta, opened)))),
        Err(error @ JournalError::NewerSchema { .. }) => Err(error),
        Err(error) => Ok(FoundDatabase::Broken(error, store.meta().ok().flatten().map(|meta| meta.head))),
    }
}

/// Reads all evidence; `head` is where the database ends.
pub(super) fn survey(path: &Path, head: Option<Head>) -> Result<FoundEvidence, JournalError> {
    let mut found = FoundEvidence::default();
    let told = repair::stream();
    found.survey = evidence::read(path, &mut |admitted| {
        for (state, entry, _) in &admitted.records {
            let position = entry.position;
            if head.is_some_and(|head| head.position == position) {
                found.at_head = Some(entry.hash);
            }
            if entry.stream == told {
                let first_position = found.repairs.map_or(position, |head| head.first_position);
                let (state, last_seq) = (*state, entry.seq);
                found.repairs = Some(StreamHead {
                    stream: told,
                    state,
                    last_seq,
                    first_position,
                    last_position: position,
                });
            }
        }
        Ok(())
    })?;
    if let (Some(survey), Some(head)) = (&found.survey, head)
        && survey.start.position == head.position
    {
        found.at_head = Some(survey.start.hash);
    }
    Ok(found)
}

impl Found {
    /// The last epoch that either half knows.
    fn epoch(&self) -> u64 {
        let database = match &self.database {
            FoundDatabase::Whole(whole) => whole.1.epoch,
            FoundDatabase::None | FoundDatabase::Broken(..) => 0,
        };
        database.max(self.evidence.survey.as_ref().map_or(0, |survey| survey.epoch))
    }

    /// Whether what was found reaches the epoch of its last owner, unless it is refused for a better reason.
    fn not_behind(&self, dir: &Path) -> Result<(), JournalError> {
        let undamaged = self.evidence.survey.as_ref().is_none_or(|survey| survey.damage.is_none());
        let broken = matches!(self.database, FoundDatabase::Broken(..));
        match &self.owner {
            Some(Owner { epoch, .. }) if *epoch > self.epoch() && undamaged => {
                if broken && self.evidence.survey.is_none() {
                    return Ok(());
                }
                Err(JournalError::Behind { dir: dir.to_owned(), found: self.epoch(), owner: *epoch })
            }
            _ => Ok(()),
        }
    }

    fn common(&self) -> Result<Common, JournalError> {
        let in_database = match (&self.database, &self.evidence.survey) {
            (FoundDatabase::Whole(whole), Some(survey)) => {
                hash_at(&whole.0, whole.1.cut, survey.head.position)?
            }
            _ => None,
        };
        Ok(Common { in_evidence: self.evidence.at_head, in_database })
    }

    fn row(&self) -> Result<Row, JournalError> {
        let database = match &self.database {
            FoundDatabase::None => Database::None,
            FoundDatabase::Whole(whole) => Database::Whole(whole.1.head),
            FoundDatabase::Broken(_, head) => Database::Broken(*head),
        };
        Ok(decide(database, self.evidence.survey.as_ref(), self.common()?))
    }
}

fn hash_at(store: &dyn Store, cut: Head, position: u64) -> Result<Option<[u8; 32]>, JournalError> {
    if position == cut.position {
        return Ok(Some(cut.hash));
    }
    let bytes = store.record(position)?;
    Ok(bytes.and_then(|bytes| super::chain::open_at(position, &bytes).ok()).map(|entry| entry.hash))
}

/// One open, from what was found to two halves that agree.
struct Opening<'a> {
    dir: &'a Path,
    options: &'a Options,
    probed: Probed,
    /// What was done so far.
    told: Vec<Repair>,
}

impl Opening<'_> {
    fn settle(self, found: Found) -> Result<(TwinStore, Meta, Opened), JournalError> {
        let row = found.row()?;
        let epoch = found.epoch().checked_add(1).ok_or(StoreError::Layout { what: "the epoch" })?;
        let Found { lock, database, evidence, .. } = found;
        match row {
            Row::Begin | Row::Agree => self.go_on(epoch, lock, database, evidence.survey),
            Row::BeginEvidence => self.rebuild_evidence(epoch, lock, database, None),
            Row::RebuildEvidence(why) => self.rebuild_evidence(epoch, lock, database, Some(why)),
            Row::CatchUp | Row::RebuildDatabase => self.follow_evidence(epoch, lock, database, evidence),
            Row::RefuseDatabase => Err(refused(database)),
            Row::RefuseBoth(source) => Err(JournalError::BothDamaged { database: said(&database), source }),
            Row::RefuseTwo(source) => Err(JournalError::Damaged { torn: false, source }),
        }
    }

    /// Both hold the same records.
    fn go_on(
        mut self,
        epoch: u64,
        lock: Lock,
        database: FoundDatabase,
        survey: Option<Survey>,
    ) -> Result<(TwinStore, Meta, Opened), JournalError> {
        let (store, mut meta, mut opened) = match database {
            FoundDatabase::Whole(whole) => *whole,
            FoundDatabase::None | FoundDatabase::Broken(..) => {
                let store = self.new_database()?;
                let (meta, opened) = recover(&store)?;
                (store, meta, opened)
            }
        };
        let evidence = self.evidence(survey.as_ref(), meta.cut)?;
        self.trimmed(survey.as_ref());
        let known = store.stream(repair::stream())?;
        let mut twin = TwinStore::new(store, evidence, lock);
        meta.epoch = epoch;
        let batch = repair::claim(meta, &self.told, known, (self.options.now)());
        twin.write(&batch)?;
        twin.sync()?;
        (opened.epoch, opened.head) = (epoch, batch.meta.head);
        opened.records += batch.slots.len() as u64;
        opened.repairs = self.told;
        Ok((twin, batch.meta, opened))
    }

    /// The evidence has everything; the database is caught up, or made anew.
    fn follow_evidence(
        mut self,
        epoch: u64,
        lock: Lock,
        database: FoundDatabase,
        evidence: FoundEvidence,
    ) -> Result<(TwinStore, Meta, Opened), JournalError> {
        let Some(survey) = evidence.survey else { return Err(refused(database)) };
        self.trimmed(Some(&survey));
        let (store, from, why) = match database {
            FoundDatabase::Whole(whole) => (Some(whole.0), whole.1.head, String::new()),
            FoundDatabase::None => (None, survey.start, "it was missing".to_owned()),
            FoundDatabase::Broken(error, _) => (None, survey.start, error.text()),
        };
        let (mut store, repair) = match store {
            Some(store) => {
                let (from, to) = (from.position + 1, survey.head.position);
                (store, Repair::DatabaseCaughtUp { from, to })
            }
            None => {
                let aside = mend::set_aside(self.dir, "sled", epoch)?;
                (self.new_database()?, Repair::DatabaseRebuilt { why, aside, records: survey.records })
            }
        };
        self.told.push(repair);
        let meta = Meta { epoch, head: survey.head, cut: survey.start, ..Meta::new() };
        let claim = repair::claim(meta, &self.told, evidence.repairs, (self.options.now)());
        let mut writer = self.evidence(Some(&survey), survey.start)?;
        writer.append(&claim)?;
        writer.sync()?;
        mend::fill(&mut store, &evidence_dir(self.dir), from, survey.start)?;
        let (meta, opened) = recover(&store)?;
        Ok((TwinStore::new(store, writer, lock), meta, Opened { repairs: self.told, ..opened }))
    }

    /// The database has everything; the evidence is written anew.
    fn rebuild_evidence(
        mut self,
        epoch: u64,
        lock: Lock,
        database: FoundDatabase,
        why: Option<String>,
    ) -> Result<(TwinStore, Meta, Opened), JournalError> {
        let FoundDatabase::Whole(whole) = database else { return Err(refused(database)) };
        let (mut store, mut meta, opened) = *whole;
        let records = opened.records;
        let aside = mend::set_aside(self.dir, "evidence", epoch)?;
        self.told.push(match why {
            Some(why) => Repair::EvidenceRebuilt { why, aside, records },
            None => Repair::EvidenceBegun { records },
        });
        meta.epoch = epoch;
        let claim = repair::claim(meta, &self.told, store.stream(repair::stream())?, (self.options.now)());
        store.write(&claim)?;
        store.sync()?;
        let draft = self.dir.join(DRAFT);
        mend::write_evidence(&store, claim.meta, &draft, self.options.segment_bytes, &self.probed)?;
        mend::put_in_place(&draft, &evidence_dir(self.dir))?;
        let written = survey(&evidence_dir(self.dir), None)?;
        let writer = self.evidence(written.survey.as_ref(), meta.cut)?;
        let (meta, opened) = recover(&store)?;
        Ok((TwinStore::new(store, writer, lock), meta, Opened { repairs: self.told, ..opened }))
    }

    fn trimmed(&mut self, survey: Option<&Survey>) {
        if let Some(Survey { torn: bytes @ 1.., head, .. }) = survey {
            self.told.push(Repair::EvidenceTrimmed { bytes: *bytes, after: head.position });
        }
    }

    fn new_database(&self) -> Result<SledStore, JournalError> {
        let path = database(self.dir);
        mend::create_database(&path)?;
        named(self.dir, SledStore::open_probed(&path, self.probed.clone()))
    }

    fn evidence(&self, survey: Option<&Survey>, cut: Head) -> Result<EvidenceWriter, JournalError> {
        let (path, probed) = (evidence_dir(self.dir), self.probed.clone());
        let bytes = self.options.segment_bytes;
        let writer = match survey {
            Some(survey) => EvidenceWriter::resume(&path, survey, bytes, probed),
            None => EvidenceWriter::begin(&path, cut, bytes, probed),
        };
        writer.map_err(JournalError::io("go on with evidence in", &path))
    }
}

/// Why a database is refused that nothing can mend.
fn refused(database: FoundDatabase) -> JournalError {
    match database {
        FoundDatabase::Broken(error, _) => error,
        FoundDatabase::None | FoundDatabase::Whole(_) => {
            JournalError::Store(StoreError::Layout { what: "the database" })
        }
    }
}

fn said(database: &FoundDatabase) -> String {
    match database {
        FoundDatabase::None => "it is missing".to_owned(),
        FoundDatabase::Whole(whole) => format!("it ends at record {}", whole.1.head.position),
        FoundDatabase::Broken(error, _) => error.text(),
    }
}

pub(super) fn named(dir: &Path, opened: Result<SledStore, StoreError>) -> Result<SledStore, JournalError> {
    let dir = dir.to_owned();
    opened.map_err(|error| match error {
        StoreError::Held => JournalError::Held { owner: Owner::read(&dir).ok().flatten(), dir },
        source => JournalError::Unopenable { dir, source },
    })
}

/// Reads the journal's account of itself, which is a new one for an empty store.
pub(super) fn read_meta(store: &dyn Store) -> Result<Meta, JournalError> {
    read_meta_up_to(SCHEMA, store)
}

/// As [`read_meta`], of a binary whose newest schema is `known`.
pub(super) fn read_meta_up_to(known: u16, store: &dyn Store) -> Result<Meta, JournalError> {
    let damaged = |what| JournalError::Damaged { torn: false, source: ChainProblem { position: 0, what } };
    match store.meta()? {
        Some(Meta { schema: found, .. }) if found > known => Err(JournalError::NewerSchema { found, known }),
        Some(Meta { schema: 0, .. }) => Err(damaged(Fault::Schema { found: 0, known })),
        Some(meta) => Ok(meta),
        None if store.records(0).next().is_none() && store.streams()?.is_empty() => Ok(Meta::new()),
        None => Err(damaged(Fault::Unreadable {
            reason: "the journal's account of itself is missing".to_owned(),
        })),
    }
}

pub(super) fn recover(store: &dyn Store) -> Result<(Meta, Opened), JournalError> {
    let meta = read_meta(store)?;
    let mut streams: Vec<_> = store
        .streams()?
        .into_iter()
        .filter(|head| head.state == StreamState::Open)
        .map(|head| (head, vec![]))
        .collect();
    streams.sort_by_key(|(head, _)| head.stream);
    let verified = scan(store, &meta, |entry| {
        if let Ok(index) = streams.binary_search_by_key(&entry.stream, |(head, _)| head.stream) {
            streams[index].1.push(entry);
        }
    });
    let verified =
        verified.map_err(|Damage { torn, problem, .. }| JournalError::Damaged { torn, source: problem })?;
    streams.sort_by_key(|(head, _)| head.first_position);
    let streams = streams.into_iter().map(|(head, entries)| (head.stream, entries)).collect();
    let (epoch, head, records) = (meta.epoch, meta.head, verified.records);
    Ok((meta, Opened { epoch, head, records, streams, repairs: vec![], ballast: false }))
}

fn claim(store: &mut dyn Store, meta: &mut Meta, opened: &mut Opened) -> Result<(), JournalError> {
    meta.epoch = meta.epoch.checked_add(1).ok_or(StoreError::Layout { what: "the epoch" })?;
    opened.epoch = meta.epoch;
    // From here on an older binary refuses the journal; what it wrote stays as it is.
    meta.schema = SCHEMA;
    store.write(&Batch { meta: *meta, slots: vec![], streams: vec![] })?;
    store.sync()?;
    Ok(())
}
