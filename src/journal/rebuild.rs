//! Rebuilds a damaged log, on request. The records that the log cannot read come from its index.
//!
//! All records that the log can read stay, also those behind the damage. The new log is one chain from the
//! first record to the last, and it is verified before it replaces the old one. It does not end before a
//! record that is known to have existed, unless the caller accepts the loss. Then the loss is recorded.
//!
//! # The replacement
//! The new log is written to [`DRAFT`]. When it is complete, it is renamed to [`COMPLETE`]. From then on each
//! open finishes the replacement: it renames the old log, then the new one. No file is removed.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::archive::Checkpoint;
use super::chain::{ChainProblem, Checker, Fault, open_at};
use super::envelope;
use super::error::JournalError;
use super::fault_injection::{Call, FaultHook};
use super::log::{self, LogWriter, Salvage};
use super::options::Options;
use super::paths;
use super::record::{Entry, Head};
use super::repair::{self, Rebuilt, Repair};
use super::sled_store::SledStore;
use super::store::{Batch, Meta, Store, StoreError, StoredRecord, StreamHead, StreamState};

/// Name of the directory of a log that is being written.
const DRAFT: &str = "log.new";

/// Name of the directory of a complete log that replaces the present one.
const COMPLETE: &str = "log.rebuilt";

/// Name of a file in a complete log that lost records. Then the witnesses of these records, the index and
/// `owner.json`, are renamed as well.
const LOST_RECORDS: &str = "lost-records";

/// Number of records in one frame of a rebuilt log.
const FRAME_RECORDS: usize = 64;

/// What a rebuild starts from.
pub(crate) struct Sources {
    /// The index, if it opens.
    pub index: Option<(SledStore, Meta)>,
    /// The last record that a witness names.
    pub known: u64,
    /// The last epoch that a witness names.
    pub epoch: u64,
    /// A head that was published elsewhere.
    pub published: Option<Head>,
}

/// Writes a new log beside the damaged one in `dir`, and puts it in its place.
///
/// # Errors
/// [`JournalError::RebuildShort`] if a record that existed is neither in the log nor in the index, and
/// `accept_loss` is not set. Other errors if the disk failed. The journal is unchanged then.
pub(crate) fn rebuild(
    dir: &Path,
    sources: Sources,
    options: &Options,
    accept_loss: bool,
) -> Result<Rebuilt, JournalError> {
    let faults = FaultHook(options.faults.clone());
    let draft = dir.join(DRAFT);
    paths::remove(&draft)?;
    let path = paths::log(dir);
    let salvage = log::salvage(&path).map_err(JournalError::io("read", &path))?;
    let known = salvage.reached.max(sources.known).max(sources.published.map_or(0, |head| head.position));
    let reached = salvage.epoch;
    let epoch = reached.max(sources.epoch).max(options.after_epoch).checked_add(1);
    let epoch = epoch.ok_or(StoreError::Layout { what: "the epoch" })?;

    let mut merge = Merge::new(salvage, &sources);
    let start = merge.checker.verified().head;
    let mut new = Draft::begin(&draft, start, options.segment_bytes, &faults)?;
    while let Some((state, entry, envelope)) = merge.next()? {
        new.push(state, &entry, envelope)?;
    }
    let end = merge.checker.verified().head;
    let lost = (end.position < known).then_some(known);
    let found = reached.max(sources.index.as_ref().map_or(0, |(_, meta)| meta.epoch));
    let lost_epoch = (found < sources.epoch).then_some(sources.epoch);
    if !accept_loss && (lost.is_some() || lost_epoch.is_some()) {
        drop(new);
        paths::remove(&draft)?;
        let (dir, last) = (dir.to_owned(), end.position);
        return Err(match lost {
            Some(known) => JournalError::RebuildShort { dir, last, known },
            None => JournalError::Behind { dir, found, claimed: sources.epoch },
        });
    }
    let rebuilt = Rebuilt { replaced: merge.replaced, last: end.position, lost, lost_epoch };
    let meta = Meta { epoch, head: end, truncated_at: start, ..Meta::new() };
    let claim = repair::claim(meta, &[Repair::LogRebuilt(rebuilt)], merge.repairs, (options.now)());
    let head = claim.meta.head;
    new.finish(claim)?;
    verified(&draft, head)?;
    // sled holds its files until here.
    drop(sources);
    complete(dir, &draft, lost.is_some(), &faults)?;
    finish(dir, paths::LOG, &faults)?;
    Ok(rebuilt)
}

