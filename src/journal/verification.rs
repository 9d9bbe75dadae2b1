//! Defines the verdict of a verification, and computes it for entries that do not come from a store.
//!
//! A store is checked against its own [`Meta`](super::Meta) ([`super::scan`]). Entries from elsewhere, from
//! a daemon or from an exported file, have no [`Meta`](super::Meta). [`Verifier`] checks as much of them as
//! possible. It takes them one by one and stores none.
//!
//! Not here: the source of the entries and their meaning.

use super::chain::{ChainProblem, Checker, Fault, Verified, sealed};
use super::envelope::{SCHEMA, genesis};
use super::record::{Entry, Head};

/// The state of a whole journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every record is present and unchanged, up to the head.
    Intact,
    /// Every record is valid, and bytes of an unfinished batch follow the last one.
    TornTail,
    /// Every available record is valid, and the first records are in archives that are elsewhere.
    NeedsArchive,
    /// The journal ends before a record that is known to have existed.
    CutTail,
    /// A record, a link or the index is wrong.
    Corrupt,
    /// A newer Stillpoint wrote the journal; see [`JournalError::verdict`](super::JournalError::verdict).
    NewerSchema,
    /// A running process holds the journal; see [`JournalError::verdict`](super::JournalError::verdict).
    Locked,
}

impl Verdict {
    /// Whether every available record is valid and a daemon can continue from them.
    pub fn is_whole(self) -> bool {
        matches!(self, Verdict::Intact | Verdict::TornTail | Verdict::NeedsArchive)
    }
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    pub verdict: Verdict,
    /// Number of valid records.
    pub records: u64,
    /// The last valid record.
    pub head: Head,
    /// The first problem.
    pub problem: Option<ChainProblem>,
}

/// Checks entries one by one, up to the first invalid one.
pub struct Verifier {
    start: Head,
    checker: Option<Checker>,
    expected: Option<Head>,
    at_expected: Option<Head>,
    problem: Option<ChainProblem>,
}

impl Verifier {
    /// Starts before the first entry. `expected` is a head that was published elsewhere.
    pub fn new(expected: Option<&Head>) -> Verifier {
        Verifier {
            start: Head::genesis(),
            checker: None,
            expected: expected.copied(),
            at_expected: None,
            problem: None,
        }
    }

    /// Adds the next entry. Returns whether it is valid. Entries after the first invalid one are not
    /// checked.
    pub fn admit(&mut self, entry: &Entry) -> bool {
        if self.problem.is_none()
            && let Err(problem) = self.check(entry)
        {
            self.problem = Some(problem);
        }
        self.problem.is_none()
    }

    /// Records that the next entry cannot be read.
    pub fn refuse(&mut self, problem: ChainProblem) {
        self.problem.get_or_insert(problem);
    }

    /// The head before the first entry: genesis, or a record that is not among the entries.
    pub fn start(&self) -> Head {
        self.start
    }

    fn check(&mut self, entry: &Entry) -> Result<(), ChainProblem> {
        let problem = |what| ChainProblem { position: entry.position, what };
        sealed(entry)?;
        let checker = match &mut self.checker {
            Some(checker) => checker,
            none => {
                let before = Head { position: entry.position.saturating_sub(1), hash: entry.prev };
                let known = (1..=SCHEMA).any(|schema| genesis(schema) == entry.prev);
                if before.position == 0 && !known {
                    return Err(problem(Fault::Genesis));
                }
                self.start = before;
                none.insert(Checker::new(before))
            }
        };
        checker.admit(entry)?;
        if self.expected.is_some_and(|expected| expected.position == entry.position) {
            self.at_expected = Some(entry.head());
        }
        Ok(())
    }

    /// Computes the verdict after the last entry. `claimed` is the head that the source of the entries
    /// named, if it named one.
    pub fn finish(self, claimed: Option<Head>) -> Verification {
        let nothing = Verified { records: 0, head: self.start };
        let held = self.checker.as_ref().map_or(nothing, Checker::verified);
        let found = |verdict, problem| {
            let Verified { records, head } = held;
            Verification { verdict, records, head, problem }
        };
        if let Some(problem) = self.problem {
            let newer = matches!(problem.what, Fault::Schema { found, known } if found > known);
            return found(if newer { Verdict::NewerSchema } else { Verdict::Corrupt }, Some(problem));
        }
        if let Some((verdict, problem)) = self.expected.and_then(|expected| self.lacks(held.head, expected)) {
            return found(verdict, Some(problem));
        }
        match claimed {
            Some(head) if held.head.position < head.position => {
                let what = Fault::EndsEarly { head: head.position };
                let position = held.head.position.saturating_add(1);
                found(Verdict::CutTail, Some(ChainProblem { position, what }))
            }
            None if held.records == 0 => {
                found(Verdict::CutTail, Some(ChainProblem { position: 1, what: Fault::Empty }))
            }
            Some(head) if held.records > 0 && held.head != head => {
                let position = held.head.position;
                found(Verdict::Corrupt, Some(ChainProblem { position, what: Fault::HeadHash }))
            }
            _ if self.start.position > 0 => found(Verdict::NeedsArchive, None),
            _ => found(Verdict::Intact, None),
        }
    }

