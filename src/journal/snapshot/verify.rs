//! Computes the verdict about a private copy: the result of the start, and one pass over every record.

use super::super::archive::Vouched;
use super::super::chain::{ChainProblem, Checker, Fault, Verified};
use super::super::error::JournalError;
use super::super::record::{Entry, Head};
use super::super::repair::Repair;
use super::super::scan::{Damage, scan};
use super::super::verification::{Verdict, Verification};
use super::Snapshot;

impl Snapshot {
    /// Checks every record, and compares with a head that was published elsewhere.
    pub fn verify(&self, expected: Option<&Head>) -> Verification {
        self.verify_each(expected, |_| ())
    }

    /// As [`verify`](Snapshot::verify), and passes on each valid entry in the same pass.
    pub fn verify_each(&self, expected: Option<&Head>, each: impl FnMut(Entry)) -> Verification {
        let found = self.chain(expected, each);
        let verdict = match (&self.refusal, found.verdict) {
            (Some(error), _) => {
                let verdict = error.verdict().unwrap_or(Verdict::Corrupt);
                return Verification { verdict, problem: refused(error, &found), ..found };
            }
            (None, Verdict::Intact) => self.whole(),
            (None, other) => other,
        };
        Verification { verdict, ..found }
    }

    /// The verdict if every available record is valid and the start succeeds with them.
    fn whole(&self) -> Verdict {
        let torn = |repair: &Repair| matches!(repair, Repair::TailTruncated { .. });
        if self.repairs.iter().any(torn) {
            Verdict::TornTail
        } else if self.archives.start().position > 0 {
            Verdict::NeedsArchive
        } else {
            Verdict::Intact
        }
    }

    /// One pass over the archives and the store.
    fn chain(&self, expected: Option<&Head>, mut each: impl FnMut(Entry)) -> Verification {
        let archives = &self.archives;
        let (mut vouched, mut broken) = (Vouched::expecting(&self.copies), None);
        let mut checker = Checker::new(archives.start());
        let mut at_expected =
            [archives.start(), archives.end()].into_iter().find(|head| expected == Some(head));
        let mut hold = |entry: Entry| {
            if expected.is_some_and(|head| head.position == entry.position) {
                at_expected = Some(entry.head());
            }
            each(entry);
        };
        let archived = archives.check(&mut vouched, |_, entry| {
            broken = checker.admit(&entry).err();
            if broken.is_none() {
                hold(entry);
            }
            broken.is_none()
        });
        let held = checker.verified();
        let found = |verdict, more: Verified, problem| {
            let records = held.records + more.records;
            Verification { verdict, records, head: more.head, problem }
        };
        if let Some(problem) = archived.err().or(broken) {
            return found(Verdict::Corrupt, Verified { records: 0, head: held.head }, Some(problem));
        }
        let last = self.last();
        let scanned = scan(self.store.as_ref(), &self.started, |entry| {
            if entry.position <= last {
                vouched.entry(&entry);
                hold(entry);
            }
        });
        let (verdict, verified, problem) =
            match (scanned.map(|verified| self.shown(verified)), vouched.problem()) {
                (Ok(verified), None) => (Verdict::Intact, verified, None),
                (Ok(verified), Some(problem)) => (Verdict::Corrupt, verified, Some(problem)),
                (Err(Damage { problem, verified, .. }), _) => (Verdict::Corrupt, verified, Some(problem)),
            };
        match expected {
            // A published head adds no information about damage.
            Some(expected) if verdict != Verdict::Corrupt && at_expected != Some(*expected) => {
                let position = expected.position;
                let (verdict, what) = match at_expected {
                    Some(_) => (Verdict::Corrupt, Fault::OtherHistory),
                    None if position > verified.head.position => {
                        (Verdict::CutTail, Fault::Truncated { expected: position })
                    }
                    None if position < archives.start().position => (Verdict::Corrupt, Fault::Archived),
                    None => (Verdict::Corrupt, Fault::OtherHistory),
                };
                found(verdict, verified, Some(ChainProblem { position, what }))
            }
            _ => found(verdict, verified, problem),
        }
    }

    /// Leaves out the records that the start of the copy added.
    fn shown(&self, verified: Verified) -> Verified {
        let added = verified.head.position.saturating_sub(self.last());
        match added {
            0 => verified,
            added => Verified { records: verified.records.saturating_sub(added), head: self.meta.head },
        }
    }
}

/// The record because of which a start refuses a journal, if there is one.
fn refused(error: &JournalError, found: &Verification) -> Option<ChainProblem> {
    match error {
        JournalError::Damaged { source, .. } => Some(source.clone()),
        JournalError::Short { last, known, .. } => {
            Some(ChainProblem { position: last.saturating_add(1), what: Fault::EndsEarly { head: *known } })
        }
        JournalError::Behind { found: epoch, claimed, .. } => Some(ChainProblem {
            position: found.head.position.saturating_add(1),
            what: Fault::LostEpoch { found: *epoch, claimed: *claimed },
        }),
        _ => found.problem.clone(),
    }
}
