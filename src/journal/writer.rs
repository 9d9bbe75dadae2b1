//! Writes the journal: turns queued requests into one batch, one barrier, and the replies.
//!
//! [`Writer::turn`] is one function without an await, so that both workers (see [`super::worker`]) run the
//! same code. It stages every queued append, writes them as one batch, syncs once, and then replies. A
//! refused append does not affect the other appends.
//!
//! The barrier is one append to the log and one sync of it, shared by all appends of the turn. The index gets
//! the same batch in the same turn. It is synced before the replies if one of the appends requires it
//! ([`Barrier`]), or if [`MAX_UNSYNCED`] records are not on disk in it. Otherwise the worker syncs it, at most
//! one second later.
//!
//! An error of write or sync stops the writer. The writer does not retry: after a failed sync the kernel
//! may have dropped the pages to be written, and a second sync would succeed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use uuid::Uuid;

use tokio::sync::oneshot;

use super::archive::{self, Catalog, Looked, Places, Policy, Step};
use super::chain::{ChainProblem, Fault, open_at};
use super::error::{AppendError, JournalError};
use super::fault_injection::FaultHook;
use super::record::{Entry, Head, Keeps, Links, MAX_APPEND_BYTES, MAX_APPEND_RECORDS, Record, max_payload};
use super::repair;
use super::staged::{Appended, Staged};
use super::store::{Barrier, Batch, Meta, Store, StoreError, StreamHead, StreamState};

/// Maximum number of acknowledged records that are on disk in the log and not yet in its index.
pub const MAX_UNSYNCED: u64 = 256;

pub(super) struct Append {
    pub stream: Uuid,
    pub expected_seq: u64,
    pub records: Vec<Record>,
    pub state: StreamState,
    pub barrier: Barrier,
    pub reply: oneshot::Sender<Result<Appended, AppendError>>,
}

pub(super) enum Request {
    Append(Append),
    /// Returns the live entries of a stream, and the sequence of its last record.
    Stream(Uuid, oneshot::Sender<Result<(Vec<Entry>, u64), JournalError>>),
    Entries {
        from: u64,
        limit: usize,
        reply: oneshot::Sender<Result<Vec<Entry>, JournalError>>,
    },
    /// Returns the records that may be archived now. Ends the current segment if the policy says so.
    EndSegment {
        policy: Policy,
        reply: oneshot::Sender<Limits>,
    },
    /// The heads of all streams in the live journal.
    Heads(oneshot::Sender<Result<Vec<StreamHead>, JournalError>>),
    /// Appends records of the journal about itself.
    Note(Note),
    /// Removes records of an archive from the index.
    Truncate(Step, oneshot::Sender<()>),
    /// Removes the segments up to a position from the log.
    Release {
        through: u64,
        reply: oneshot::Sender<()>,
    },
}

/// Records of the journal about itself.
pub(super) struct Note {
    pub records: Vec<Record>,
    /// The note is refused if one of these streams has been opened again since.
    pub left_out: Vec<StreamHead>,
    pub reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// The records that may be archived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The head at the end of the archives.
    pub truncated_at: Head,
    pub head: Head,
}

impl Request {
    /// Payload that it adds to a batch, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Request::Append(append) => payload_bytes(&append.records),
            Request::Note(note) => payload_bytes(&note.records),
            Request::Stream(..)
            | Request::Entries { .. }
            | Request::EndSegment { .. }
            | Request::Heads(_)
            | Request::Truncate(..)
            | Request::Release { .. } => 0,
        }
    }
}

fn payload_bytes(records: &[Record]) -> usize {
    records.iter().map(|record| record.payload.len()).sum()
}

/// The state that the writer and the handles share.
pub(super) struct Shared {
    head: Mutex<Head>,
    stopped: OnceLock<String>,
    /// The damage that a running daemon found in its log.
    damage: OnceLock<String>,
    archives: Option<Archives>,
}

/// The archives of a journal in a directory.
pub(super) struct Archives {
    pub journal: PathBuf,
    pub catalog: Arc<Catalog>,
    pub links: Links,
    pub keeps: Keeps,
    pub segment_bytes: u64,
    pub faults: FaultHook,
    /// Serializes archivings. Has the segments that stay.
    pub turn: tokio::sync::Mutex<Option<Looked>>,
}

impl Archives {
    pub fn places(&self) -> &Places {
        self.catalog.places()
    }
}

impl Shared {
    pub fn new(head: Head, archives: Option<Archives>) -> Arc<Shared> {
        Arc::new(Shared {
            head: Mutex::new(head),
            stopped: OnceLock::new(),
            damage: OnceLock::new(),
            archives,
        })
    }

    /// The archives. `None` for a store that is not a directory.
    pub fn archives(&self) -> Option<&Archives> {
        self.archives.as_ref()
    }

    fn is_archived(&self, stream: Uuid) -> bool {
        self.archives().is_some_and(|archives| archives.catalog.contains(stream))
    }

