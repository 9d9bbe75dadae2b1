//! `journal explain N`: the reason of a record.

use super::{JournalArgs, read};
use crate::audit::explain::{Explanation, Looked, Other};
use crate::audit::shown::rfc3339;
use crate::audit::{Explained, explain};
use crate::cli::common::show;
use crate::cli::output::{self, exit, style};
use crate::domain::problem::{About, Code, Problem};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Position of the record
    #[arg(value_name = "N")]
    position: u64,
    #[command(flatten)]
    pub(super) common: JournalArgs,
}

/// Refuses a journal whose chain is broken: the explained record must be the record that the daemon wrote.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let entries = read::verified(&args.common.source)?;
    let explained = explain(&entries, args.position).ok_or_else(|| missing(args.position, entries.len()))?;
    show(args.common.format(), &explained, text)?;
    Ok(exit::DONE)
}

fn missing(position: u64, records: usize) -> Problem {
    let about = About::new("Record", "", &position.to_string());
    let reason = format!("the journal has {records} records, none at position {position}");
    Problem::new(Code::Usage, about, reason, "`stillpoint journal show` lists the positions")
}

fn text(explained: &Explained) -> String {
    let Explained { position, name, summary, stage, decision, note, time_ns, .. } = explained;
    let mut text = format!("{}\n", style::bold(&plain(&format!("#{position} {name} {summary}"))));
    let stage = stage.as_ref().map(|stage| format!("   stage: {stage}")).unwrap_or_default();
    text.push_str(&format!("at:    {}{stage}\n", rfc3339(*time_ns)));
    if let Some(decision) = decision {
        text.push_str(&decided(decision));
    }
    if let Some(note) = note {
        text.push_str(&format!("note:  {}\n", plain(note)));
    }
    text
}

fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

fn decided(decision: &Explanation) -> String {
    let Explanation { row, rules, says, why, looked_at, beside, others } = decision;
    let mut text = format!("row:   {} (rules {rules})\nsays:  {says}\nwhy:   {why}\n", style::ok(row));
    let line = |looked: &Looked| {
        [looked.column.to_owned(), looked.value.to_owned(), looked.from.to_owned(), takes(looked)]
    };
    text.push_str("\nThe row looks at\n");
    text.push_str(&output::table(&["column", "value", "from", "row takes"], looked_at.iter().map(line)));
    if !beside.is_empty() {
        text.push_str("\nOther rows of the stage look at\n");
        let line =
            |looked: &Looked| [looked.column.to_owned(), looked.value.to_owned(), looked.from.to_owned()];
        text.push_str(&output::table(&["column", "value", "from"], beside.iter().map(line)));
    }
    if !others.is_empty() {
        text.push_str("\nWhy not another row\n");
        let line = |other: &Other| [other.row.to_owned(), other.because.clone()];
        text.push_str(&output::table(&["row", "because"], others.iter().map(line)));
    }
    text
}

fn takes(looked: &Looked) -> String {
    looked.takes.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::super::testing::present;
    use super::*;
    use crate::machine::group::table::RULES;

    #[test]
    fn prints_full_explanation_of_decision() {
        let entries = present();
        let shown = text(&explain(&entries, 3).expect("an intent"));
        let shown = anstream::adapter::strip_str(&shown).to_string();
        assert!(
            shown.starts_with("#3 orders-db intend create [planned/create] 1 effect: CreateGroup\n"),
            "{shown}"
        );
        let row = format!("\nrow:   planned/create (rules {RULES})\nsays:  to create\nwhy:   the name");
        assert!(shown.contains(&row), "{shown}");
        assert!(shown.contains("\nplanned/too-late "), "{shown}");
        assert!(
            shown
                .lines()
                .any(|line| line.starts_with("planned/too-late") && line.ends_with("CutDeadline is Open"))
        );
    }

    #[test]
    fn missing_position_is_usage_error() {
        let problem = missing(99, 3);
        assert_eq!((problem.code, exit::of(problem.code)), (Code::Usage, 2));
    }
}
