//! `journal verify`: whether the journal is intact.
//!
//! The verdict on a directory is the verdict of a daemon start, made on a private copy
//! ([`crate::journal::Snapshot`]).

use serde::Serialize;

use super::asked::Asked;
use super::beside;
use super::read::{ReadError, Source};
use super::{JournalArgs, problems};
use crate::cli::common::show;
use crate::cli::output::{exit, style};
use crate::domain::problem::Problem;
use crate::journal::{ChainProblem, Fault, Head, JournalError, Snapshot, Verdict, Verification};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Head that was published elsewhere; the journal must contain it
    #[arg(long, value_name = "POS:HASH")]
    expect_head: Option<Head>,
    #[command(flatten)]
    pub(super) common: JournalArgs,
}

/// The output of the command.
#[derive(Debug, PartialEq, Serialize)]
struct Verified {
    verdict: Verdict,
    records: u64,
    head: Option<ShownHead>,
    problem: Option<ShownProblem>,
}

/// The last valid record.
#[derive(Debug, PartialEq, Serialize)]
struct ShownHead {
    position: u64,
    hash: String,
}

/// The first problem.
#[derive(Debug, PartialEq, Serialize)]
struct ShownProblem {
    position: Option<u64>,
    reason: String,
    fix: String,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let verified = match Source::open(&args.common.source) {
        Ok(source) => {
            let (verification, remarks) = source.verify_each(args.expect_head.as_ref(), |_| ());
            let verified = judged(&source, verification, &remarks);
            match &source {
                Source::Daemon(asked) if verified.verdict.is_whole() => with_files(args, asked, verified)?,
                _ => verified,
            }
        }
        Err(ReadError::Other(problem)) => return Err(problem),
        Err(ReadError::Journal(error)) => match error.verdict() {
            Some(verdict) => unopened(verdict, &error),
            None => return Err(problems::unreadable(args.common.source.path(), &error)),
        },
    };
    show(args.common.format(), &verified, text)?;
    Ok(match (exit_of(verified.verdict), &verified.problem) {
        (exit::DONE, Some(_)) => exit::DEGRADED,
        (code, _) => code,
    })
}

const ARCHIVE: &str =
    "put the archive back from where it was saved: the daemon goes on without it, an auditor does not";
const EXPORT: &str = "ask for another export, and do not trust anything from that record on";
const EXPORTED: &str =
    "the records hold; ask for an export that was not touched, and for the archive if one is named";
const ANSWERED: &str = "the daemon still answers every record, and its next start would refuse these files: export the journal now with `stillpoint journal export`, stop the daemon, and run `stillpoint journal rebuild --from-index`";

/// The verdict on one source: first the refusal of a start, then the chain, then the remarks.
fn judged(source: &Source, verification: Verification, remarks: &[String]) -> Verified {
    match source {
        Source::Copy(snapshot) => match (snapshot.refusal(), fix_of_archive(snapshot, &verification)) {
            (Some(error), _) => refused(error, verification),
            (None, Some(fix)) => fixed_by(found(verification), fix),
            (None, None) => remarked(found(verification), remarks),
        },
        Source::Daemon(_) => remarked(found(verification), remarks),
        Source::Export(_) => match verification.problem {
            Some(_) => fixed_by(found(verification), EXPORT),
            None => fixed_by(remarked(found(verification), remarks), EXPORTED),
        },
    }
}

fn fixed_by(mut verified: Verified, fix: &str) -> Verified {
    verified.problem.iter_mut().for_each(|problem| problem.fix = fix.to_owned());
    verified
}

/// The fix if the first problem is in an archive. A start does not read archives.
fn fix_of_archive(snapshot: &Snapshot, verification: &Verification) -> Option<&'static str> {
    let ChainProblem { position, what } = verification.problem.as_ref()?;
    match what {
        Fault::Archived => Some(fix_of(Verdict::NeedsArchive)),
        Fault::OtherHistory => None,
        _ => (*position <= snapshot.meta().truncated_at.position).then_some(ARCHIVE),
    }
}

/// The verdict on a journal that the next start would refuse.
fn refused(error: &JournalError, verification: Verification) -> Verified {
    let position = verification.problem.as_ref().map(|problem| problem.position);
    let (reason, fix) = (problems::chained(error), error.fix().to_owned());
    Verified { problem: Some(ShownProblem { position, reason, fix }), ..found(verification) }
}

/// Every record that the daemon returned is valid. Its files may not hold them, so `verify` also reads the log.
fn with_files(args: &Args, asked: &Asked, verified: Verified) -> Result<Verified, Problem> {
    let dir = &args.common.source.journal;
    let Err(error) = beside::check(dir, asked.head) else { return Ok(verified) };
    let Some(verdict) = error.verdict() else { return Err(problems::unreadable(dir, &error)) };
    let position = match &error {
        JournalError::Damaged { source, .. } => Some(source.position),
        JournalError::Short { last, .. } => Some(last + 1),
        _ => None,
    };
    let reason = format!("the files do not hold what the daemon answers: {}", problems::chained(&error));
    let problem = Some(ShownProblem { position, reason, fix: ANSWERED.to_owned() });
    Ok(Verified { verdict, problem, ..verified })
}