    /// Position of the last archived record.
    fn archived_through(&self) -> u64 {
        self.archives().map_or(0, |archives| archives.catalog.last())
    }

    pub fn head(&self) -> Head {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the first damage of the log.
    pub fn report_damage(&self, damage: String) {
        let _ = self.damage.set(damage);
    }

    pub fn damage(&self) -> Option<String> {
        self.damage.get().cloned()
    }

    /// Sets the reason, unless one is set.
    pub fn stop(&self, reason: String) {
        let _ = self.stopped.set(reason);
    }

    pub fn reason(&self) -> String {
        self.stopped.get().cloned().unwrap_or_else(|| "its writer has gone".to_owned())
    }
}

pub(super) struct Writer<S> {
    store: S,
    meta: Meta,
    shared: Arc<Shared>,
}

/// The writer has stopped. The reason is in [`Shared`].
pub(super) struct WriterStopped;

impl<S: Store> Writer<S> {
    pub fn new(store: S, meta: Meta, shared: Arc<Shared>) -> Writer<S> {
        Writer { store, meta, shared }
    }

    /// Processes all requests with one barrier. Reads see the appends of the same turn.
    pub fn turn(&mut self, requests: Vec<Request>) -> Result<(), WriterStopped> {
        let mut staged = Staged::new(self.meta);
        let mut rest = Vec::new();
        for request in requests {
            match request {
                Request::Append(append) => self.stage(&mut staged, append)?,
                Request::Note(note) => self.note(&mut staged, note)?,
                other => rest.push(other),
            }
        }
        self.commit(staged)?;
        rest.into_iter().try_for_each(|request| self.serve(request))
    }

    /// Stages a note behind the last record of the journal's own stream.
    fn note(&self, staged: &mut Staged, note: Note) -> Result<(), WriterStopped> {
        let Note { mut records, left_out, reply } = note;
        for before in left_out {
            let stream = before.stream;
            let now = self.known(staged, stream)?.map_or(StreamState::Finished, |now| now.state);
            if now != before.state && now != StreamState::Finished {
                drop(reply.send(Err(AppendError::Reopened { stream })));
                return Ok(());
            }
        }
        for record in &mut records {
            if let Some(stream) = archive::stream_of(record)
                && let Some(head) = self.known(staged, stream)?
            {
                archive::set_head(record, &head);
            }
        }
        let (stream, state) = (repair::stream(), StreamState::Finished);
        let known = self.known(staged, stream)?;
        let expected_seq = known.map_or(0, |head| head.last_seq);
        // A note precedes the removal of the archived segments.
        let barrier = Barrier::LogAndIndex;
        self.stage(staged, Append { stream, expected_seq, records, state, barrier, reply })
    }

    fn known(&self, staged: &Staged, stream: Uuid) -> Result<Option<StreamHead>, WriterStopped> {
        match staged.streams.get(&stream) {
            Some(head) => Ok(Some(*head)),
            None => self.store.stream(stream).map_err(|error| self.end(&error)),
        }
    }

    fn stage(&self, staged: &mut Staged, append: Append) -> Result<(), WriterStopped> {
        let Append { stream, expected_seq, records, state, barrier, reply } = append;
        let known = self.known(staged, stream)?;
        // The index is truncated later than the checkpoint is written.
        let through = self.shared.archived_through().max(self.meta.truncated_at.position);
        let over = |head: &StreamHead| head.state == StreamState::Finished && head.last_position <= through;
        let archived = known.as_ref().is_none_or(over) && self.shared.is_archived(stream);
        let refused = archived.then_some(AppendError::Archived { stream });
        match refused.or_else(|| refusal(stream, expected_seq, &records, known)) {
            Some(error) => drop(reply.send(Err(error))),
            None => {
                let appended = staged.add(stream, known, &records, state);
                staged.sync_index |= barrier == Barrier::LogAndIndex;
                staged.answers.push((reply, appended));
            }
        }
        Ok(())
    }

    fn commit(&mut self, staged: Staged) -> Result<(), WriterStopped> {
        if staged.records.is_empty() {
            return Ok(());
        }
        let Staged { meta, records, streams, sync_index, answers } = staged;
        let batch = Batch { meta, records, streams: streams.into_values().collect() };
        self.store.write(&batch).and_then(|()| self.store.sync()).map_err(|error| self.end(&error))?;
        if sync_index || self.store.unsynced() >= MAX_UNSYNCED {
            self.sync_index()?;
        }
        self.meta = meta;
        *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner) = meta.head;
        for (reply, appended) in answers {
            let _ = reply.send(Ok(appended));
        }
        Ok(())
    }

    /// Time that a batch takes in addition to the work of the store.
    pub fn latency(&self) -> Duration {
        self.store.latency()
    }

    /// Whether the index has records that are not on disk in it.
    pub fn index_lags(&self) -> bool {
        self.store.unsynced() > 0
    }