    fn lacks(&self, head: Head, expected: Head) -> Option<(Verdict, ChainProblem)> {
        let position = expected.position;
        let problem = |verdict, what| Some((verdict, ChainProblem { position, what }));
        match self.at_expected.or((self.start.position == position).then_some(self.start)) {
            Some(found) if found == expected => None,
            Some(_) => problem(Verdict::Corrupt, Fault::OtherHistory),
            None if position > head.position => {
                problem(Verdict::CutTail, Fault::Truncated { expected: position })
            }
            None => problem(Verdict::Corrupt, Fault::Archived),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::envelope;
    use super::super::testing::chain_of;
    use super::*;

    fn verify(entries: &[Entry], expected: Option<&Head>, claimed: Option<Head>) -> Verification {
        let mut verifier = Verifier::new(expected);
        entries.iter().for_each(|entry| {
            verifier.admit(entry);
        });
        verifier.finish(claimed)
    }

    fn what(found: &Verification) -> Option<(u64, Fault)> {
        found.problem.clone().map(|problem| (problem.position, problem.what))
    }

    #[test]
    fn valid_chain_is_intact_with_its_head() {
        let chain = chain_of(5);
        let head = chain[4].head();
        let whole = Verification { verdict: Verdict::Intact, records: 5, head, problem: None };
        assert_eq!(verify(&chain, Some(&chain[2].head()), Some(head)), whole);
        assert_eq!(verify(&[], None, Some(Head::genesis())).verdict, Verdict::Intact);
        let rest = verify(&chain[2..], Some(&chain[1].head()), None);
        assert_eq!(
            (rest.verdict, rest.records),
            (Verdict::NeedsArchive, 3),
            "the rest of an archived journal"
        );
    }

    #[test]
    fn no_records_at_all_are_not_intact() {
        let found = verify(&[], None, None);
        assert_eq!((found.verdict, what(&found)), (Verdict::CutTail, Some((1, Fault::Empty))));
    }

    #[test]
    fn reports_first_problem_and_stops_counting() {
        let mut chain = chain_of(5);
        chain[2].record.time_ns += 1;
        let found = verify(&chain, None, None);
        assert_eq!((found.verdict, found.records), (Verdict::Corrupt, 2));
        assert_eq!(what(&found), Some((3, Fault::Hash)));
    }

    #[test]
    fn rejects_forged_genesis() {
        let mut forged = chain_of(1);
        forged[0].prev = [7; 32];
        forged[0].hash = envelope::hash_of(&forged[0]);
        assert_eq!(what(&verify(&forged, None, None)), Some((1, Fault::Genesis)));
    }

    #[test]
    fn compares_end_with_published_and_claimed_head() {
        let chain = chain_of(5);
        let head = chain[4].head();
        let short = verify(&chain[..4], Some(&head), Some(head));
        assert_eq!(
            (short.verdict, what(&short)),
            (Verdict::CutTail, Some((5, Fault::Truncated { expected: 5 })))
        );
        let torn = verify(&chain[..4], None, Some(head));
        assert_eq!((torn.verdict, what(&torn)), (Verdict::CutTail, Some((5, Fault::EndsEarly { head: 5 }))));
        let other = verify(&chain, Some(&Head { hash: [1; 32], ..chain[2].head() }), None);
        assert_eq!((other.verdict, what(&other)), (Verdict::Corrupt, Some((3, Fault::OtherHistory))));
        let claimed = verify(&chain, None, Some(Head { hash: [1; 32], ..head }));
        assert_eq!((claimed.verdict, what(&claimed)), (Verdict::Corrupt, Some((5, Fault::HeadHash))));
        let archived = verify(&chain[3..], Some(&chain[1].head()), None);
        assert_eq!((archived.verdict, what(&archived)), (Verdict::Corrupt, Some((2, Fault::Archived))));
    }
}
