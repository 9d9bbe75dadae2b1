//! Defines the handle through which callers append.

mod archiving;

use std::sync::Arc;
use std::thread::JoinHandle;
use uuid::Uuid;

use tokio::sync::{mpsc, oneshot};

use super::beside::check_beside;
use super::durable::Durable;
use super::error::{AppendError, JournalError};
use super::fault_injection::Call;
use super::record::{Entry, Head, Record};
use super::room;
use super::staged::Appended;
use super::store::{Barrier, StreamState};
use super::writer::{Append, Request, Shared};

/// An open journal. Clones share one writer.
///
/// When the last clone is dropped, the writer processes the queued requests and releases the store.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

/// Runs a function that reads or writes whole files on a blocking thread.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    call: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let ended = tokio::task::spawn_blocking(call).await;
    ended.unwrap_or_else(|join| Err(JournalError::Stopped { reason: format!("{what}: {join}") }))
}

struct Inner {
    requests: Option<mpsc::Sender<Request>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    epoch: u64,
}

impl Drop for Inner {
    /// Waits for the writer thread, at most for one barrier, so that the lock is free afterwards.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // The writer catches its own panics. The result of the join carries no information.
            let _ = thread.join();
        }
    }
}

impl Journal {
    pub(super) fn new(
        requests: mpsc::Sender<Request>,
        shared: Arc<Shared>,
        thread: Option<JoinHandle<()>>,
        epoch: u64,
    ) -> Journal {
        Journal(Arc::new(Inner { requests: Some(requests), shared, thread, epoch }))
    }

