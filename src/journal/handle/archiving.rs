//! Archives segments of an open journal. Appends continue meanwhile: the writer gets only short requests.

use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

use tokio::sync::oneshot;

use super::super::archive::{self, Archived, Checkpoint, Leaving, Looked, Policy, Remains, Stays};
use super::super::error::{AppendError, JournalError};
use super::super::record::{Head, MAX_APPEND_BYTES, MAX_APPEND_RECORDS, Record};
use super::super::staged::Appended;
use super::super::store::{StoreError, StreamHead, StreamState};
use super::super::writer::{Archives, Limits, Note, Request};
use super::{Journal, blocking};

/// Time after which segments that stay are looked at again although no further segment has ended, in nanoseconds.
const LOOK_AGAIN_NS: i64 = 3_600 * 1_000_000_000;

/// What open streams need, and what is live now.
struct Needs {
    heads: BTreeMap<Uuid, StreamHead>,
    /// Streams that open streams refer to.
    referred: BTreeSet<Uuid>,
}

impl Journal {
    /// Archives whole segments, the oldest first. See [`archive`](crate::archive).
    ///
    /// Segments leave together if less than the share of the policy is needed of all of them. So a segment that
    /// consists of copies does not keep those behind it for ever. `now_ns` is the time of the checkpoints, in
    /// nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// An archive cannot be written, which changes nothing, or the writer has stopped.
    pub async fn archive(&self, policy: Policy, now_ns: i64) -> Result<Archived, JournalError> {
        let mut archived = Archived::default();
        let Some(archives) = self.0.shared.archives() else { return Ok(archived) };
        let mut looked = archives.turn.lock().await;
        let (reply, answer) = oneshot::channel();
        let Limits { truncated_at, head } =
            self.served(Request::EndSegment { policy, reply }, answer).await?;
        let journal = archives.journal.clone();
        let last = blocking("read the log", move || Leaving::last(&journal, head.position)).await?;
        if let Some(Looked { stays, .. }) = looked
            .filter(|looked| (looked.last, looked.copied_percent) == (last, policy.copied_percent))
            .filter(|looked| now_ns.saturating_sub(looked.at_ns) < LOOK_AGAIN_NS)
        {
            return Ok(Archived { stays: Some(stays), ..archived });
        }
        // A segment whose archiving did not come to its end leaves with the next open.
        let mut after = truncated_at.position.max(archives.catalog.last());
        loop {
            let needs = self.needs(archives).await?;
            let (through, stays) = self.leaving(archives, &needs, policy, after, head).await?;
            let Some(through) = through else {
                let copied_percent = policy.copied_percent;
                *looked = stays.map(|stays| Looked { last, copied_percent, at_ns: now_ns, stays });
                return Ok(Archived { stays, ..archived });
            };
            while after < through {
                let Some(leaving) = self.next(archives, after, head).await? else { break };
                let needs = Needs { heads: self.heads().await?, referred: needs.referred.clone() };
                let remains = leaving.remains(&needs.heads, &needs.referred, archives.keeps, now_ns);
                after = leaving.last.position;
                archived.copied += remains.kept.len() as u64;
                archived.archives.push(self.leave(archives, leaving, remains, now_ns).await?);
            }
        }
    }

    /// The last record of the first segments that may leave together; else the segments that stay.
    async fn leaving(
        &self,
        archives: &Archives,
        needs: &Needs,
        policy: Policy,
        after: u64,
        head: Head,
    ) -> Result<(Option<u64>, Option<Stays>), JournalError> {
        let (mut at, mut stays) = (after, None::<Stays>);
        while let Some(leaving) = self.next(archives, at, head).await? {
            at = leaving.last.position;
            let needed = leaving.remains(&needs.heads, &needs.referred, archives.keeps, 0).bytes();
            let first = stays.map_or(leaving.after.position + 1, |stays| stays.first);
            let (bytes, before) = stays.map_or((0, 0), |stays| (stays.bytes, stays.needed));
            let (bytes, needed) = (bytes + leaving.bytes.len() as u64, before + needed);
            stays = Some(Stays { first, last: at, bytes, needed });
            if policy.leaves(bytes, needed) {
                return Ok((Some(at), None));
            }
        }
        Ok((None, stays))
    }

    async fn next(
        &self,
        archives: &Archives,
        after: u64,
        head: Head,
    ) -> Result<Option<Leaving>, JournalError> {
        let journal = archives.journal.clone();
        blocking("read the log", move || Leaving::first(&journal, after, head.position)).await
    }

    async fn needs(&self, archives: &Archives) -> Result<Needs, JournalError> {
        let (heads, mut referred) = (self.heads().await?, BTreeSet::new());
        for head in heads.values().filter(|head| head.state == StreamState::Open) {
            let entries = self.live(head.stream).await?;
            referred.extend(entries.iter().flat_map(|entry| (archives.links)(&entry.record)));
        }
        Ok(Needs { heads, referred })
    }

    /// The streams in the live journal.
    async fn heads(&self) -> Result<BTreeMap<Uuid, StreamHead>, JournalError> {
        let (reply, answer) = oneshot::channel();
        let heads = self.read(Request::Heads(reply), answer).await?;
        Ok(heads.into_iter().map(|head| (head.stream, head)).collect())
    }

    /// Turns a segment into an archive: seals it, copies what remains, and removes it.
    async fn leave(
        &self,
        archives: &Archives,
        leaving: Leaving,
        remains: Remains,
        now_ns: i64,
    ) -> Result<Checkpoint, JournalError> {
        let (places, faults) = (archives.places().clone(), archives.faults.clone());
        let seal = move || leaving.seal(&places, &faults).map(|()| leaving);
        let leaving = blocking("write an archive", seal).await?;
        let mut from = 0;
        let mut rest = remains.records.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |record: &&Record| {
                bytes += record.payload.len();
                bytes <= MAX_APPEND_BYTES / 4
            };
            let count = rest.iter().take_while(fits).count().clamp(1, MAX_APPEND_RECORDS);
            let (now, after) = rest.split_at(count);
            let appended = self.note(now.to_vec(), vec![]).await?;
            from = if from == 0 { appended.first } else { from };
            rest = after;
        }
        let checkpoint = leaving.checkpoint(archives.catalog.indexes(), &remains, from);
        self.note(vec![checkpoint.record(now_ns)], remains.left_out).await?;
        archives.catalog.admit(&checkpoint)?;
        for step in archive::steps(&leaving, &remains.kept) {
            let (reply, answer) = oneshot::channel();
            self.served(Request::Truncate(step, reply), answer).await?;
        }
        let (through, (reply, answer)) = (leaving.last.position, oneshot::channel());
        self.served(Request::Release { through, reply }, answer).await?;
        Ok(checkpoint)
    }

    /// Appends records of the journal about itself.
    async fn note(&self, records: Vec<Record>, left_out: Vec<StreamHead>) -> Result<Appended, JournalError> {
        let (reply, answer) = oneshot::channel();
        let appended = self.served(Request::Note(Note { records, left_out, reply }), answer).await?;
        appended.map_err(|error| match error {
            AppendError::Reopened { stream } => JournalError::Reopened { stream },
            AppendError::Stopped { reason } => JournalError::Stopped { reason },
            error => StoreError::failed("append copies of archived records", error).into(),
        })
    }
}
