//! `journal diff A B`: the changes in a stream between two of its records.

use serde_json::Value;

use super::{JournalArgs, read};
use crate::audit::shown::rfc3339;
use crate::audit::{Changed, Diff, diff};
use crate::cli::common::show;
use crate::cli::output::{self, exit, style};
use crate::domain::problem::{About, Code, Problem};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Position of a record
    #[arg(value_name = "A")]
    from: u64,
    /// Position of another record of the same stream. Use the same position twice to print the changes of
    /// that record
    #[arg(value_name = "B")]
    to: u64,
    #[command(flatten)]
    pub(super) common: JournalArgs,
}

/// Refuses a journal whose chain is broken: the compared records must be the records that the daemon wrote.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let entries = read::verified(&args.common.source)?;
    let found = diff(&entries, args.from, args.to).map_err(|error| {
        let about = About::new("Record", "", &format!("{} and {}", args.from, args.to));
        Problem::new(
            Code::Usage,
            about,
            error.to_string(),
            "`stillpoint journal show RUN` lists the records of a run",
        )
    })?;
    show(args.common.format(), &found, text)?;
    Ok(exit::DONE)
}

fn text(found: &Diff) -> String {
    let Diff { name, stream, from, to, changed, .. } = found;
    let head = match from == to {
        true => format!("what record {from} changed in {name} ({stream})"),
        false => format!("{name} ({stream}) after record {from} and after record {to}"),
    };
    let head = format!("{}\n", style::bold(&head));
    if changed.is_empty() {
        return head + "nothing changed\n";
    }
    let row = |c: &Changed| [c.field.clone(), shown(c.before.as_ref()), shown(c.after.as_ref())];
    head + &output::table(&["field", "before", "after"], changed.iter().map(row))
}

/// Numbers in this range are times in nanoseconds: no other field of a run is as large.
const TIMES: std::ops::Range<i64> = 1_000_000_000_000_000_000..4_000_000_000_000_000_000;

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => match number.as_i64() {
            Some(time) if TIMES.contains(&time) => rfc3339(time),
            _ => number.to_string(),
        },
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::fixture;
    use super::*;

    #[test]
    fn prints_changes_as_lines_with_readable_times() {
        let entries = fixture();
        let found = diff(&entries, 2, 5).expect("one stream");
        let shown = anstream::adapter::strip_str(&text(&found)).to_string();
        let line =
            |field: &str| shown.lines().find(|line| line.starts_with(field)).unwrap_or_default().to_owned();
        let words = |field: &str| line(field).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words("stage")[1..], ["Planned", "Created"], "{shown}");
        assert!(words("timeline[0].at")[2].starts_with("2026-01-01T00:00:00."), "{shown}");
        let same = Diff { changed: vec![], ..found };
        assert!(text(&same).ends_with("nothing changed\n"));
    }
}