    /// The epoch of this start of the daemon. It is on disk before any handle exists.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    pub fn head(&self) -> Head {
        self.0.shared.head()
    }

    /// Appends records to a stream and returns once they are on disk.
    ///
    /// All records of one call are consecutive in one batch. Either all of them are stored or none.
    /// `expected_seq` is the sequence of the last record of the stream that the caller knows, 0 for a new
    /// stream. `state` says whether the stream has work left after these records.
    ///
    /// If the returned future is dropped, the records may still be written.
    ///
    /// # Errors
    /// A refused append writes nothing. After [`AppendError::Stopped`] every append fails.
    pub async fn append(
        &self,
        stream: impl Into<Uuid>,
        expected_seq: u64,
        records: Vec<Record>,
        state: StreamState,
    ) -> Result<Appended, AppendError> {
        self.append_with(Barrier::Log, stream, expected_seq, records, state).await
    }

    /// As [`append`](Journal::append), and returns once the parts of the journal that `barrier` names are on
    /// disk.
    ///
    /// # Errors
    /// As [`append`](Journal::append).
    pub async fn append_with(
        &self,
        barrier: Barrier,
        stream: impl Into<Uuid>,
        expected_seq: u64,
        records: Vec<Record>,
        state: StreamState,
    ) -> Result<Appended, AppendError> {
        let (reply, answer) = oneshot::channel();
        let stream = stream.into();
        let request = Request::Append(Append { stream, expected_seq, records, state, barrier, reply });
        match self.request(request, answer).await {
            Ok(result) => result,
            Err(reason) => Err(AppendError::Stopped { reason }),
        }
    }

    /// As [`append`](Journal::append), and returns `value` with the proof that its records are on disk.
    ///
    /// # Errors
    /// As [`append`](Journal::append). The value is dropped.
    pub async fn append_durable<T>(
        &self,
        stream: impl Into<Uuid>,
        expected_seq: u64,
        records: Vec<Record>,
        state: StreamState,
        value: T,
    ) -> Result<Durable<T>, AppendError> {
        self.append_durable_with(Barrier::Log, stream, expected_seq, records, state, value).await
    }

    /// As [`append_durable`](Journal::append_durable), for an effect that cannot be taken back: `barrier` is
    /// then [`Barrier::LogAndIndex`].
    ///
    /// # Errors
    /// As [`append`](Journal::append). The value is dropped.
    pub async fn append_durable_with<T>(
        &self,
        barrier: Barrier,
        stream: impl Into<Uuid>,
        expected_seq: u64,
        records: Vec<Record>,
        state: StreamState,
        value: T,
    ) -> Result<Durable<T>, AppendError> {
        let appended = self.append_with(barrier, stream, expected_seq, records, state).await?;
        Ok(Durable::new(value, appended.last.position))
    }

    /// All entries of one stream, finished or not, archived or not. Empty for an unknown stream.
    ///
    /// # Errors
    /// The store failed, a record is damaged, or the writer has stopped. [`JournalError::ArchiveMissing`]
    /// if records of the stream are in an archive that was moved elsewhere.
    pub async fn stream(&self, stream: impl Into<Uuid>) -> Result<Vec<Entry>, JournalError> {
        let stream = stream.into();
        let (live, last_seq) = self.live_and_last(stream).await?;
        let is_whole = live.iter().zip(1..).all(|(entry, seq)| entry.seq == seq);
        let reaches_end = live.last().map_or(0, |last| last.seq) == last_seq;
        let Some(archives) =
            self.0.shared.archives().filter(|_| !is_whole || !reaches_end || live.is_empty())
        else {
            return Ok(live);
        };
        if live.is_empty() && !archives.catalog.contains(stream) {
            return Ok(live);
        }
        let catalog = archives.catalog.clone();
        // The live journal has every record behind its last gap, unless its copies outlived its end.
        let follows =
            live.windows(2).rev().take_while(|pair| pair[0].seq.checked_add(1) == Some(pair[1].seq));
        let behind = match reaches_end {
            true => live.len() - follows.count().saturating_add(1).min(live.len()),
            false => live.len(),
        };
        let before = live.get(behind).map_or(u64::MAX, |first| first.seq);
        let mut entries = blocking("read archives", move || catalog.entries(stream, before)).await?;
        entries.extend(live.into_iter().skip(behind));
        Ok(entries)
    }

    async fn live_and_last(&self, stream: Uuid) -> Result<(Vec<Entry>, u64), JournalError> {
        let (reply, answer) = oneshot::channel();
        self.read(Request::Stream(stream, reply), answer).await
    }

    /// The entries of one stream that are in the live journal: all of an open stream, and of a holding one at
    /// least those that [`Options::keeps`](super::Options::keeps) selects. No archive is read.
    ///
    /// # Errors
    /// The store failed, a record is damaged, or the writer has stopped.
    pub async fn live(&self, stream: impl Into<Uuid>) -> Result<Vec<Entry>, JournalError> {
        Ok(self.live_and_last(stream.into()).await?.0)
    }

    /// Reads the log from disk up to the present head, and checks that it holds the records of this journal.
    /// Appends continue meanwhile. The first damage is remembered: see [`damage`](Journal::damage).
    ///
    /// # Errors
    /// The next start would refuse the log, or the log cannot be read.
    pub async fn reread(&self) -> Result<(), JournalError> {
        let Some(archives) = self.0.shared.archives() else { return Ok(()) };
        // Otherwise an archiving could remove segments meanwhile.
        let _alone = archives.turn.lock().await;
        let (journal, head) = (archives.journal.clone(), self.head());
        let checked = blocking("read the log", move || check_beside(&journal, head)).await;
        if let Err(error) = &checked
            && error.verdict().is_some()
        {
            self.0.shared.report_damage(error.text());
        }
        checked
    }

    /// Why the disk of the journal has too little room for a new Backup. `None` if it has enough, or if the journal
    /// is not on a disk.
    pub fn lack_of_room(&self) -> Option<String> {
        let archives = self.0.shared.archives()?;
        let looked = archives.faults.run(Call::RoomLook, |error| error, || Ok(()));
        let lack = looked.and_then(|()| room::lack(&archives.journal, archives.segment_bytes));
        lack.unwrap_or_else(|error| Some(error.to_string()))
    }

    /// The damage that [`reread`](Journal::reread) found in the log. `None` if it found none.
    pub fn damage(&self) -> Option<String> {
        self.0.shared.damage()
    }

    async fn served<T>(&self, request: Request, answer: oneshot::Receiver<T>) -> Result<T, JournalError> {
        self.request(request, answer).await.map_err(|reason| JournalError::Stopped { reason })
    }

    /// At most `limit` entries, starting at position `from`.
    ///
    /// # Errors
    /// As [`stream`](Journal::stream).
    pub async fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.read(Request::Entries { from, limit, reply }, answer).await
    }

    /// Returns the reason when the writer has stopped. The daemon exits then.
    pub async fn stopped(&self) -> String {
        if let Some(requests) = &self.0.requests {
            requests.closed().await;
        }
        self.0.shared.reason()
    }

    async fn read<T>(
        &self,
        request: Request,
        answer: oneshot::Receiver<Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        self.request(request, answer).await.unwrap_or_else(|reason| Err(JournalError::Stopped { reason }))
    }

    async fn request<T>(&self, request: Request, answer: oneshot::Receiver<T>) -> Result<T, String> {
        let requests = self.0.requests.as_ref().ok_or_else(|| self.0.shared.reason())?;
        requests.send(request).await.map_err(|_| self.0.shared.reason())?;
        answer.await.map_err(|_| self.0.shared.reason())
    }
}
