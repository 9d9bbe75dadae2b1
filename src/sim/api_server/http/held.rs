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
pub(super) struct Held {
    fault: StreamFault,
    waiting: VecDeque<(Instant, Arc<Change>)>,
    /// Number of events that were due, and number of those that were sent.
    due: u64,
    told: u64,
}

impl Held {
    pub(super) fn new(fault: StreamFault) -> Self {
        Self { fault, waiting: VecDeque::new(), due: 0, told: 0 }
    }

    /// Adds a change.
    pub(super) fn take_in(&mut self, change: Arc<Change>) {
        let due = change.at + Duration::from_millis(self.fault.delay_ms);
        let before = self.waiting.iter().rposition(|(_, waiting)| waiting.key == change.key);
        match before
            .filter(|_| self.fault.merge)
            .and_then(|at| self.waiting.remove(at).map(|held| (at, held)))
        {
            // A further change of the object does not extend its delay.
            Some((at, (first_due, first))) => match merged(&first, &change) {
                Some(merged) => merged.into_iter().for_each(|one| self.wait(first_due, Arc::new(one))),
                None => {
                    self.waiting.insert(at, (first_due, first));
                    self.wait(due, change);
                }
            },
            None => self.wait(due, change),
        }
    }

    fn wait(&mut self, due: Instant, change: Arc<Change>) {
        let due = self.waiting.back().map_or(due, |(last, _)| due.max(*last));
        self.waiting.push_back((due, change));
    }

    /// Returns the next change that is due by `now`.
    pub(super) fn release(&mut self, now: Instant) -> Option<Arc<Change>> {
        if self.waiting.front().is_some_and(|(due, _)| *due <= now) {
            return self.waiting.pop_front().map(|(_, change)| change);
        }
        None
    }

    /// The time at which the next change is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// Version of the first waiting change.
    pub(super) fn first_version(&self) -> Option<u64> {
        self.waiting.front().map(|(_, change)| change.version)
    }

    /// Counts a due event and returns whether it is sent: false if the fault drops it.
    pub(super) fn is_told(&mut self) -> bool {
        self.due += 1;
        let lost = self.fault.drop_each > 0 && self.due.is_multiple_of(self.fault.drop_each);
        self.told += u64::from(!lost);
        !lost
    }

    /// Returns how the stream ends, if it ends now.
    pub(super) fn ended(&self) -> Option<StreamEnd> {
        self.fault.end.filter(|(after, _)| self.told >= *after).map(|(_, end)| end)
    }
}

/// Merges two changes of one object. Returns `Some(None)` if they cancel each other, `None` if they cannot be
/// merged.
fn merged(first: &Change, then: &Change) -> Option<Option<Change>> {
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
