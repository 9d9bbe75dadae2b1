//! Inspects a journal directory: the lock, the last owner, the log, the index.
//!
//! This module changes only what a crash left half-made, and the ballast if there is no room. Not here: the
//! judgement ([`crate::judge`]) and the start ([`super::start`]).

use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

use super::recover::{read_meta, recover};
use crate::ballast;
use crate::envelope::SCHEMA;
use crate::error::JournalError;
use crate::fault_injection::FaultHook;
use crate::judge::{Relation, Ruling, Witness, judge, relate};
use crate::lock::Lock;
use crate::log::{self, LogSummary};
use crate::options::Options;
use crate::owner::Owner;
use crate::paths;
use crate::rebuild::{self, Sources};
use crate::record::Head;
use crate::repair::{self, Repair};
use crate::sled_store::SledStore;
use crate::store::{Meta, StoreError, StreamHead};

/// A journal as found, with its lock held.
pub(crate) struct Found {
    pub lock: Lock,
    owner: Option<Owner>,
    pub log: FoundLog,
    pub index: FoundIndex,
    /// Repairs so far.
    pub repairs: Vec<Repair>,
}

/// The log as found.
#[derive(Default)]
pub(crate) struct FoundLog {
    pub summary: Option<LogSummary>,
    /// The stream of the repair records.
    pub repairs: Option<StreamHead>,
    /// Hash in the log at the position of the index's head.
    pub at_index: Option<[u8; 32]>,
    /// The streams with records in the log, as of the index's head.
    pub streams: BTreeMap<Uuid, StreamHead>,
}

/// The index as found.
pub(crate) enum FoundIndex {
    Missing,
    Open(Box<SledStore>, Meta),
    /// sled does not open it.
    Unopenable(JournalError),
    /// It opens, and its meta tree is invalid.
    Invalid(JournalError),
}

/// Tries to lock until the lock is free, as often as the options say.
pub(crate) fn wait_for_lock(
    dir: &Path,
    options: &Options,
    faults: &FaultHook,
) -> Result<Found, JournalError> {
    for attempt in 1..options.lock_attempts.max(1) {
        match inspect(dir, options, faults) {
            Err(held @ JournalError::Held { .. }) => {
                if attempt == 1 {
                    (options.on_held)(&held);
                }
                (options.sleep)(options.lock_pause);
            }
            other => return other,
        }
    }
    inspect(dir, options, faults)
}

/// Locks and reads the directory.
pub(crate) fn inspect(dir: &Path, options: &Options, faults: &FaultHook) -> Result<Found, JournalError> {
    let lock = Lock::exclusive(dir)?;
    rebuild::finish(dir, faults)?;
    // Read under the lock: before, its holder may still have written the file.
    let owner = Owner::read(dir)?;
    let index = open_index(dir, faults)?;
    let (mut head, mut repairs) = (None, Vec::new());
    if let FoundIndex::Open(store, meta) = &index {
        head = Some(meta.head);
        repairs.extend(begin_log(dir, store, meta, options)?);
    }
    let log = read_log(&paths::log(dir), head)?;
    let spent = ballast::spend_without_room(dir, faults);
    let spent = spent.map_err(JournalError::io("look for room in", dir))?;
    repairs.extend(spent.map(|bytes| Repair::BallastSpent { bytes }));
    Ok(Found { lock, owner, log, index, repairs })
}

/// The last schema whose journals had no log.
const SCHEMA_WITHOUT_LOG: u16 = 1;

/// Writes the log of a journal of an earlier release that had none.
fn begin_log(
    dir: &Path,
    store: &SledStore,
    meta: &Meta,
    options: &Options,
) -> Result<Option<Repair>, JournalError> {
    if meta.schema > SCHEMA_WITHOUT_LOG || paths::log(dir).exists() {
        return Ok(None);
    }
    recover(store)?;
    rebuild::begin_log(dir, store, *meta, options).map(|records| Some(Repair::LogBegun { records }))
}

fn open_index(dir: &Path, faults: &FaultHook) -> Result<FoundIndex, JournalError> {
    if !SledStore::lock_file(&paths::index(dir)).exists() {
        return Ok(FoundIndex::Missing);
    }
    let store = match named(dir, SledStore::open_probed(&paths::index(dir), faults.clone())) {
        Ok(store) => store,
        Err(error @ JournalError::Unopenable { source: StoreError::Broken { .. }, .. }) => {
            return Ok(FoundIndex::Unopenable(error));
        }
        Err(error) => return Err(error),
    };
    match read_meta(&store) {
        Ok(meta) => Ok(FoundIndex::Open(Box::new(store), meta)),
        Err(error @ JournalError::NewerSchema { .. }) => Err(error),
        Err(error) => Ok(FoundIndex::Invalid(error)),
    }
}

