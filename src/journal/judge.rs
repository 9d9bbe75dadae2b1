//! Judges the files of a journal. The start of a daemon, the commands that read a private copy, and the check
//! beside a running daemon use this one function. So they give the same result for the same files.
//!
//! The log is the journal. The index, `owner.json` and the head of a running daemon are witnesses: each names
//! a record or an epoch that existed. They never replace a record of the log.
//!
//! | log | witnesses | ruling |
//! |---|---|---|
//! | none | none | new |
//! | none, or whole | a record or an epoch behind its end | short |
//! | damaged | any | damaged |
//! | whole, and a torn frame behind its end | a record or an epoch behind its end | damaged |
//! | whole | other | whole |
//!
//! The index of a whole log is usable if the log has the index's last record. Then the index is caught up.
//! Else it is rebuilt.
//!
//! Pure: the ruling follows from the arguments.

use super::chain::ChainProblem;
use super::log::LogSummary;
use super::record::Head;

/// A witness of records and epochs that existed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Witness {
    /// The name of the witness in messages.
    pub name: &'static str,
    /// Position of the last record that it names; 0 if it names none.
    pub position: u64,
    /// The last epoch that it names; 0 if it names none.
    pub epoch: u64,
}

/// The judgement of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ruling {
    /// There is no journal yet.
    New,
    /// A daemon continues from the log.
    Whole,
    /// The log is damaged. A daemon does not start.
    Damaged(ChainProblem),
    /// The log ends before a record or an epoch that existed. A daemon does not start.
    Short(Witness),
}

/// Judges a log by its contents and by the witnesses.
pub(super) fn judge(log: Option<&LogSummary>, witnesses: &[Witness]) -> Ruling {
    let (head, epoch) = log.map_or((0, 0), |log| (log.head.position, log.epoch));
    if let Some(damage) = log.and_then(|log| log.damage.as_ref()) {
        return Ruling::Damaged(damage.clone());
    }
    let beyond = |witness: &&Witness| witness.position > head || witness.epoch > epoch;
    match (log, witnesses.iter().find(beyond)) {
        (Some(LogSummary { torn: Some(torn), .. }), Some(_)) => Ruling::Damaged(torn.problem.clone()),
        (_, Some(witness)) => Ruling::Short(*witness),
        (None, None) => Ruling::New,
        (Some(_), None) => Ruling::Whole,
    }
}

/// The relation of an index to a whole log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// The index ends with this record of the log.
    Prefix,
    /// The index ends before the first record of the log, or after the archives that it was truncated for.
    Apart,
    /// The log has another record in the place of the index's last one.
    Contradiction,
}

/// Relates an index to a whole log. `start` and `head` are the index's heads before its first record and at
/// its end. `hash` is the hash in the log at the position of `head`. The index is truncated before the log.
pub(super) fn relate(log: &LogSummary, start: Head, head: Head, hash: Option<[u8; 32]>) -> Relation {
    let archived = log.checkpoint.map_or(0, |checkpoint| checkpoint.last.position);
    let begins = log.start.position..=log.start.position.max(archived);
    if head.position < log.start.position || !begins.contains(&start.position) {
        return Relation::Apart;
    }
    if hash == Some(head.hash) { Relation::Prefix } else { Relation::Contradiction }
}

#[cfg(test)]
mod tests {
    use super::super::chain::Fault;
    use super::super::log::{End, Tail, Torn};
    use super::*;

    fn head(position: u64) -> Head {
        Head { position, hash: [position as u8; 32] }
    }

    fn log(start: u64, end: u64) -> LogSummary {
        LogSummary {
            start: head(start),
            head: head(end),
            epoch: 2,
            records: end - start,
            end: End { segment: 1, offset: 90 },
            torn: None,
            damage: None,
            checkpoint: None,
            tail: Tail::default(),
        }
    }

    fn witness(position: u64, epoch: u64) -> Witness {
        Witness { name: "the index", position, epoch }
    }

    fn problem() -> ChainProblem {
        ChainProblem { position: 6, what: Fault::Frame { segment: 1, offset: 90 } }
    }

    #[test]
    fn covers_each_row_of_the_table() {
        let torn = LogSummary { torn: Some(Torn { bytes: 7, problem: problem() }), ..log(0, 5) };
        let damaged = LogSummary { damage: Some(problem()), ..log(0, 5) };
        let (none, older) = (witness(0, 0), witness(5, 2));
        for (summary, witnesses, ruling) in [
            (None, vec![none], Ruling::New),
            (None, vec![none, witness(0, 1)], Ruling::Short(witness(0, 1))),
            (None, vec![witness(3, 0)], Ruling::Short(witness(3, 0))),
            (Some(log(0, 5)), vec![none, older], Ruling::Whole),
            (Some(log(0, 5)), vec![older, witness(6, 0)], Ruling::Short(witness(6, 0))),
            (Some(log(0, 5)), vec![witness(0, 3)], Ruling::Short(witness(0, 3))),
            (Some(torn.clone()), vec![older], Ruling::Whole),
            (Some(torn.clone()), vec![witness(6, 0)], Ruling::Damaged(problem())),
            (Some(torn), vec![witness(5, 3)], Ruling::Damaged(problem())),
            (Some(damaged.clone()), vec![none], Ruling::Damaged(problem())),
            (Some(damaged), vec![witness(9, 2)], Ruling::Damaged(problem())),
        ] {
            assert_eq!(judge(summary.as_ref(), &witnesses), ruling, "{summary:?} {witnesses:?}");
        }
    }

    #[test]
    fn index_is_prefix_if_log_has_its_last_record() {
        let log = log(3, 9);
        for (start, end, hash, relation) in [
            (3, 9, Some(9), Relation::Prefix),
            (3, 5, Some(5), Relation::Prefix),
            (3, 3, Some(3), Relation::Prefix),
            (3, 5, Some(7), Relation::Contradiction),
            (3, 5, None, Relation::Contradiction),
            (0, 2, Some(2), Relation::Apart),
            (0, 9, Some(9), Relation::Apart),
            (4, 9, Some(9), Relation::Apart),
        ] {
            let hash = hash.map(|byte| [byte; 32]);
            assert_eq!(relate(&log, head(start), head(end), hash), relation, "{start} to {end}");
        }
    }
}
