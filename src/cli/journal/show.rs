//! `journal show [RUN]`: records as lines, or as data.

use serde::Serialize;

use super::{JournalArgs, read};
use crate::audit::{Row, Shown, Stream, Streams, timeline};
use crate::cli::common::show;
use crate::cli::output::{Format, exit, style};
use crate::domain::problem::{About, Code, Problem};
use crate::journal::Entry;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this run or Backup: the beginning of its id, or the name of the group or Backup.
    run: Option<String>,
    #[command(flatten)]
    pub(super) common: JournalArgs,
}

/// What the command prints.
#[derive(Debug, Serialize)]
struct Showing {
    records: Vec<Shown>,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let dir = &args.common.journal;
    let mut entries = read::entries(dir, &read::open(dir)?)?;
    if let Some(wanted) = &args.run {
        let streams = Streams::of(&entries);
        let stream = select(&streams, wanted)?.id;
        entries.retain(|entry| entry.stream == stream);
    }
    let format = args.common.format();
    let showing = Showing { records: entries.iter().map(Shown::of).collect() };
    show(format, &showing, |showing| lines(&entries, showing, format == Format::Wide))?;
    Ok(exit::DONE)
}

/// The one stream that `wanted` names.
fn select<'a>(streams: &'a Streams, wanted: &str) -> Result<&'a Stream, Problem> {
    let is_prefix = |stream: &Stream| {
        let id = stream.id.to_string();
        !wanted.is_empty() && (id.starts_with(wanted) || id.replace('-', "").starts_with(wanted))
    };
    let exact: Vec<&Stream> = streams.iter().filter(|stream| stream.name == wanted).collect();
    let found = if exact.is_empty() { streams.iter().filter(|s| is_prefix(s)).collect() } else { exact };
    let reason = match found.as_slice() {
        [stream] => return Ok(stream),
        [] => format!("no run or Backup of this journal is called {wanted:?}"),
        many => {
            let ids: Vec<String> = many.iter().map(|stream| stream.id.short()).collect();
            format!("{wanted:?} may be any of {}", ids.join(", "))
        }
    };
    let fix = "give the beginning of a run's id; `stillpoint journal list` shows them";
    Err(Problem::new(Code::Usage, About::new("Run", "", wanted), reason, fix))
}

fn lines(entries: &[Entry], showing: &Showing, wide: bool) -> String {
    let mut records = showing.records.iter();
    let mut text = String::new();
    for row in timeline(entries) {
        match &row {
            Row::Started { .. } => text.push_str(&format!("{}\n", style::warn(&row.to_string()))),
            Row::Record { .. } => {
                text.push_str(&format!("{}\n", plain(&row)));
                let shown = records.next().filter(|_| wide);
                text.extend(shown.map(details));
            }
        }
    }
    text
}

/// Texts of others (error messages) may hold anything; one record stays one line.
fn plain(row: &Row) -> String {
    row.to_string().replace(|c: char| c.is_control(), " ")
}

fn details(shown: &Shown) -> String {
    let mut text = format!("      {} {} {}\n", shown.time, shown.stream, shown.hash);
    if let Some(serde_json::Value::Object(view)) = &shown.view {
        let columns: Vec<String> = view
            .iter()
            .map(|(column, value)| format!("{column}={}", value.as_str().unwrap_or("?")))
            .collect();
        text.push_str(&format!("      {}\n", columns.join(" ")));
    }
    style::dim(&text)
}

#[cfg(test)]
mod tests {
    use super::super::testing::fixture;
    use super::*;

    fn text(entries: &[Entry], wide: bool) -> String {
        let showing = Showing { records: entries.iter().map(Shown::of).collect() };
        anstream::adapter::strip_str(&lines(entries, &showing, wide)).to_string()
    }

    #[test]
    fn one_record_is_one_line_and_a_crash_is_one_more() {
        let entries = fixture();
        let text = text(&entries, false);
        assert_eq!(text.lines().count(), entries.len() + 1);
        assert!(text.contains("\n--- epoch 2: started again after 3.1 s ---\n"), "{text}");
    }

    #[test]
    fn wide_lines_show_hash_and_view() {
        let entries = fixture();
        let text = text(&entries[..3], true);
        assert!(text.contains("Group=Absent") && text.contains(&Shown::of(&entries[2]).hash), "{text}");
    }

    #[test]
    fn a_run_is_found_by_name_or_by_the_beginning_of_its_id() {
        let streams = Streams::of(&fixture());
        let group = streams.iter().nth(1).expect("the group");
        for wanted in ["orders-db", &group.id.short(), &group.id.to_string(), &group.id.to_string()[..3]] {
            assert_eq!(select(&streams, wanted).map(|stream| stream.id), Ok(group.id), "{wanted}");
        }
        for wanted in ["", "orders", "zz"] {
            assert_eq!(select(&streams, wanted).expect_err(wanted).code, Code::Usage);
        }
    }
}
