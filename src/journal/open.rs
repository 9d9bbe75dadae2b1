//! Opening: wait for the lock, check everything, claim an epoch, then start the writer.
//!
//! The whole chain is checked before anything is appended to it, in one pass that also collects
//! the open streams. Nothing is repaired. The epoch is on disk before a handle exists.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::chain::{ChainProblem, Fault};
use super::envelope::SCHEMA;
use super::error::JournalError;
use super::handle::Journal;
use super::host::{self, QUEUE_LENGTH};
use super::owner::Owner;
use super::record::{Entry, Head, StreamId};
use super::scan::{Damage, scan};
use super::sled_store::SledStore;
use super::store::{Batch, Meta, Store, StoreError, StreamState};
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
        }
    }
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
}

impl Journal {
    /// Opens the journal in `dir`, which is created when it is missing, with its writer on a thread.
    ///
    /// It blocks: while a dying process still holds the lock, and while the chain is checked.
    ///
    /// # Errors
    /// The journal is held, damaged, lost or from a newer Stillpoint, or the disk failed.
    pub fn open_thread(dir: &Path, options: Options) -> Result<(Journal, Opened), JournalError> {
        let (store, meta, opened) = open_dir(dir, &options)?;
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

fn open_dir(dir: &Path, options: &Options) -> Result<(SledStore, Meta, Opened), JournalError> {
    let before = Owner::read(dir)?;
    let database = database(dir);
    if let Some(Owner { epoch, .. }) = before
        && !SledStore::lock_file(&database).exists()
    {
        return Err(JournalError::Lost { dir: dir.to_owned(), epoch });
    }
    create(dir).map_err(JournalError::io("create", dir))?;
    let mut store = wait_for_lock(dir, &database, options)?;
    let (mut meta, mut opened) = recover(&store)?;
    // Read again: while the lock was waited for, its holder may have written it.
    if let Some(Owner { epoch, .. }) = Owner::read(dir)?
        && epoch > meta.epoch
    {
        return Err(JournalError::Behind { dir: dir.to_owned(), found: meta.epoch, owner: epoch });
    }
    claim(&mut store, &mut meta, &mut opened)?;
    Owner { pid: options.pid, host: options.host.clone(), epoch: meta.epoch }.write(dir)?;
    Ok((store, meta, opened))
}

/// Where the database of a journal directory is.
pub(super) fn database(dir: &Path) -> PathBuf {
    dir.join("sled")
}

/// Creates the directories, and makes each entry durable in the directory above it.
fn create(dir: &Path) -> std::io::Result<()> {
    let database = database(dir);
    fs::create_dir_all(&database)?;
    for ancestor in database.canonicalize()?.ancestors().skip(1).take(2) {
        File::open(ancestor)?.sync_all()?;
    }
    Ok(())
}

fn wait_for_lock(dir: &Path, database: &Path, options: &Options) -> Result<SledStore, JournalError> {
    for _ in 1..options.lock_attempts.max(1) {
        match SledStore::open(database) {
            Err(StoreError::Held) => (options.sleep)(options.lock_pause),
            other => return named(dir, other),
        }
    }
    named(dir, SledStore::open(database))
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

fn recover(store: &dyn Store) -> Result<(Meta, Opened), JournalError> {
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
    Ok((meta, Opened { epoch: meta.epoch, head: meta.head, records: verified.records, streams }))
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
