//! Inspects a journal directory: the lock, the last owner, the log, the index.
//!
//! This module changes only what a crash left half-made, and the ballast if there is no room. Not here: the
//! judgement ([`crate::judge`]) and the start ([`super::start`]).

use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

use super::recover::read_meta;
use crate::archive::Carry;
use crate::ballast;
use crate::earlier::settle::settle;
use crate::envelope::{self, SCHEMA};
use crate::error::JournalError;
use crate::fault_injection::FaultHook;
use crate::judge::{Relation, Ruling, Witness, judge, relate};
use crate::lock::Lock;
use crate::log::{self, LogSummary};
use crate::options::Options;
use crate::owner::Owner;
use crate::paths;
use crate::rebuild::{self, Sources};
use crate::record::{Entry, Head, Keeps};
use crate::repair::{self, Repair};
use crate::sled_store::SledStore;
use crate::store::{Meta, Store, StoreError, StreamHead, StreamState};

/// A journal as found, with its lock held.
pub(crate) struct Found {
    pub lock: Lock,
    owner: Option<Owner>,
    pub log: FoundLog,
    pub index: FoundIndex,
    /// Repairs so far.
    pub repairs: Vec<Repair>,
    /// Schema of the index, if it opens.
    schema: Option<u16>,
}

/// The log as found.
#[derive(Default)]
pub(crate) struct FoundLog {
    pub summary: Option<LogSummary>,
    /// The stream of the repair records.
    pub repairs: Option<StreamHead>,
    /// Hash in the log at the position of the index's head.
    pub at_index: Option<[u8; 32]>,
    /// The streams with records or copies in the log, as of the index's head.
    pub streams: BTreeMap<Uuid, StreamHead>,
    /// Position of a record that is copied in the log and that the index does not have.
    pub lacks: Option<u64>,
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
    for log in [paths::EARLIER_LOG, paths::LOG] {
        rebuild::finish(dir, log, faults)?;
    }
    // Read under the lock: before, its holder may still have written the file.
    let owner = Owner::read(dir)?;
    let mut index = open_index(dir, faults)?;
    let schema = match &index {
        FoundIndex::Open(_, meta) => Some(meta.schema),
        _ => None,
    };
    let earlier = match &mut index {
        FoundIndex::Open(store, meta) => Some((&mut **store, meta)),
        _ => None,
    };
    let mut repairs: Vec<_> = settle(dir, earlier, options, faults)?.into_iter().collect();
    let opened = match &index {
        FoundIndex::Open(store, meta) => Some((&**store, meta)),
        _ => None,
    };
    let log = read_log(&paths::log(dir), opened, options.keeps)?;
    let spent = ballast::spend_without_room(dir, faults);
    let spent = spent.map_err(JournalError::io("look for room in", dir))?;
    repairs.extend(spent.map(|bytes| Repair::BallastSpent { bytes }));
    Ok(Found { lock, owner, log, index, repairs, schema })
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

/// Reads the whole log, and compares the copies of archived records in it with the index.
pub(crate) fn read_log(
    path: &Path,
    index: Option<(&SledStore, &Meta)>,
    keeps: Keeps,
) -> Result<FoundLog, JournalError> {
    let mut found = FoundLog::default();
    let mut lacking = Vec::new();
    found.summary = log::read(path, &mut |admitted| {
        for (state, entry, _) in &admitted.records {
            let Entry { stream, position, seq: last_seq, .. } = *entry;
            let (first_position, last_position) = (position, position);
            let head = StreamHead { stream, state: *state, last_seq, first_position, last_position };
            if let Some((store, meta)) = index.filter(|(_, meta)| position <= meta.head.position) {
                found.join(head);
                found.at_index = Some(entry.hash);
                if let Some(carry) = Carry::of(&entry.record) {
                    found.join(carry.head);
                    let head = store.stream(carry.head.stream).ok().flatten();
                    let is_needed = |copy: &&Entry| head.is_some_and(|head| needs(&head, copy, keeps));
                    let lacks = carry
                        .entries
                        .iter()
                        .filter(is_needed)
                        .find(|copy| copy.position <= meta.truncated_at.position && !has(store, copy));
                    lacking.extend(lacks.map(|copy| (position, copy.position)));
                }
            }
            if stream == repair::stream() {
                found.repairs = Some(found.repairs.map_or(head, |known| known.joined(head)));
            }
        }
        Ok(())
    })?;
    if let Some(summary) = &found.summary {
        let start = summary.start;
        if index.is_some_and(|(_, meta)| meta.head.position == start.position) {
            found.at_index = Some(start.hash);
        }
        // Copies in a segment that is an archive already may have left the index.
        let archived = summary.checkpoint.map_or(0, |newest| newest.last.position);
        found.lacks = lacking.into_iter().find(|(at, _)| *at > archived).map(|(_, position)| position);
    }
    Ok(found)
}

/// Whether a stream still needs a record of its own. Copies that nobody needs any more may have left the index.
fn needs(head: &StreamHead, copy: &Entry, keeps: Keeps) -> bool {
    match head.state {
        StreamState::Open => true,
        StreamState::Holding => copy.position == head.last_position || keeps(&copy.record),
        StreamState::Finished => false,
    }
}

/// Whether the index has this record.
fn has(store: &SledStore, copy: &Entry) -> bool {
    store.record(copy.position).is_ok_and(|bytes| bytes.is_some_and(|bytes| bytes == envelope::of(copy)))
}

impl FoundLog {
    fn join(&mut self, head: StreamHead) {
        self.streams.entry(head.stream).and_modify(|known| *known = known.joined(head)).or_insert(head);
    }
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
        let schema = self.schema.unwrap_or(SCHEMA);
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
