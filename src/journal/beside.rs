//! Checks the log of a journal while a daemon writes to it.
//!
//! The log is append-only. So it can be read in place up to a head that the daemon reported before. The same
//! judge decides as at a start ([`super::judge`]), with the daemon as the witness.
//!
//! Not here: the index. The next start rebuilds it if it differs.

use std::path::Path;

use super::chain::{ChainProblem, Fault};
use super::error::JournalError;
use super::judge::{Ruling, Witness, judge};
use super::log;
use super::paths;
use super::record::Head;

/// Checks that the log of the journal in `dir` holds the records of a running daemon up to `head`.
///
/// # Errors
/// A start would refuse the log, the log has another history, or it cannot be read, for example because
/// segments were archived meanwhile.
pub fn check_beside(dir: &Path, head: Head) -> Result<(), JournalError> {
    let mut hash = None;
    let summary = log::read_up_to(&paths::log(dir), head.position, &mut |admitted| {
        let found = admitted.records.iter().find(|(_, entry, _)| entry.position == head.position);
        hash = found.map(|(_, entry, _)| entry.hash).or(hash);
        Ok(())
    })?;
    let start = summary.as_ref().map(|summary| summary.start).filter(|start| start.position == head.position);
    let hash = hash.or(start.map(|start| start.hash));
    let daemon = Witness { name: "the daemon", position: head.position, epoch: 0 };
    let problem = match judge(summary.as_ref(), &[daemon]) {
        Ruling::Damaged(problem) => problem,
        Ruling::Short(_) => {
            let last = summary.map_or(0, |summary| summary.head.position);
            let (dir, witness) = (dir.to_owned(), daemon.name);
            return Err(JournalError::Short { dir, last, known: head.position, witness });
        }
        Ruling::Whole if hash != Some(head.hash) => {
            ChainProblem { position: head.position, what: Fault::OtherHistory }
        }
        Ruling::New | Ruling::Whole => return Ok(()),
    };
    Err(JournalError::Damaged { torn: false, source: problem })
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
        assert!(check_beside(dir.path(), journal.head()).is_ok(), "there is nothing to check");
        let mut heads = vec![];
        for seq in 0..3 {
            let append = journal.append(stream(1), seq, vec![record("x")], StreamState::Open);
            heads.push(append.await.expect("appended").last);
        }
        let segment = dir.path().join("log/00000001.seg");
        let whole = fs::read(&segment).expect("readable");
        for head in &heads {
            assert!(check_beside(dir.path(), *head).is_ok(), "later records may follow");
        }
        fs::write(&segment, [&whole[..], b"SPfr a frame that is being written"].concat()).expect("written");
        assert!(check_beside(dir.path(), heads[2]).is_ok());
        let other = Head { hash: [1; 32], ..heads[1] };
        let JournalError::Damaged { source, .. } =
            check_beside(dir.path(), other).expect_err("another history")
        else {
            panic!("not damaged")
        };
        assert_eq!(source.what, Fault::OtherHistory);
        fs::write(&segment, &whole[..whole.len() - 9]).expect("written");
        let short = check_beside(dir.path(), heads[2]).expect_err("its last record is gone");
        assert!(matches!(short, JournalError::Damaged { .. }), "{short}");
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        fs::write(&segment, damaged).expect("written");
        let error = check_beside(dir.path(), heads[2]).expect_err("damage");
        assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
    }

    #[tokio::test]
    async fn running_journal_finds_damage_of_its_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { ballast_bytes: 0, segment_bytes: 500, ..Options::default() };
        let (journal, _) = Journal::open_thread(dir.path(), options).expect("opened");
        let append = |seq| journal.append(stream(1), seq, vec![record("x")], StreamState::Open);
        for seq in 0..6 {
            append(seq).await.expect("appended");
        }
        assert!(journal.reread().await.is_ok());
        assert_eq!(journal.damage(), None);
        let segment = dir.path().join("log/00000002.seg");
        let mut bytes = fs::read(&segment).expect("readable");
        bytes[120] ^= 1;
        fs::write(&segment, bytes).expect("written");
        assert!(journal.reread().await.is_err());
        assert!(journal.damage().is_some_and(|damage| damage.contains("segment 2 of the log")));
        append(6).await.expect("its runs are finished");
    }
}
