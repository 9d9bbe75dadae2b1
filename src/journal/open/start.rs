//! Starts a journal from its log, and brings the index up to it.
//!
//! The order is safe in a crash at any point. First the log is judged, and what was read from it is made
//! durable. Then it gets the claim of the new epoch with the records of the repairs, synced. Then the index is
//! brought up to the log and synced. Only then the open runs are read from the index.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Opened;
use super::agreement::difference;
use super::inspect::{Found, FoundIndex, FoundLog, named, wait_for_lock};
use super::recover::recover;
use crate::archive::{self, Catalog, Places};
use crate::archived;
use crate::catch_up;
use crate::earlier::copies::copies;
use crate::error::JournalError;
use crate::fault_injection::FaultHook;
use crate::judge::Relation;
use crate::log::{self, LogWriter};
use crate::logged_store::LoggedStore;
use crate::options::Options;
use crate::paths;
use crate::record::Head;
use crate::repair::{self, Repair};
use crate::sled_store::SledStore;
use crate::store::{Batch, Meta, Store, StoreError};

/// A journal that is ready for the writer.
pub(crate) struct Ready {
    pub store: LoggedStore,
    pub meta: Meta,
    pub opened: Opened,
    /// The journal's [`Meta`] before this start added its epoch and its repair records.
    pub found: Meta,
    pub catalog: Arc<Catalog>,
}

/// The index before the start.
enum Index {
    /// A prefix of the log, with the runs in it.
    Usable(Box<(SledStore, Meta, Opened)>),
    /// There is none, or one without records.
    Absent,
    /// sled does not open it.
    Unopenable(String),
    /// It opens, and has other contents than the log.
    Different(String),
}

/// Checks the files in the directory, and starts a journal from them or refuses.
///
/// A daemon starts its journal with this function. A [`Snapshot`](crate::Snapshot) starts a private copy
/// with it. So both give the same result for the same files.
pub(crate) fn start(
    dir: &Path,
    options: &Options,
    faults: &FaultHook,
    repairs: Vec<Repair>,
) -> Result<Ready, JournalError> {
    let found = wait_for_lock(dir, options, faults)?.judged(dir)?;
    Start { dir, options, faults }.run(found, repairs)
}

struct Start<'a> {
    dir: &'a Path,
    options: &'a Options,
    faults: &'a FaultHook,
}

