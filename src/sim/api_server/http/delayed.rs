//! Delays, merges and drops the changes of a watch, or ends its stream, as its fault requires.
//!
//! The delay of a change starts when the change is made, not when the watch receives it. A watch that begins
//! late therefore does not delay old changes again. Order is kept. Without a fault every change is due at
//! once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api_server::http::faults::{StreamEnd, StreamFault};
use crate::api_server::store::{Change, ChangeKind};

/// The changes that one watch has received and not sent yet.
pub(super) struct DelayedChanges {
    fault: StreamFault,
    queue: VecDeque<(Instant, Arc<Change>)>,
    /// Number of events that were due, and number of those that were sent.
    due: u64,
    sent: u64,
}

impl DelayedChanges {
    pub(super) fn new(fault: StreamFault) -> Self {
        Self { fault, queue: VecDeque::new(), due: 0, sent: 0 }
    }

    pub(super) fn push(&mut self, change: Arc<Change>) {
        let due = change.at + Duration::from_millis(self.fault.delay_ms);
        let before = self.queue.iter().rposition(|(_, earlier)| earlier.key == change.key);
        match before
            .filter(|_| self.fault.merge)
            .and_then(|at| self.queue.remove(at).map(|found| (at, found)))
        {
            // A further change of the object does not extend its delay.
            Some((at, (first_due, first))) => match merge(&first, &change) {
                Some(merged) => merged.into_iter().for_each(|one| self.enqueue(first_due, Arc::new(one))),
                None => {
                    self.queue.insert(at, (first_due, first));
                    self.enqueue(due, change);
                }
            },
            None => self.enqueue(due, change),
        }
    }

    fn enqueue(&mut self, due: Instant, change: Arc<Change>) {
        let due = self.queue.back().map_or(due, |(last, _)| due.max(*last));
        self.queue.push_back((due, change));
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Arc<Change>> {
        if self.queue.front().is_some_and(|(due, _)| *due <= now) {
            return self.queue.pop_front().map(|(_, change)| change);
        }
        None
    }

    /// The time at which the next change is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.front().map(|(due, _)| *due)
    }

    /// Version of the first queued change.
    pub(super) fn first_version(&self) -> Option<u64> {
        self.queue.front().map(|(_, change)| change.version)
    }

    /// Counts a due event and returns whether it is sent: false if the fault drops it.
    pub(super) fn should_send(&mut self) -> bool {
        self.due += 1;
        let lost = self.fault.drop_each > 0 && self.due.is_multiple_of(self.fault.drop_each);
        self.sent += u64::from(!lost);
        !lost
    }

    /// Returns how the stream ends, if it ends now.
    pub(super) fn stream_end(&self) -> Option<StreamEnd> {
        self.fault.end.filter(|(after, _)| self.sent >= *after).map(|(_, end)| end)
    }
}

/// Merges two changes of one object. Returns `Some(None)` if they cancel each other, `None` if they cannot be
/// merged.
fn merge(first: &Change, then: &Change) -> Option<Option<Change>> {
    let kind = match (first.kind, then.kind) {
        (ChangeKind::Deleted, _) => return None,
        (ChangeKind::Added, ChangeKind::Deleted) => return Some(None),
        (ChangeKind::Added, _) => ChangeKind::Added,
        (ChangeKind::Modified, kind) => kind,
    };
    Some(Some(Change {
        version: then.version,
        at: then.at,
        kind,
        key: then.key.clone(),
        object: then.object.clone(),
        previous: first.previous.clone(),
    }))
}
