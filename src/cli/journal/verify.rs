//! `journal verify`: whether the journal is whole.

use serde::Serialize;

use super::read::{Source, Unread};
use super::{JournalArgs, problems};
use crate::cli::common::show;
use crate::cli::output::{exit, style};
use crate::domain::problem::Problem;
use crate::journal::{Head, JournalError, Verdict, Verification};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A head that was published elsewhere: the journal has to contain it.
    #[arg(long, value_name = "POS:HASH")]
    expect_head: Option<Head>,
    #[command(flatten)]
    pub(super) common: JournalArgs,
}

/// What the command prints.
#[derive(Debug, PartialEq, Serialize)]
struct Verified {
    verdict: Verdict,
    records: u64,
    head: Option<ShownHead>,
    problem: Option<ShownProblem>,
}

/// The last record that held.
#[derive(Debug, PartialEq, Serialize)]
struct ShownHead {
    position: u64,
    hash: String,
}

/// The first thing that is wrong.
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
            let fix = match source {
                Source::Export(_) => EXPORTED,
                Source::Copy(_) | Source::Daemon(_) => MENDED,
            };
            remarked(found(verification), &remarks, fix)
        }
        Err(Unread::Other(problem)) => return Err(problem),
        Err(Unread::Journal(error)) => match error.verdict() {
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

const MENDED: &str = "nothing is lost: what one half lacks the next start of the daemon mends and tells so in the journal; archives are read from where --archive says";
const EXPORTED: &str =
    "the records hold; ask for an export that was not touched, and for the archive if one is named";

/// Every record that is there holds, and there is something to know: one half of the journal had to make up for the
/// other, or an export is not what it looks like.
fn remarked(mut verified: Verified, remarks: &[String], fix: &str) -> Verified {
    if verified.problem.is_none() && !remarks.is_empty() {
        verified.problem =
            Some(ShownProblem { position: None, reason: remarks.join("; "), fix: fix.to_owned() });
    }
    verified
}

fn found(verification: Verification) -> Verified {
    let Verification { verdict, records, head, problem } = verification;
    let fix = match verdict {
        Verdict::TornTail => {
            "what was acknowledged is there up to the head shown; keep a copy of the directory before anything else"
        }
        Verdict::CutTail => {
            "records that were acknowledged are gone: restore the newest copy of the directory"
        }
        _ => "keep a copy of the directory; nothing of it can be trusted from that record on",
    };
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
        Verdict::TornTail => exit::DEGRADED,
        Verdict::CutTail | Verdict::Corrupt | Verdict::NewerSchema | Verdict::Locked => exit::REFUSED,
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Intact => "intact",
        Verdict::TornTail => "torn-tail",
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
    use crate::journal::{Options, Snapshot};

    #[test]
    fn an_intact_journal_exits_with_0_and_names_its_head() {
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
    fn a_published_head_that_is_not_there_is_a_cut_tail() {
        let dir = directory();
        let snapshot = Snapshot::open(dir.path()).expect("it is free");
        let published = Head { position: 900, hash: [1; 32] };
        let verified = found(snapshot.verify(Some(&published)));
        assert_eq!((verified.verdict, exit_of(verified.verdict)), (Verdict::CutTail, 4));
        let problem = verified.problem.expect("a problem");
        assert_eq!(problem.position, Some(900));
    }

    #[test]
    fn a_journal_that_is_held_is_locked_and_not_broken() {
        let dir = directory();
        let opened = crate::journal::Journal::open_thread(dir.path(), Options::default()).expect("free");
        let error = Snapshot::open(dir.path()).err().expect("it is held");
        let verified = unopened(error.verdict().expect("a verdict"), &error);
        assert_eq!((verified.verdict, exit_of(verified.verdict)), (Verdict::Locked, 4));
        assert!(text(&verified).contains("held by"), "{}", text(&verified));
        drop(opened);
    }

    #[test]
    fn every_verdict_has_the_word_of_the_contract() {
        use Verdict::*;
        for (verdict, code) in
            [(Intact, 0), (TornTail, 3), (CutTail, 4), (Corrupt, 4), (NewerSchema, 4), (Locked, 4)]
        {
            assert_eq!(serde_json::to_value(verdict).expect("a word"), word(verdict));
            assert_eq!(exit_of(verdict), code);
        }
    }
}
