//! Changes on their way into a watch: late, merged, lost, or the last before the stream ends, as a fault says.
//!
//! A change is due its delay after it was made, not after it was heard of, so that a watch that begins late does not
//! wait again for what is old. Order is kept. Without a fault every change is due at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api_server::http::faults::{StreamEnd, StreamFault};
use crate::api_server::store::{Change, ChangeKind};

/// What one watch has heard of and not told yet.
pub(super) struct Held {
    fault: StreamFault,
    waiting: VecDeque<(Instant, Arc<Change>)>,
    /// Events that were due so far, and those of them that were told.
    due: u64,
    told: u64,
}

impl Held {
    pub(super) fn new(fault: StreamFault) -> Self {
        Self { fault, waiting: VecDeque::new(), due: 0, told: 0 }
    }

    /// Hears of a change.
    pub(super) fn take_in(&mut self, change: Arc<Change>) {
        let due = change.at + Duration::from_millis(self.fault.delay_ms);
        let before = self.waiting.iter().rposition(|(_, waiting)| waiting.key == change.key);
        match before
            .filter(|_| self.fault.merge)
            .and_then(|at| self.waiting.remove(at).map(|held| (at, held)))
        {
            // The object waits no longer for having changed once more.
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

    /// The next change that is due by `now`.
    pub(super) fn release(&mut self, now: Instant) -> Option<Arc<Change>> {
        if self.waiting.front().is_some_and(|(due, _)| *due <= now) {
            return self.waiting.pop_front().map(|(_, change)| change);
        }
        None
    }

    /// When the next change is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// Version of the first change that waits.
    pub(super) fn first_version(&self) -> Option<u64> {
        self.waiting.front().map(|(_, change)| change.version)
    }

    /// Whether the event that comes now is told: not where its turn is lost.
    pub(super) fn is_told(&mut self) -> bool {
        self.due += 1;
        let lost = self.fault.drop_each > 0 && self.due.is_multiple_of(self.fault.drop_each);
        self.told += u64::from(!lost);
        !lost
    }

    /// How the stream ends now, if it does.
    pub(super) fn ended(&self) -> Option<StreamEnd> {
        self.fault.end.filter(|(after, _)| self.told >= *after).map(|(_, end)| end)
    }
}

/// Two changes of one object as one; `Some(None)` where they cancel each other, `None` where they stay two.
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
