//! Decides how an open reconciles the database with the log.
//!
//! Both halves must hold the same records before a handle exists. The longer half is right if it contains
//! the shorter one: it has every acknowledged record. A batch at its end may not have been acknowledged.
//! That batch is retained, because it cannot be distinguished from an acknowledged one. A damaged half is
//! repaired from the other half only if the other half reaches at least as far as the damaged half is known
//! to have reached. All other cases are refused.
//!
//! | database | log | row |
//! |---|---|---|
//! | none | none, or one without records | begin |
//! | none, broken, or whole and shorter | sound, and behind its end a changed frame | refuse: both damaged |
//! | none | sound | rebuild the database |
//! | whole | none | begin the log; nothing to do for a database without records |
//! | whole, without records | sound, begins later | rebuild the database: it was begun and not filled |
//! | whole | sound, same head | agree |
//! | whole | sound, longer, contains the database's head | catch up |
//! | whole | sound, begins behind the database's head, which its archives contain | rebuild the database |
//! | whole | sound, shorter, its head is the database's | rebuild the log |
//! | whole | sound, otherwise | refuse: two histories |
//! | whole | damaged, never reached further than the database | rebuild the log |
//! | whole | damaged, reached further | refuse: both damaged |
//! | broken | sound, contains the database's head, or that is not known | rebuild the database |
//! | broken | sound, otherwise; damaged | refuse: both damaged |
//! | broken | none | refuse: the problem of the database |
//!
//! A changed frame has its full length and a wrong hash. If the database ends with the log, the frame is an
//! interrupted write. A batch is written to the database only after its frame in the log is synced. It is
//! acknowledged after both. The next batch is written after that. So if the database is broken or shorter,
//! no write was interrupted: both halves are damaged.
//!
//! Pure: the action follows from the observed state.

use super::chain::{ChainProblem, Fault};
use super::log::LogSummary;
use super::record::Head;

/// The observed state of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Database {
    /// There is no database.
    None,
    /// Chain, head and index of streams are valid.
    Whole(Head),
    /// The database does not open, or its contents are invalid. With its head, if it can be read.
    Broken(Option<Head>),
}

impl Database {
    fn reaches(self, end: &Head) -> bool {
        matches!(self, Database::Whole(head) if head.position >= end.position)
    }
}

/// The hashes of each half at the head of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Common {
    /// Hash in the log at the position of the database's head.
    pub in_evidence: Option<[u8; 32]>,
    /// Hash in the database at the position of the log's head.
    pub in_database: Option<[u8; 32]>,
}

/// The action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Row {
    Begin,
    Agree,
    BeginEvidence,
    /// With the problem of the log.
    RebuildEvidence(String),
    CatchUp,
    RebuildDatabase,
    /// The database's own error is complete.
    RefuseDatabase,
    /// Neither half can repair the other. With the problem of the log.
    RefuseBoth(ChainProblem),
    /// Both halves are whole and differ.
    RefuseTwo(ChainProblem),
}

pub(super) fn decide(database: Database, evidence: Option<&LogSummary>, common: Common) -> Row {
    match (database, evidence) {
        (Database::None, None) => Row::Begin,
        (Database::Broken(_), None) => Row::RefuseDatabase,
        (Database::Whole(head), None) if head.position == 0 => Row::Begin,
        (Database::Whole(_), None) => Row::BeginEvidence,
        (Database::Whole(head), Some(LogSummary { damage: Some(damage), .. })) => {
            if head.position >= damage.reached {
                Row::RebuildEvidence(damage.problem.to_string())
            } else {
                Row::RefuseBoth(damage.problem.clone())
            }
        }
        (_, Some(LogSummary { damage: Some(damage), .. })) => Row::RefuseBoth(damage.problem.clone()),
        (Database::None, Some(summary)) if summary.epoch == 0 && summary.records == 0 => Row::Begin,
        (database, Some(LogSummary { changed: Some(problem), head, .. })) if !database.reaches(head) => {
            Row::RefuseBoth(problem.clone())
        }
        (Database::None | Database::Broken(None), Some(_)) => Row::RebuildDatabase,
        (Database::Broken(Some(head)), Some(summary)) if common.in_evidence == Some(head.hash) => {
            debug_assert!(summary.head.position >= head.position);
            Row::RebuildDatabase
        }
        (Database::Broken(Some(_)), Some(summary)) => Row::RefuseBoth(ChainProblem {
            position: summary.head.position.saturating_add(1),
            what: Fault::EvidenceShort,
        }),
        (Database::Whole(Head { position: 0, .. }), Some(summary)) if summary.start.position > 0 => {
            Row::RebuildDatabase
        }
        (Database::Whole(head), Some(summary)) => compare(head, summary, common),
    }
}

fn compare(head: Head, summary: &LogSummary, common: Common) -> Row {
    let (database, evidence) = (head.position, summary.head.position);
    if head == summary.head {
        return Row::Agree;
    }
    if evidence > database && common.in_evidence == Some(head.hash) {
        // sled reuses the room of archived records. A torn write there can destroy the records before it.
        let follows = summary.start.position <= database;
        return if follows { Row::CatchUp } else { Row::RebuildDatabase };
    }
    if evidence < database && common.in_database == Some(summary.head.hash) {
        return Row::RebuildEvidence(format!(
            "it ended at record {evidence}, the database at record {database}"
        ));
    }
    Row::RefuseTwo(ChainProblem { position: database.min(evidence), what: Fault::TwoHistories })
}

