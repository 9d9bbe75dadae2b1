//! Checks the log of a journal while a daemon writes to it.
//!
//! The log is append-only. So it can be read in place up to a head that the daemon reported before. The
//! check uses the reconcile table ([`super::reconcile`]), with the database as the daemon reports it.
//!
//! Not here: the files of the database, which change in place. A [`Snapshot`](super::Snapshot) reads them
//! while the daemon is idle.

use std::path::Path;

use super::error::JournalError;
use super::reconcile::{Common, Database, Row, decide};
use super::record::Head;
use crate::open::find::{FoundLog, evidence_dir, summary};

/// Returns the problem of the log of the journal in `dir`, whose daemon has records up to `head`. `None` if
/// the log has the same records.
///
/// # Errors
/// The log has another history, or it cannot be read, for example because segments were archived meanwhile.
pub fn evidence_problem(dir: &Path, head: Head) -> Result<Option<String>, JournalError> {
    let FoundLog { summary, at_head, .. } = summary(&evidence_dir(dir), Some(head))?;
    let common = Common { in_evidence: at_head, in_database: None };
    match decide(Database::Whole(head), summary.as_ref(), common) {
        Row::Begin | Row::Agree | Row::CatchUp => Ok(None),
        Row::BeginEvidence => Ok(Some("there are no segments".to_owned())),
        Row::RebuildEvidence(why) => Ok(Some(why)),
        Row::RebuildDatabase => Ok(Some("it begins behind the records that the daemon has".to_owned())),
        Row::RefuseDatabase => Ok(None),
        Row::RefuseBoth(source) | Row::RefuseTwo(source) => {
            Err(JournalError::Damaged { torn: false, source })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::testing::{record, stream};
    use super::super::{Journal, Options, StreamState};
    use super::*;

    #[tokio::test]
    async fn reads_log_up_to_head_during_writes() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { ballast_bytes: 0, ..Options::default() };
        let (journal, _) = Journal::open_thread(dir.path(), options).expect("opened");
        assert_eq!(evidence_problem(dir.path(), journal.head()).expect("readable"), None);
        let mut heads = vec![];
        for seq in 0..3 {
            let append = journal.append(stream(1), seq, vec![record("x")], StreamState::Open);
            heads.push(append.await.expect("appended").last);
        }
        for head in &heads {
            assert_eq!(
                evidence_problem(dir.path(), *head).expect("readable"),
                None,
                "what follows may be there"
            );
        }
        let other = Head { hash: [1; 32], ..heads[1] };
        assert!(evidence_problem(dir.path(), other).is_err(), "another history");
        let segment = dir.path().join("evidence/00000001.seg");
        let mut bytes = fs::read(&segment).expect("readable");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&segment, bytes).expect("written");
        let why = evidence_problem(dir.path(), heads[2]).expect("readable").expect("a problem");
        assert!(why.contains("segment 1 of the evidence is damaged"), "{why}");
    }
}
