//! Opens a journal: waits for the lock, checks every record, claims an epoch, then starts the writer.
//!
//! The whole chain is checked before anything is appended to it. In the database one pass checks it and
//! also collects the open streams. The log is checked as well. If the two differ, [`crate::reconcile`]
//! decides the action, and [`crate::repair_half`] carries it out. The epoch is on disk in both halves
//! before a handle exists.

//!
//! | file | task |
//! |---|---|
//! | [`self::find`] | inspects the directory |
//! | [`self::recover`] | reads a store that is whole |
//! | [`crate::reconcile`] | decides the action, as a table |
//! | [`self::opening`] | carries it out |

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
    /// Blocks while a dying process still holds the lock, and while the chain is checked. If the database
    /// or the log is damaged or behind, it is rebuilt from the other half; see [`Repair`].
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
    /// For simulated time: the writer commits inline and blocks the runtime meanwhile.
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

fn open_dir(dir: &Path, options: &Options, told: Vec<Repair>) -> Result<Ready, JournalError> {
    create(dir).map_err(JournalError::io("create", dir))?;
    let faults = FaultHook(options.faults.clone());
    let ready = start(dir, options, &faults, told)?;
    Owner { pid: options.pid, host: options.host.clone(), epoch: ready.meta.epoch }.write(dir, &faults)?;
    Ok(ready)
}

/// Checks the files in the directory, and repairs them or refuses.
///
/// A daemon starts its journal with this function. A [`Snapshot`](crate::Snapshot) starts a private copy
/// with it. So both give the same result for the same files.
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

/// Creates the directory, and syncs its parent directory.
fn create(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    sync_parent(dir)
}
