//! The result of a campaign of drills, as data and as text.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::cli::output::{style, table};
use crate::domain::text::count;
use crate::drill::campaign::Campaign;
use crate::drill::runner::CaseResult;
use crate::machine::row_ids;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct End {
    cases: Vec<One>,
    /// Number of cases and number of cases that held, by kind.
    summary: Vec<Kind>,
    /// Rows of the recovery table, each with the first case that decided it.
    rows: BTreeMap<&'static str, String>,
    /// Rows that no case decided.
    unreached: Vec<&'static str>,
    /// Number of crash points that were hit.
    points: usize,
    seconds: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct One {
    name: String,
    held: bool,
    end: String,
    writes: u64,
    stuck: Vec<&'static str>,
    broken: Vec<NotHeld>,
    #[serde(skip_serializing_if = "Option::is_none")]
    story: Option<String>,
    /// The command that repeats the case.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat: Option<String>,
}

#[derive(Debug, Serialize)]
struct NotHeld {
    invariant: &'static str,
    shown: String,
}

#[derive(Debug, Default, Serialize)]
struct Kind {
    kind: &'static str,
    cases: u64,
    held: u64,
}

impl End {
    pub(super) fn of(campaign: &Campaign, took: Duration) -> Self {
        let rows: BTreeMap<_, _> =
            campaign.rows().into_iter().map(|(row, case)| (row, case.to_string())).collect();
        let unreached = row_ids().filter(|row| !rows.contains_key(row)).collect();
        Self {
            cases: campaign.played.iter().map(One::of).collect(),
            summary: summary(&campaign.played),
            rows,
            unreached,
            points: campaign.points().len(),
            seconds: took.as_secs_f64(),
        }
    }

    pub(super) fn all_held(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(|case| case.held)
    }
}

impl One {
    fn of(played: &CaseResult) -> Self {
        let broken = played.broken.iter();
        let broken = broken.map(|one| NotHeld { invariant: one.invariant.name(), shown: one.shown.clone() });
        Self {
            name: played.case.to_string(),
            held: played.held(),
            end: played.end.clone(),
            writes: played.writes,
            stuck: played.stuck.clone(),
            broken: broken.collect(),
            story: played.story.clone(),
            repeat: (!played.held()).then(|| format!("stillpoint drill run --case {}", played.case)),
        }
    }
}

fn summary(played: &[CaseResult]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for one in played {
        let kind = match (one.case.disruptions.len(), &one.case.reply_fault, one.case.kills.len()) {
            (1.., ..) => "rivals",
            (0, Some(_), _) => "truths",
            (0, None, 0) => "not killed",
            (0, None, 1) => "killed once",
            (0, None, _) => "killed twice",
        };
        let at = kinds.iter().position(|known| known.kind == kind).unwrap_or_else(|| {
            kinds.push(Kind { kind, ..Kind::default() });
            kinds.len() - 1
        });
        kinds[at].cases += 1;
        kinds[at].held += u64::from(one.held());
    }
    kinds
}

/// One line for each case (with `brief`, only for cases that did not hold), then the failures in full, then
/// the table.
pub(super) fn text(end: &End, brief: bool) -> String {
    let mut text = String::new();
    for case in end.cases.iter().filter(|case| !(brief && case.held)) {
        let verdict = if case.held { style::ok("held  ") } else { style::bad("BROKEN") };
        text.push_str(&format!("{verdict}  {}\n", case.name));
    }
    for case in end.cases.iter().filter(|case| !case.held) {
        text.push_str(&format!("\n{}\n  ended as {}\n", style::bold(&case.name), case.end));
        for broken in &case.broken {
            text.push_str(&format!("  {}: {}\n", style::bad(broken.invariant), broken.shown));
        }
        if let Some(story) = &case.story {
            text.extend(story.lines().map(|line| format!("    {line}\n")));
        }
        if let Some(repeat) = &case.repeat {
            text.push_str(&format!("  again: {repeat}\n"));
        }
    }
    let rows = end.summary.iter().map(|kind| {
        [
            kind.kind.to_owned(),
            kind.cases.to_string(),
            kind.held.to_string(),
            (kind.cases - kind.held).to_string(),
        ]
    });
    text.push('\n');
    text.push_str(&table(&["drills", "cases", "held", "broken"], rows));
    let minutes = end.seconds / 60.0;
    text.push_str(&format!(
        "\n{} in {:.1} s ({:.0} a minute), {} points, {} of {} rows of the recovery table\n",
        count(end.cases.len(), "case"),
        end.seconds,
        end.cases.len() as f64 / minutes,
        end.points,
        end.rows.len(),
        end.rows.len() + end.unreached.len(),
    ));
    text
}