/// Every existing record is valid, and there are remarks for the user.
fn remarked(mut verified: Verified, remarks: &[String]) -> Verified {
    if verified.problem.is_none() && !remarks.is_empty() {
        let fix = fix_of(verified.verdict).to_owned();
        verified.problem = Some(ShownProblem { position: None, reason: remarks.join("; "), fix });
    }
    verified
}

fn fix_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Intact => {
            "nothing is lost: the next start of the daemon repairs this, and the journal records it"
        }
        Verdict::TornTail => {
            "start the daemon: it goes on behind the head shown, and the journal says what was cut off; a later head that was published (--expect-head) would show that records are lost"
        }
        Verdict::NeedsArchive => {
            "give the directory of the archives with --archive; the daemon goes on without them"
        }
        Verdict::CutTail => {
            "records that were acknowledged are gone: restore the newest copy of the directory"
        }
        Verdict::Corrupt | Verdict::NewerSchema | Verdict::Locked => {
            "keep a copy of the directory; nothing of it can be trusted from that record on"
        }
    }
}

fn found(verification: Verification) -> Verified {
    let Verification { verdict, records, head, problem } = verification;
    let fix = fix_of(verdict);
    let shown = |problem: crate::journal::ChainProblem| ShownProblem {
        position: Some(problem.position),
        reason: problem.to_string(),
        fix: fix.to_owned(),
    };
    Verified { verdict, records, head: Some(shown_head(&head)), problem: problem.map(shown) }
}

fn unopened(verdict: Verdict, error: &JournalError) -> Verified {
    let problem =
        ShownProblem { position: None, reason: problems::chained(error), fix: error.fix().to_owned() };
    Verified { verdict, records: 0, head: None, problem: Some(problem) }
}

fn shown_head(head: &Head) -> ShownHead {
    let text = head.to_string();
    let hash = text.split_once(':').map_or("", |(_, hash)| hash).to_owned();
    ShownHead { position: head.position, hash }
}

fn exit_of(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Intact => exit::DONE,
        Verdict::TornTail | Verdict::NeedsArchive => exit::DEGRADED,
        Verdict::CutTail | Verdict::Corrupt | Verdict::NewerSchema | Verdict::Locked => exit::REFUSED,
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Intact => "intact",
        Verdict::TornTail => "torn-tail",
        Verdict::NeedsArchive => "needs-archive",
        Verdict::CutTail => "cut-tail",
        Verdict::Corrupt => "corrupt",
        Verdict::NewerSchema => "newer-schema",
        Verdict::Locked => "locked",
    }
}

fn text(verified: &Verified) -> String {
    let word = word(verified.verdict);
    let word = if verified.verdict == Verdict::Intact { style::ok(word) } else { style::bad(word) };
    let mut text = format!("verdict:   {word}\nrecords:   {}\n", verified.records);
    if let Some(ShownHead { position, hash }) = &verified.head {
        text.push_str(&format!("head:      {position}:{hash}\n"));
    }
    if let Some(ShownProblem { reason, fix, .. }) = &verified.problem {
        text.push_str(&format!("problem:   {reason}\nfix:       {fix}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::{directory, fixture};
    use super::*;
    use crate::records::journal_options;

    #[test]
    fn intact_journal_exits_with_0_and_prints_head() {
        let (dir, entries) = (directory(), fixture());
        let snapshot = Snapshot::open(dir.path()).expect("it is free");
        let verified = found(snapshot.verify(None));
        assert_eq!((verified.verdict, verified.records), (Verdict::Intact, entries.len() as u64));
        assert_eq!(exit_of(verified.verdict), 0);
        let json = serde_json::to_value(&verified).expect("plain data");
        assert_eq!(json["verdict"], "intact");
        assert_eq!(json["head"]["position"], entries.len());
        assert_eq!(json["head"]["hash"].as_str().map(str::len), Some(64));
        assert!(json["problem"].is_null());
    }

    #[test]
    fn missing_published_head_is_truncated_tail() {
        let dir = directory();
        let snapshot = Snapshot::open(dir.path()).expect("it is free");
        let published = Head { position: 900, hash: [1; 32] };
        let verified = found(snapshot.verify(Some(&published)));
        assert_eq!((verified.verdict, exit_of(verified.verdict)), (Verdict::CutTail, 4));
        let problem = verified.problem.expect("a problem");
        assert_eq!(problem.position, Some(900));
    }

    #[test]
    fn held_journal_is_reported_as_locked() {
        let dir = directory();
        let opened = crate::journal::Journal::open_thread(dir.path(), journal_options()).expect("free");
        let error = Snapshot::open(dir.path()).err().expect("it is held");
        let verified = unopened(error.verdict().expect("a verdict"), &error);
        assert_eq!((verified.verdict, exit_of(verified.verdict)), (Verdict::Locked, 4));
        assert!(text(&verified).contains("held by"), "{}", text(&verified));
        drop(opened);
    }

    #[test]
    fn every_verdict_has_its_documented_word() {
        use Verdict::*;
        for (verdict, code) in [
            (Intact, 0),
            (TornTail, 3),
            (NeedsArchive, 3),
            (CutTail, 4),
            (Corrupt, 4),
            (NewerSchema, 4),
            (Locked, 4),
        ] {
            assert_eq!(serde_json::to_value(verdict).expect("a word"), word(verdict));
            assert_eq!(exit_of(verdict), code);
        }
    }
}