/// Checks a new log from its first record to its last.
fn verified(draft: &Path, head: Head) -> Result<(), JournalError> {
    let summary = log::read(draft, &mut |_| Ok(()))?;
    let problem = summary.as_ref().and_then(|summary| summary.damage.clone());
    match (summary, problem) {
        (_, Some(source)) => Err(JournalError::Damaged { torn: false, source }),
        (Some(summary), None) if summary.head == head && summary.torn.is_none() => Ok(()),
        _ => {
            let source = ChainProblem { position: head.position, what: Fault::HeadHash };
            Err(JournalError::Damaged { torn: false, source })
        }
    }
}

fn complete(dir: &Path, draft: &Path, lost_records: bool, faults: &FaultHook) -> Result<(), JournalError> {
    if lost_records {
        let marker = draft.join(LOST_RECORDS);
        let write = || {
            File::create(&marker)?.sync_all()?;
            File::open(draft)?.sync_all()
        };
        write().map_err(JournalError::io("write", &marker))?;
    }
    replace(faults, || paths::put_in_place(draft, &dir.join(COMPLETE)))
}

fn replace(
    faults: &FaultHook,
    rename: impl FnOnce() -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    let failed = |error| StoreError::io("replace the log", &error).into();
    faults.run(Call::LogReplace, failed, rename)
}

/// Finishes the replacement of the log in the directory `log`, if its new log is complete. Repeats no step that is
/// done.
pub(crate) fn finish(dir: &Path, log: &str, faults: &FaultHook) -> Result<(), JournalError> {
    let complete = dir.join(format!("{log}.rebuilt"));
    if !complete.exists() {
        return Ok(());
    }
    let epoch = crate::log::read(&complete, &mut |_| Ok(()))?.map_or(0, |summary| summary.epoch);
    replace(faults, || paths::set_aside(dir, log, epoch).map(drop))?;
    if complete.join(LOST_RECORDS).exists() {
        for witness in ["sled", "owner.json"] {
            replace(faults, || paths::set_aside(dir, witness, epoch).map(drop))?;
        }
    }
    replace(faults, || paths::put_in_place(&complete, &dir.join(log)))
}

/// Writes the log of a journal of an earlier release, which had only a database, to the directory `to`. Returns
/// the number of records.
pub(crate) fn begin_log(
    dir: &Path,
    store: &dyn Store,
    meta: Meta,
    options: &Options,
    to: &Path,
) -> Result<u64, JournalError> {
    let draft = dir.join(DRAFT);
    paths::remove(&draft)?;
    let faults = FaultHook(options.faults.clone());
    let mut new = Draft::begin(&draft, meta.truncated_at, options.segment_bytes, &faults)?;
    for raw in store.records(meta.truncated_at.position.saturating_add(1)) {
        let (position, envelope) = raw?;
        let entry = open_at(position, &envelope);
        let entry = entry.map_err(|source| JournalError::Damaged { torn: false, source })?;
        new.push(state_of(store, &entry)?, &entry, envelope)?;
    }
    new.finish(Batch { meta, records: vec![], streams: vec![] })?;
    verified(&draft, meta.head)?;
    paths::put_in_place(&draft, to)?;
    Ok(meta.head.position - meta.truncated_at.position)
}

/// The state of a stream after one of its records. The index knows only the state after the last one.
fn state_of(store: &dyn Store, entry: &Entry) -> Result<StreamState, StoreError> {
    let head = store.stream(entry.stream)?.filter(|head| head.last_position == entry.position);
    Ok(head.map_or(StreamState::Open, |head| head.state))
}

/// Joins the records of a damaged log and of its index to one chain.
struct Merge<'a> {
    salvage: Salvage,
    index: Option<&'a SledStore>,
    published: Option<Head>,
    checker: Checker,
    /// Number of records that came from the index.
    replaced: u64,
    /// The stream of the repair records.
    repairs: Option<StreamHead>,
}