    /// Ends the use of the store, with every record on disk in log and index.
    pub fn close(&mut self) -> Result<(), WriterStopped> {
        self.sync_index()?;
        self.store.close(self.meta.head).map_err(|error| self.end(&error))
    }

    /// Syncs the index.
    pub fn sync_index(&mut self) -> Result<(), WriterStopped> {
        self.store.sync_index().map_err(|error| self.end(&error))
    }

    /// Sets the reason before any reply is dropped, so that each waiting caller finds it.
    fn end(&self, error: &StoreError) -> WriterStopped {
        self.stop(error.to_string())
    }

    fn stop(&self, reason: String) -> WriterStopped {
        self.shared.stop(reason);
        WriterStopped
    }

    fn serve(&mut self, request: Request) -> Result<(), WriterStopped> {
        match request {
            Request::Stream(stream, reply) => {
                let last = self.store.stream(stream).map(|head| head.map_or(0, |head| head.last_seq));
                let read = read_stream(&self.store, self.meta.truncated_at, stream);
                drop(reply.send(read.and_then(|entries| Ok((entries, last?)))));
            }
            Request::Entries { from, limit, reply } => {
                let from = from.max(self.meta.truncated_at.position.saturating_add(1));
                drop(reply.send(read_entries(&self.store, from, limit)));
            }
            Request::EndSegment { policy, reply } => drop(reply.send(self.limits(&policy)?)),
            Request::Heads(reply) => drop(reply.send(self.store.streams().map_err(JournalError::from))),
            Request::Truncate(step, reply) => {
                let truncated = archive::truncate(&mut self.store, self.meta, step);
                self.meta = truncated.map_err(|error| self.stop(error.text()))?;
                let _ = reply.send(());
            }
            Request::Release { through, reply } => {
                // Until here the log has what the index must not have lost.
                self.sync_index()?;
                self.store.release(through).map_err(|error| self.end(&error))?;
                let _ = reply.send(());
            }
            Request::Append(_) | Request::Note(_) => {}
        }
        Ok(())
    }

    fn limits(&mut self, policy: &Policy) -> Result<Limits, WriterStopped> {
        self.store.end_segment(policy).map_err(|error| self.end(&error))?;
        Ok(Limits { truncated_at: self.meta.truncated_at, head: self.meta.head })
    }
}

fn refusal(
    stream: Uuid,
    expected: u64,
    records: &[Record],
    known: Option<StreamHead>,
) -> Option<AppendError> {
    let actual = known.map_or(0, |head| head.last_seq);
    if records.is_empty() {
        return Some(AppendError::Empty);
    }
    if expected != actual {
        return Some(AppendError::Sequence { stream, expected, actual });
    }
    if records.len() > MAX_APPEND_RECORDS {
        return Some(AppendError::TooMany { records: records.len() });
    }
    let too_large =
        |what, bytes, limit| (bytes > limit).then_some(AppendError::TooLarge { what, bytes, limit });
    let largest = records.iter().find(|record| record.payload.len() > max_payload(record.kind));
    largest
        .and_then(|record| too_large("a payload", record.payload.len(), max_payload(record.kind)))
        .or_else(|| too_large("an append", payload_bytes(records), MAX_APPEND_BYTES))
}

/// All entries of a stream that the store still holds, checked against the index. Up to `truncated_at` they are
/// copies of archived records, which may have gaps.
pub(super) fn read_stream(
    store: &dyn Store,
    truncated_at: Head,
    stream: Uuid,
) -> Result<Vec<Entry>, JournalError> {
    let Some(head) = store.stream(stream)? else { return Ok(vec![]) };
    let broken = |position| {
        let what = Fault::StreamIndex { stream };
        JournalError::Damaged { torn: false, source: ChainProblem { position, what } }
    };
    let mut entries: Vec<Entry> = Vec::new();
    for position in store.positions(stream)? {
        let bytes = store.record(position)?.ok_or_else(|| broken(position))?;
        let entry =
            open_at(position, &bytes).map_err(|source| JournalError::Damaged { torn: false, source })?;
        let follows = entries.last().is_none_or(|last| {
            let gap = last.position <= truncated_at.position && last.seq < entry.seq;
            gap || last.seq.checked_add(1) == Some(entry.seq)
        });
        if entry.stream != stream || !follows {
            return Err(broken(position));
        }
        entries.push(entry);
    }
    match entries.last() {
        Some(last) if (last.position, last.seq) == (head.last_position, head.last_seq) => Ok(entries),
        _ if head.last_position <= truncated_at.position => Ok(entries),
        _ => Err(broken(head.last_position)),
    }
}

fn read_entries(store: &dyn Store, from: u64, limit: usize) -> Result<Vec<Entry>, JournalError> {
    let open = |raw: Result<(u64, Vec<u8>), StoreError>| {
        let (position, bytes) = raw?;
        open_at(position, &bytes).map_err(|source| JournalError::Damaged { torn: false, source })
    };
    store.records(from).take(limit).map(open).collect()
}
