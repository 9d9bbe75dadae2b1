//! Opens a journal: waits for the lock, judges the log, claims an epoch, then starts the writer.
//!
//! The whole chain is checked before anything is appended to it. [`crate::judge`] decides whether a daemon may
//! continue from the log. The index is then brought up to the log, and the open runs are read from the index.
//! The epoch is on disk in both before a handle exists.
//!
//! | file | task |
//! |---|---|
//! | [`self::inspect`] | inspects the directory |
//! | [`self::start`] | starts the journal |
//! | [`self::agreement`] | compares an index with the log |
//! | [`self::recover`] | reads the runs from a store that is whole |

mod agreement;
pub(crate) mod inspect;
pub(crate) mod recover;
pub(crate) mod start;

use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

use tokio::sync::mpsc;

use self::inspect::inspect;
use self::recover::{claim, recover};
use self::start::{Ready, start};
use crate::archive::Catalog;
use crate::ballast;
use crate::error::JournalError;
use crate::fault_injection::FaultHook;
use crate::handle::Journal;
use crate::logged_store::OwnerFile;
use crate::options::Options;
use crate::owner::Owner;
use crate::paths;
use crate::rebuild;
use crate::record::{Entry, Head};
use crate::repair::{Rebuilt, Repair};
use crate::store::{Meta, Store};
use crate::worker::{self, QUEUE_LENGTH};
use crate::writer::{Archives, Shared, Writer};

/// The result of an open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The epoch that this open claimed.
    pub epoch: u64,
    pub head: Head,
    /// Number of records, without archived ones.
    pub records: u64,
    /// The entries of every open stream. Streams are in the order of their first positions.
    pub streams: Vec<(Uuid, Vec<Entry>)>,
    /// Repairs of this open. Each is also a record of the journal.
    pub repairs: Vec<Repair>,
    /// Whether the ballast exists.
    pub ballast: bool,
}

impl Journal {
    /// Opens the journal in `dir`, with its writer on a thread. Creates the directory if it is missing.
    ///
    /// Blocks while a dying process still holds the lock, and while the chain is checked. An index that is
    /// not a prefix of the log is rebuilt; see [`Repair`]. A log that is damaged, or ends before a known
    /// record, is refused.
    ///
    /// # Errors
    /// The journal is held, damaged, lost or from a newer Stillpoint, or the disk failed.
    pub fn open_thread(dir: &Path, options: Options) -> Result<(Journal, Opened), JournalError> {
        let Ready { store, meta, opened, catalog, .. } = open_with_ballast(dir, &options)?;
        let archives = archives(dir, catalog, &options);
        start_on_thread(store, meta, opened, dir, Some(archives))
    }

    /// As [`open_thread`](Journal::open_thread), with its writer as a task of the current runtime.
    ///
    /// For simulated time: the writer commits inline and blocks the runtime meanwhile.
    ///
    /// # Errors
    /// As [`open_thread`](Journal::open_thread).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open_inline(dir: &Path, options: Options) -> Result<(Journal, Opened), JournalError> {
        let Ready { store, meta, opened, catalog, .. } = open_with_ballast(dir, &options)?;
        let archives = archives(dir, catalog, &options);
        Ok((start_as_task(store, meta, Some(archives)), opened))
    }

    /// Rebuilds the damaged log in `dir`. Records that the log cannot read come from its index.
    ///
    /// The new log ends with the last record that is known to have existed, or later. If `accept_loss` is
    /// set, it may end before that, and says so in a record. `published` is a head that was published
    /// elsewhere. The old log is renamed.
    ///
    /// # Errors
    /// The log is not damaged, a record is missing and its loss is not accepted, a running process holds the
    /// journal, a newer Stillpoint wrote it, or the disk failed.
    pub fn rebuild_from_index(
        dir: &Path,
        options: &Options,
        published: Option<Head>,
        accept_loss: bool,
    ) -> Result<Rebuilt, JournalError> {
        let found = inspect(dir, options, &FaultHook(options.faults.clone()))?;
        let (_lock, sources) = found.into_sources(dir, published)?;
        rebuild::rebuild(dir, sources, options, accept_loss)
    }

    /// Opens the journal in `store`, with its writer as a task of the current runtime.
    ///
    /// For simulated time: the writer commits inline and blocks the runtime meanwhile.
    ///
    /// # Errors
    /// As [`open_thread`](Journal::open_thread), except for the lock.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open_task<S: Store + 'static>(mut store: S) -> Result<(Journal, Opened), JournalError> {
        let (mut meta, mut opened) = recover(&store)?;
        claim(&mut store, &mut meta, &mut opened)?;
        Ok((start_as_task(store, meta, None), opened))
    }
}

/// What an open journal needs to archive.
fn archives(dir: &Path, catalog: Arc<Catalog>, options: &Options) -> Archives {
    let Options { links, keeps, segment_bytes, ref faults, .. } = *options;
    let (journal, faults) = (dir.to_owned(), FaultHook(faults.clone()));
    Archives { journal, catalog, links, keeps, segment_bytes, faults, turn: tokio::sync::Mutex::default() }
}

fn start_as_task<S: Store + 'static>(store: S, meta: Meta, archives: Option<Archives>) -> Journal {
    let shared = Shared::new(meta.head, archives);
    let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
    let writer = Writer::new(store, meta, shared.clone());
    tokio::spawn(worker::task(writer, shared.clone(), receiver));
    Journal::new(sender, shared, None, meta.epoch)
}

pub(crate) fn start_on_thread<S: Store + 'static>(
    store: S,
    meta: Meta,
    opened: Opened,
    dir: &Path,
    archives: Option<Archives>,
) -> Result<(Journal, Opened), JournalError> {
    let shared = Shared::new(meta.head, archives);
    let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
    let writer = Writer::new(store, meta, shared.clone());
    let thread = worker::thread(writer, shared.clone(), receiver);
    let thread = thread.map_err(JournalError::io("start a writer for", dir))?;
    Ok((Journal::new(sender, shared, Some(thread), meta.epoch), opened))
}

fn open_with_ballast(dir: &Path, options: &Options) -> Result<Ready, JournalError> {
    let faults = FaultHook(options.faults.clone());
    match open_dir(dir, options, vec![]) {
        Err(error) if error.is_full() => match ballast::spend(dir) {
            // A later open writes the ballast again. Now there is no room for it.
            Ok(Some(bytes)) => open_dir(dir, options, vec![Repair::BallastSpent { bytes }]),
            _ => Err(error),
        },
        Err(error) => Err(error),
        Ok(mut ready) => {
            ready.opened.ballast = ballast::ensure(dir, options.ballast_bytes, &faults);
            Ok(ready)
        }
    }
}

fn open_dir(dir: &Path, options: &Options, repairs: Vec<Repair>) -> Result<Ready, JournalError> {
    paths::create(dir)?;
    let faults = FaultHook(options.faults.clone());
    let mut ready = start(dir, options, &faults, repairs)?;
    let (pid, host) = (options.pid, options.host.clone());
    let owner = Owner { pid, host, epoch: ready.meta.epoch, position: ready.meta.head.position };
    owner.write(dir, &faults)?;
    ready.store.set_owner(OwnerFile { dir: dir.to_owned(), owner, faults });
    Ok(ready)
}