impl<'a> Merge<'a> {
    fn new(salvage: Salvage, sources: &'a Sources) -> Merge<'a> {
        let checker = Checker::new(first(&salvage, sources));
        let index = sources.index.as_ref().map(|(store, _)| store);
        Merge { salvage, index, published: sources.published, checker, replaced: 0, repairs: None }
    }

    /// The next record of the chain. `None` if neither the log nor the index has it.
    fn next(&mut self) -> Result<Option<(StreamState, Entry, Vec<u8>)>, JournalError> {
        let position = self.checker.verified().head.position.saturating_add(1);
        let next = match self
            .salvage
            .records
            .remove(&position)
            .and_then(|(state, bytes)| self.admit(position, state, bytes))
        {
            Some(logged) => Some(logged),
            None => self.indexed(position)?,
        };
        let Some((state, entry, envelope)) = next else { return Ok(None) };
        if self.published.is_some_and(|head| head.position == position && head != entry.head()) {
            let source = ChainProblem { position, what: Fault::OtherHistory };
            return Err(JournalError::Damaged { torn: false, source });
        }
        if entry.stream == repair::stream() {
            let first_position = self.repairs.map_or(position, |head| head.first_position);
            let (stream, last_seq, last_position) = (entry.stream, entry.seq, position);
            self.repairs = Some(StreamHead { stream, state, last_seq, first_position, last_position });
        }
        Ok(Some((state, entry, envelope)))
    }

    fn admit(
        &mut self,
        position: u64,
        state: StreamState,
        bytes: Vec<u8>,
    ) -> Option<(StreamState, Entry, Vec<u8>)> {
        let entry = open_at(position, &bytes).ok()?;
        self.checker.admit(&entry).ok()?;
        Some((state, entry, bytes))
    }

    fn indexed(&mut self, position: u64) -> Result<Option<(StreamState, Entry, Vec<u8>)>, JournalError> {
        let Some(index) = self.index else { return Ok(None) };
        // A damaged index may still have most of its records.
        let Ok(Some(bytes)) = index.record(position) else { return Ok(None) };
        let Ok(entry) = open_at(position, &bytes) else { return Ok(None) };
        let state = state_of(index, &entry).unwrap_or(StreamState::Open);
        let next = self.admit(position, state, bytes);
        self.replaced += u64::from(next.is_some());
        Ok(next)
    }
}

/// The head before the first record of the new log: the last record of the newest archive. Without archives it is
/// that of the first segment, or the beginning of the index.
fn first(salvage: &Salvage, sources: &Sources) -> Head {
    let logged = salvage.records.values().map(|(_, bytes)| bytes.clone());
    let index = sources.index.as_ref();
    let indexed = index.into_iter().flat_map(|(store, _)| store.records(0)).filter_map(Result::ok);
    let entries = logged.chain(indexed.map(|(_, bytes)| bytes));
    let checkpoints = entries.filter_map(|bytes| Checkpoint::of(&envelope::open(&bytes).ok()?.record));
    let archived = checkpoints.map(|checkpoint| checkpoint.last).max_by_key(|last| last.position);
    let through = archived.map_or(0, |last| last.position);
    // A segment that is an archive already is not needed, and its records may have left the index.
    let header = salvage.start.filter(|start| through == 0 && start.position == 0);
    let first = salvage.records.get(&1).and_then(|(_, bytes)| envelope::open(bytes).ok());
    let genesis = first.map_or(Head::genesis(), |entry| Head { position: 0, hash: entry.prev });
    header.or(archived).or(index.map(|(_, meta)| meta.truncated_at)).unwrap_or(genesis)
}

/// A log that is being written.
struct Draft {
    path: PathBuf,
    writer: LogWriter,
    batch: Batch,
}

impl Draft {
    fn begin(
        path: &Path,
        start: Head,
        segment_bytes: u64,
        faults: &FaultHook,
    ) -> Result<Draft, JournalError> {
        let writer = LogWriter::begin(path, start, segment_bytes, faults.clone());
        let writer = writer.map_err(JournalError::io("begin a log in", path))?;
        let meta = Meta { head: start, truncated_at: start, ..Meta::new() };
        Ok(Draft { path: path.to_owned(), writer, batch: Batch { meta, records: vec![], streams: vec![] } })
    }

    fn push(&mut self, state: StreamState, entry: &Entry, envelope: Vec<u8>) -> Result<(), JournalError> {
        let Entry { stream, seq, position, .. } = *entry;
        let batch = &mut self.batch;
        (batch.meta.epoch, batch.meta.head) = (entry.epoch, entry.head());
        batch.streams.retain(|known| known.stream != stream);
        let head = StreamHead { stream, state, last_seq: seq, first_position: 0, last_position: position };
        batch.streams.push(head);
        batch.records.push(StoredRecord { position, stream, seq, envelope });
        if batch.records.len() == FRAME_RECORDS {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        if !self.batch.records.is_empty() {
            self.writer.append(&self.batch)?;
            (self.batch.records, self.batch.streams) = (vec![], vec![]);
        }
        Ok(())
    }

    /// Ends the log with the batch that claims an epoch, and syncs it.
    fn finish(mut self, claim: Batch) -> Result<(), JournalError> {
        self.flush()?;
        self.writer.append(&claim)?;
        self.writer.sync()?;
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(JournalError::io("sync", &self.path))
    }
}