/// Reads the whole log. `index` is the head of the index.
pub(crate) fn read_log(path: &Path, index: Option<Head>) -> Result<FoundLog, JournalError> {
    let mut found = FoundLog::default();
    found.summary = log::read(path, &mut |admitted| {
        for (state, entry, _) in &admitted.records {
            let (stream, position) = (entry.stream, entry.position);
            let after = |known: Option<&StreamHead>| StreamHead {
                stream,
                state: *state,
                last_seq: entry.seq,
                first_position: known.map_or(position, |head| head.first_position),
                last_position: position,
            };
            if index.is_some_and(|index| position <= index.position) {
                let head = after(found.streams.get(&stream));
                found.streams.insert(stream, head);
                found.at_index = Some(entry.hash);
            }
            if stream == repair::stream() {
                found.repairs = Some(after(found.repairs.as_ref()));
            }
        }
        Ok(())
    })?;
    if let (Some(summary), Some(index)) = (&found.summary, index)
        && summary.start.position == index.position
    {
        found.at_index = Some(summary.start.hash);
    }
    Ok(found)
}

impl Found {
    /// This journal, if a daemon may start from it.
    ///
    /// # Errors
    /// A daemon must not start from these files.
    pub fn judged(self, dir: &Path) -> Result<Found, JournalError> {
        let (last, found) = self.log.summary.as_ref().map_or((0, 0), |log| (log.head.position, log.epoch));
        match judge(self.log.summary.as_ref(), &self.witnesses(None)) {
            Ruling::Whole => Ok(self),
            // A journal gets its log first. An index alone is not a new journal.
            Ruling::New => match self.index {
                FoundIndex::Unopenable(error) | FoundIndex::Invalid(error) => Err(error),
                FoundIndex::Missing | FoundIndex::Open(..) => Ok(self),
            },
            Ruling::Damaged(source) => Err(JournalError::Damaged { torn: false, source }),
            Ruling::Short(witness) => {
                let (dir, Witness { name, position, epoch }) = (dir.to_owned(), witness);
                let has_index = !matches!(self.index, FoundIndex::Missing);
                Err(match self.log.summary {
                    None if !has_index => JournalError::Lost { dir, epoch },
                    _ if position > last => JournalError::Short { dir, last, known: position, witness: name },
                    None => JournalError::Lost { dir, epoch },
                    Some(_) => JournalError::Behind { dir, found, claimed: epoch },
                })
            }
        }
    }

    /// The sources to rebuild the log from. `published` is a head that was published elsewhere.
    ///
    /// # Errors
    /// The log is not damaged, and reaches every witness.
    pub fn into_sources(self, dir: &Path, published: Option<Head>) -> Result<(Lock, Sources), JournalError> {
        let witnesses = self.witnesses(published);
        if matches!(judge(self.log.summary.as_ref(), &witnesses), Ruling::Whole | Ruling::New) {
            return Err(JournalError::NotDamaged { dir: dir.to_owned() });
        }
        let highest = |of: fn(&Witness) -> u64| witnesses.iter().map(of).max().unwrap_or(0);
        let (known, epoch) = (highest(|witness| witness.position), highest(|witness| witness.epoch));
        let index = match self.index {
            FoundIndex::Open(store, meta) => Some((*store, meta)),
            FoundIndex::Missing | FoundIndex::Unopenable(_) | FoundIndex::Invalid(_) => None,
        };
        Ok((self.lock, Sources { index, known, epoch, published }))
    }

    fn witnesses(&self, published: Option<Head>) -> Vec<Witness> {
        let mut witnesses = Vec::new();
        if let Some(Head { position, .. }) = published {
            witnesses.push(Witness { name: "the published head", position, epoch: 0 });
        }
        if let FoundIndex::Open(_, meta) = &self.index {
            let (position, epoch) = (meta.head.position, meta.epoch);
            witnesses.push(Witness { name: "its index", position, epoch });
        }
        if let Some(Owner { epoch, position, .. }) = self.owner {
            witnesses.push(Witness { name: "owner.json", position, epoch });
        }
        witnesses
    }

    /// The [`Meta`] of the journal.
    pub fn meta(&self) -> Meta {
        let schema = match &self.index {
            FoundIndex::Open(_, meta) => meta.schema,
            _ => SCHEMA,
        };
        let new = Meta::new();
        match &self.log.summary {
            Some(log) => Meta { schema, epoch: log.epoch, head: log.head, truncated_at: log.start },
            None => Meta { schema, ..new },
        }
    }

    /// The relation of an index that opens to the log.
    pub fn relation(&self) -> Option<Relation> {
        match (&self.log.summary, &self.index) {
            (Some(log), FoundIndex::Open(_, meta)) => {
                Some(relate(log, meta.truncated_at, meta.head, self.log.at_index))
            }
            _ => None,
        }
    }
}

/// Adds the directory and the holder to an error of the index.
pub(crate) fn named(dir: &Path, opened: Result<SledStore, StoreError>) -> Result<SledStore, JournalError> {
    let dir = dir.to_owned();
    opened.map_err(|error| match error {
        StoreError::Held => JournalError::Held { owner: Owner::read(&dir).ok().flatten(), dir },
        source => JournalError::Unopenable { dir, source },
    })
}