#[cfg(test)]
mod tests {
    use super::super::log::{Damage, End, Tail};
    use super::*;

    fn head(position: u64, hash: u8) -> Head {
        Head { position, hash: [hash; 32] }
    }

    fn sound(head: Head) -> LogSummary {
        let end = End { segment: 1, offset: 90 };
        let (start, records) = (Head::genesis(), head.position);
        let (checkpoint, tail) = (None, Tail::default());
        let epoch = records.min(1);
        LogSummary {
            start,
            head,
            epoch,
            records,
            end,
            torn: 0,
            changed: None,
            damage: None,
            checkpoint,
            tail,
        }
    }

    fn behind(start: Head) -> LogSummary {
        LogSummary { start, ..sound(head(7, 7)) }
    }

    fn damaged(reached: u64) -> LogSummary {
        let problem = ChainProblem { position: 3, what: Fault::Hash };
        LogSummary { damage: Some(Damage { problem, reached }), ..sound(head(2, 2)) }
    }

    fn changed(head: Head) -> LogSummary {
        let problem = ChainProblem { position: head.position + 1, what: Fault::Hash };
        LogSummary { torn: 700, changed: Some(problem), ..sound(head) }
    }

    #[test]
    fn changed_frame_is_torn_only_at_database_end() {
        use Database::{Broken, None as Nothing, Whole};
        let known = Common { in_evidence: Some([5; 32]), in_database: Some([5; 32]) };
        let both = Row::RefuseBoth(ChainProblem { position: 6, what: Fault::Hash });
        let evidence = changed(head(5, 5));
        for database in
            [Nothing, Broken(None), Broken(Some(head(5, 5))), Whole(head(4, 4)), Whole(head(0, 0))]
        {
            assert_eq!(decide(database, Some(&evidence), known), both, "{database:?}");
        }
        assert_eq!(decide(Whole(head(5, 5)), Some(&evidence), known), Row::Agree);
        let longer = decide(Whole(head(9, 9)), Some(&evidence), known);
        assert!(matches!(longer, Row::RebuildEvidence(_)), "{longer:?}");
        let begun = LogSummary { epoch: 0, ..changed(head(0, 0)) };
        assert_eq!(decide(Nothing, Some(&begun), known), Row::Begin, "its first claim was cut off");
    }

    #[test]
    fn covers_each_row_of_the_table() {
        use Database::{Broken, None as Nothing, Whole};
        let known = Common { in_evidence: Some([5; 32]), in_database: Some([5; 32]) };
        let unknown = Common::default();
        let both = Row::RefuseBoth(ChainProblem { position: 3, what: Fault::Hash });
        let two = |position| Row::RefuseTwo(ChainProblem { position, what: Fault::TwoHistories });
        let short = Row::RefuseBoth(ChainProblem { position: 4, what: Fault::EvidenceShort });
        let rebuilt = |why: &str| Row::RebuildEvidence(why.to_owned());
        let table = [
            (Nothing, None, unknown, Row::Begin),
            (Nothing, Some(sound(head(0, 0))), unknown, Row::Begin),
            (Nothing, Some(sound(head(5, 5))), unknown, Row::RebuildDatabase),
            (Nothing, Some(damaged(0)), unknown, both.clone()),
            (Whole(head(0, 0)), None, unknown, Row::Begin),
            (Whole(head(5, 5)), None, unknown, Row::BeginEvidence),
            (Whole(head(5, 5)), Some(sound(head(5, 5))), unknown, Row::Agree),
            (Whole(head(5, 5)), Some(sound(head(7, 7))), known, Row::CatchUp),
            (Whole(head(5, 5)), Some(behind(head(6, 6))), known, Row::RebuildDatabase),
            (Whole(head(5, 5)), Some(behind(head(6, 6))), unknown, two(5)),
            (Whole(head(0, 0)), Some(behind(head(6, 6))), unknown, Row::RebuildDatabase),
            (Whole(head(5, 6)), Some(sound(head(7, 7))), known, two(5)),
            (Whole(head(5, 5)), Some(sound(head(5, 6))), known, two(5)),
            (
                Whole(head(9, 9)),
                Some(sound(head(5, 5))),
                known,
                rebuilt("it ended at record 5, the database at record 9"),
            ),
            (Whole(head(9, 9)), Some(sound(head(5, 6))), known, two(5)),
            (Whole(head(9, 9)), Some(damaged(9)), unknown, rebuilt("record 3: its hash does not hold")),
            (Whole(head(9, 9)), Some(damaged(10)), unknown, both.clone()),
            (Broken(None), Some(sound(head(3, 3))), unknown, Row::RebuildDatabase),
            (Broken(Some(head(5, 5))), Some(sound(head(7, 7))), known, Row::RebuildDatabase),
            (Broken(Some(head(5, 6))), Some(sound(head(3, 3))), known, short.clone()),
            (Broken(Some(head(5, 5))), Some(sound(head(3, 3))), unknown, short),
            (Broken(None), Some(damaged(0)), unknown, both),
            (Broken(None), None, unknown, Row::RefuseDatabase),
        ];
        for (database, evidence, common, row) in table {
            assert_eq!(decide(database, evidence.as_ref(), common), row, "{database:?} {evidence:?}");
        }
    }
}