impl Start<'_> {
    fn run(&self, found: Found, mut repairs: Vec<Repair>) -> Result<Ready, JournalError> {
        let (before, relation) = (found.meta(), found.relation());
        let Found { lock, log: found_log, index, repairs: done, .. } = found;
        repairs.extend(done);
        let epoch = before.epoch.max(self.options.after_epoch).checked_add(1);
        let epoch = epoch.ok_or(StoreError::Layout { what: "the epoch" })?;
        let mut log = self.log(&found_log)?;
        let torn = found_log.summary.as_ref().and_then(|summary| summary.torn.as_ref());
        repairs.extend(
            torn.map(|torn| Repair::TailTruncated { bytes: torn.bytes, after: before.head.position }),
        );
        let summary = found_log.summary.as_ref();
        let places = Places::new(self.dir, self.options.archive_dir.as_deref());
        let (catalog, rebuilt) = archived::load(self.dir, places, summary, self.faults)?;
        repairs.extend(rebuilt);
        let index = usable(index, relation, &found_log, before.truncated_at)?;
        repairs.extend(self.clear_unusable(&index, epoch, &found_log)?);

        let meta = Meta { epoch, ..before };
        let claim = repair::claim(meta, &repairs, found_log.repairs, (self.options.now)());
        log.append(&claim)?;
        let converted = self.convert(&mut log, &claim, &found_log)?;
        log.sync()?;
        let (store, meta, mut opened) = self.bring_up(index, before, &claim, converted)?;
        archived::complete(&mut opened.streams, &catalog)?;

        let mut store = LoggedStore::new(store, log, lock);
        let meta = archived::finish(self.dir, &mut store, meta, summary, &catalog, self.faults)?;
        let mut opened = Opened { repairs, ..opened };
        opened.records = meta.head.position - meta.truncated_at.position;
        let found = Meta { truncated_at: meta.truncated_at, ..before };
        Ok(Ready { store, meta, opened, found, catalog: Arc::new(catalog) })
    }

    /// The log, with everything that was read from it on disk.
    fn log(&self, found: &FoundLog) -> Result<LogWriter, JournalError> {
        let (path, faults, bytes) = (paths::log(self.dir), self.faults.clone(), self.options.segment_bytes);
        let writer = match &found.summary {
            Some(summary) => LogWriter::resume(&path, summary, bytes, faults),
            None => LogWriter::begin(&path, Head::genesis(), bytes, faults),
        };
        writer.map_err(JournalError::io("continue the log in", &path))
    }

    /// Appends the copies of archived records that an earlier release wrote to a file, behind `claim`, and a
    /// checkpoint for them. Returns whether there were any.
    fn convert(&self, log: &mut LogWriter, claim: &Batch, found: &FoundLog) -> Result<bool, JournalError> {
        let Some(newest) = found.summary.as_ref().and_then(|summary| summary.checkpoint) else {
            return Ok(false);
        };
        let Some(file) = newest.file_of_copies else { return Ok(false) };
        let places = Places::new(self.dir, self.options.archive_dir.as_deref());
        let mut copies = copies(&places, &newest, file, self.options.links)?;
        // The log may have later records of these streams, and their ends.
        let mut later = BTreeMap::new();
        log::read(&paths::log(self.dir), &mut |admitted| {
            let own = admitted.records.iter().filter(|(_, entry, _)| copies.contains_key(&entry.stream));
            later.extend(own.map(|(state, entry, _)| (entry.stream, (*state, entry.seq, entry.position))));
            Ok(())
        })?;
        let heads = archive::heads(&mut copies, &later);
        let now = (self.options.now)();
        let records = archive::copied_again(&newest, copies, &heads, claim.meta.head.position + 1, now);
        let known = claim.streams.first().copied().or(found.repairs);
        repair::batches(claim.meta, records, known).try_for_each(|batch| log.append(&batch))?;
        Ok(true)
    }

    /// Removes an index that is not used. One that opens, and has other contents than the log, is renamed.
    fn clear_unusable(
        &self,
        index: &Index,
        epoch: u64,
        log: &FoundLog,
    ) -> Result<Option<Repair>, JournalError> {
        let records = log.summary.as_ref().map_or(0, |summary| summary.records);
        let is_new = log.summary.as_ref().is_none_or(|summary| summary.epoch == 0);
        let (why, aside) = match index {
            Index::Usable(_) => return Ok(None),
            Index::Absent => ("it was missing".to_owned(), None),
            Index::Unopenable(why) => (why.clone(), None),
            Index::Different(why) => (why.clone(), paths::set_aside(self.dir, "sled", epoch)?),
        };
        paths::remove(&paths::index(self.dir))?;
        Ok((!is_new).then_some(Repair::IndexRebuilt { why, aside, records }))
    }

    /// Brings the index up to the log, which ends with `claim`, and syncs it. Returns the open runs.
    ///
    /// An index that does not fit on the disk is removed and rebuilt, which needs less room.
    fn bring_up(
        &self,
        index: Index,
        before: Meta,
        claim: &Batch,
        converted: bool,
    ) -> Result<(SledStore, Meta, Opened), JournalError> {
        let Index::Usable(usable) = index else { return self.rebuilt(before.truncated_at) };
        match self.caught_up(*usable, before, claim, converted) {
            Err(error) if error.is_full() => {
                paths::remove(&paths::index(self.dir))?;
                self.rebuilt(before.truncated_at)
            }
            other => other,
        }
    }

    fn caught_up(
        &self,
        (mut store, meta, opened): (SledStore, Meta, Opened),
        before: Meta,
        claim: &Batch,
        converted: bool,
    ) -> Result<(SledStore, Meta, Opened), JournalError> {
        if converted || meta.head != before.head {
            catch_up::catch_up(&mut store, &paths::log(self.dir), meta.head, meta.truncated_at)?;
            let (meta, opened) = recover(&store)?;
            return Ok((store, meta, opened));
        }
        let meta = Meta { truncated_at: meta.truncated_at, ..claim.meta };
        store.write(&Batch { meta, ..claim.clone() })?;
        store.sync()?;
        Ok((store, meta, Opened { epoch: meta.epoch, head: meta.head, ..opened }))
    }

    fn rebuilt(&self, start: Head) -> Result<(SledStore, Meta, Opened), JournalError> {
        let path = paths::index(self.dir);
        paths::create(&path)?;
        let mut store = named(self.dir, SledStore::open_probed(&path, self.faults.clone()))?;
        catch_up::catch_up(&mut store, &paths::log(self.dir), start, start)?;
        let (meta, opened) = recover(&store)?;
        Ok((store, meta, opened))
    }
}

/// Reads the runs from the index, if it is a prefix of the log.
fn usable(
    index: FoundIndex,
    relation: Option<Relation>,
    log: &FoundLog,
    start: Head,
) -> Result<Index, JournalError> {
    let (store, meta) = match index {
        FoundIndex::Missing => return Ok(Index::Absent),
        FoundIndex::Unopenable(error) => return Ok(Index::Unopenable(error.text())),
        FoundIndex::Invalid(error) => return Ok(Index::Different(error.text())),
        // It was begun and not filled.
        FoundIndex::Open(_, meta) if meta.epoch == 0 => return Ok(Index::Absent),
        FoundIndex::Open(store, meta) => (*store, meta),
    };
    let position = meta.head.position;
    let different = |why: String| Ok(Index::Different(why));
    match relation {
        Some(Relation::Prefix) => {}
        Some(Relation::Contradiction) => {
            return different(format!("its record {position} is another one than that of the log"));
        }
        Some(Relation::Apart) | None => {
            return different(format!(
                "it ends at record {position}, the log begins behind record {}",
                start.position
            ));
        }
    }
    let opened = match recover(&store) {
        Ok((_, opened)) => opened,
        Err(error @ JournalError::NewerSchema { .. }) => return Err(error),
        Err(error) => return different(error.text()),
    };
    if let Some(position) = log.lacks {
        return different(format!("it lacks the copied record {position}"));
    }
    match difference(&store, meta.truncated_at, &log.streams)? {
        Some(error) => different(error.text()),
        None => Ok(Index::Usable(Box::new((store, meta, opened)))),
    }
}
