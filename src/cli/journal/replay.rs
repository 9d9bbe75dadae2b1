//! `journal replay`: whether every decision would be the same again.

use super::{JournalArgs, read};
use crate::audit::{Difference, Replay, ReplayReport};
use crate::cli::common::show;
use crate::cli::output::{self, exit, style};
use crate::domain::problem::Problem;
use crate::domain::text::count;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) common: JournalArgs,
}

/// Refuses a journal whose chain is broken: the replayed records must be the records that the daemon wrote.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let mut replay = Replay::default();
    read::verified_each(&args.common.source, |entry| replay.admit(&entry))?;
    let report = replay.finish();
    show(args.common.format(), &report, text)?;
    Ok(exit_of(&report))
}

fn exit_of(report: &ReplayReport) -> u8 {
    if report.different.is_empty() { exit::DONE } else { exit::DEGRADED }
}

fn text(report: &ReplayReport) -> String {
    let ReplayReport { decisions, same, different, not_comparable } = report;
    let differs = format!("{} different", different.len());
    let differs = if different.is_empty() { style::ok(&differs) } else { style::bad(&differs) };
    let summary = format!(
        "{}: {same} same, {differs}, {not_comparable} not comparable\n",
        count(*decisions, "decision")
    );
    if different.is_empty() {
        return summary;
    }
    let row = |d: &Difference| [d.position.to_string(), d.recorded.clone(), d.now.clone(), d.why.clone()];
    summary + &output::table(&["position", "recorded", "now", "why"], different.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::super::testing::present;
    use super::*;
    use crate::audit::replay;

    #[test]
    fn exits_with_0_if_equal_and_3_otherwise() {
        let mut entries = present();
        let report = replay(&entries);
        assert_eq!(exit_of(&report), 0);
        assert!(text(&report).contains("0 different"));
        let intent = entries.iter().position(|e| e.record.kind == crate::records::kind::GROUP_INTENDED);
        let hour = 3_600_000_000_000;
        entries[intent.expect("an intent")].record.time_ns += hour;
        let report = replay(&entries);
        assert_eq!(exit_of(&report), 3);
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(json["different"][0]["recorded"], "planned/create");
        assert_eq!(json["different"][0]["now"], "planned/too-late");
        for field in ["decisions", "same", "notComparable"] {
            assert!(json[field].is_u64(), "{field}");
        }
        assert!(text(&report).contains("planned/too-late   CutDeadline is Passed"), "{}", text(&report));
    }
}
