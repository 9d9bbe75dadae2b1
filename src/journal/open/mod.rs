//! Opening: wait for the lock, check everything, claim an epoch, then start the writer.
//!
//! The whole chain is checked before anything is appended to it, in the database, in one pass that
//! also collects the open streams, and in the evidence. Where the two differ [`crate::reconcile`] says
//! what is done, and [`crate::repair_half`] does it. The epoch is on disk, in both, before a handle exists.

//!
//! | file | does |
//! |---|---|
//! | [`self::find`] | looks at the directory |
//! | [`self::recover`] | reads a store that is whole |
//! | [`crate::reconcile`] | decides what follows, as a table |
//! | [`self::opening`] | does it |

pub(crate) mod find;
pub(crate) mod opening;
pub(crate) mod recover;

use std::fs;
use std::path::Path;
use uuid::Uuid;

use tokio::sync::mpsc;

use self::find::wait_for_lock;
use self::opening::{Opening, Ready};
use self::recover::{claim, recover};
use crate::ballast;
use crate::error::JournalError;
use crate::fault_injection::FaultHook;
use crate::handle::Journal;
use crate::log::sync_parent;
use crate::options::Options;
use crate::owner::Owner;
use crate::record::{Entry, Head};
use crate::repair::Repair;
use crate::store::{Meta, Store};
use crate::worker::{self, QUEUE_LENGTH};
use crate::writer::{Archives, Shared, Writer};

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
    pub streams: Vec<(Uuid, Vec<Entry>)>,
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
        let Ready { store, meta, opened, catalog, .. } = open_with_ballast(dir, &options)?;
        let archives = Archives::new(dir, catalog, FaultHook(options.faults));
        start_on_thread(store, meta, opened, dir, Some(archives))
    }

    /// As [`open_thread`](Journal::open_thread), with its writer as a task of the current runtime.
    ///
    /// Meant for simulated time: it commits inline and blocks the runtime meanwhile.
    ///
    /// # Errors
    /// As [`open_thread`](Journal::open_thread).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open_inline(dir: &Path, options: Options) -> Result<(Journal, Opened), JournalError> {
        let Ready { store, meta, opened, catalog, .. } = open_with_ballast(dir, &options)?;
        let archives = Archives::new(dir, catalog, FaultHook(options.faults));
        Ok((start_as_task(store, meta, Some(archives)), opened))
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
        Ok((start_as_task(store, meta, None), opened))
    }
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
            // It is made again by a later open: now there is no room for it.
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

fn open_dir(dir: &Path, options: &Options, told: Vec<Repair>) -> Result<Ready, JournalError> {
    create(dir).map_err(JournalError::io("create", dir))?;
    let faults = FaultHook(options.faults.clone());
    let ready = start(dir, options, &faults, told)?;
    Owner { pid: options.pid, host: options.host.clone(), epoch: ready.meta.epoch }.write(dir, &faults)?;
    Ok(ready)
}

/// The start itself: judges what is in the directory, and repairs it or refuses.
///
/// A daemon starts its journal by it; a [`Snapshot`](crate::Snapshot) starts a private copy by it. So the two never say
/// different things about the same files.
pub(crate) fn start(
    dir: &Path,
    options: &Options,
    faults: &FaultHook,
    mut told: Vec<Repair>,
) -> Result<Ready, JournalError> {
    let found = wait_for_lock(dir, options, faults)?;
    found.not_behind(dir)?;
    told.extend(found.spent.map(|bytes| Repair::BallastSpent { bytes }));
    Opening { dir, options, faults: faults.clone(), told }.reconcile(found)
}

/// Creates the directory, and makes its entry durable in the directory above it.
fn create(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    sync_parent(dir)
}
