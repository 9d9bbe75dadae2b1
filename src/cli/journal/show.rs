//! `journal show [RUN]`: records as lines, or as data.

use serde::Serialize;

use super::{JournalArgs, read};
use crate::audit::{Open, Row, Shown, Stream, Streams, only, timeline};
use crate::cli::common::show;
use crate::cli::output::{Format, exit, style};
use crate::domain::ids::StreamId;
use crate::domain::problem::{About, Code, Problem};
use crate::domain::time::Millis;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print only this run or Backup. Accepts the beginning of its id, or the name of the group or Backup
    #[arg(value_name = "RUN")]
    stream: Option<String>,
    /// Same as the RUN argument
    #[arg(long, value_name = "ID|GROUP", conflicts_with = "stream")]
    run: Option<String>,
    #[command(flatten)]
    pub(super) common: JournalArgs,
}

/// The output of the command.
#[derive(Debug, Serialize)]
struct Showing {
    records: Vec<Shown>,
}

/// For users: prints the records before the damage, then the damage. For programs: prints all records or only
/// the problem.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let format = args.common.format();
    let (mut entries, damage) = read::until_damage(&args.common.source)?;
    if let Some(problem) = damage.as_ref().filter(|_| format.is_document()) {
        return Err(problem.clone());
    }
    let mut rows = timeline(&entries);
    if let Some(wanted) = args.run.as_ref().or(args.stream.as_ref()) {
        let streams = Streams::of(&entries);
        let stream = select(&streams, wanted)?.id;
        entries.retain(|entry| StreamId(entry.stream) == stream);
        rows = only(rows, stream);
    }
    let showing = Showing { records: entries.iter().map(Shown::of).collect() };
    show(format, &showing, |showing| lines(&rows, showing, format == Format::Wide))?;
    damage.map_or(Ok(exit::DONE), Err)
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

fn lines(rows: &[Row], showing: &Showing, wide: bool) -> String {
    let mut records = showing.records.iter();
    let widths = Widths::of(rows);
    let mut text = showing.records.first().map(begin).unwrap_or_default();
    for row in rows {
        text.push_str(&line(row, &widths));
        if let Row::Record { .. } = row {
            text.extend(records.next().filter(|_| wide).map(details));
        }
    }
    text
}

/// The heading with the date. The lines below it have only the time of day.
fn begin(first: &Shown) -> String {
    let day = first.time.split('T').next().unwrap_or_default();
    style::dim(&format!("epoch {} from {day}, times in UTC", first.epoch)) + "\n"
}

/// Column widths.
struct Widths {
    position: usize,
    offset: usize,
    name: usize,
}

/// A longer name overflows its column, so that it does not widen all lines.
const NAME: usize = 28;

impl Widths {
    fn of(rows: &[Row]) -> Self {
        let mut widths = Self { position: 0, offset: 0, name: 0 };
        for row in rows {
            if let Row::Record { position, offset, name, .. } = row {
                widths.position = widths.position.max(position.to_string().len());
                widths.offset = widths.offset.max(seconds(*offset).len());
                widths.name = widths.name.max(name.chars().count().min(NAME));
            }
        }
        widths
    }
}

fn line(row: &Row, widths: &Widths) -> String {
    match row {
        Row::Started { epoch, after, silent } => gap(*epoch, *after, *silent),
        Row::Record { position, time_ns, offset, name, text, open, failures, .. } => {
            let (at, offset) = (time_of_day(*time_ns), seconds(*offset));
            let place = format!("{position:>0$} {at} {offset:>1$}", widths.position, widths.offset);
            let mut line =
                format!("{}  {name:<2$}  {}", style::dim(&place), painted(&plain(text)), widths.name);
            line.extend(open.map(|open| format!("  {}", unfinished(open))));
            line.push('\n');
            let indent = " ".repeat(widths.position + at.len() + widths.offset + widths.name + 6);
            for failure in failures {
                line.push_str(&format!("{indent}{}\n", style::bad(&format!("✗ {}", plain(failure)))));
            }
            line
        }
    }
}

/// The gap that a crash left, with its length.
fn gap(epoch: u64, after: Millis, silent: u64) -> String {
    let before = match silent {
        0 => String::new(),
        1 => "; the epoch before it wrote nothing".to_owned(),
        more => format!("; {more} epochs before it wrote nothing"),
    };
    let text =
        format!("──── {after} of nothing ──── epoch {epoch}: the daemon was started again{before} ────");
    style::warn(&text) + "\n"
}

fn unfinished(open: Open) -> String {
    match open {
        Open::Ended => style::bad("⚡ no outcome: the process ended here"),
        Open::Pending => style::warn("… no outcome yet"),
    }
}

/// Highlights the first words of a milestone, because users search for them.
fn painted(text: &str) -> String {
    let good = ["reached completed", "finished Completed"].iter().any(|end| text.starts_with(end));
    let bad =
        ["reached failed", "reached stuck", "reached unwinding", "finished Failed", "finished Partially"];
    match () {
        () if good => style::ok(text),
        () if bad.iter().any(|end| text.starts_with(end)) => style::bad(text),
        () if text.starts_with("reached") => style::bold(text),
        () => text.to_owned(),
    }
}

fn seconds(Millis(ms): Millis) -> String {
    format!("+{}.{:03}s", ms / 1000, ms % 1000)
}

fn time_of_day(time_ns: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let ms = (time_ns.div_euclid(1_000_000)).rem_euclid(DAY_MS);
    let (seconds, ms) = (ms / 1000, ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Replaces control characters by spaces, because texts of other components (error messages) may contain
/// anything. One record stays one line.
fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
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
    use crate::journal::Entry;

    fn text(entries: &[Entry], wide: bool) -> String {
        let showing = Showing { records: entries.iter().map(Shown::of).collect() };
        anstream::adapter::strip_str(&lines(&timeline(entries), &showing, wide)).to_string()
    }

    #[test]
    fn prints_line_per_record_and_per_crash() {
        let entries = fixture();
        let text = text(&entries, false);
        assert_eq!(text.lines().count(), entries.len() + 2);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "epoch 1 from 2026-01-01, times in UTC");
        assert_eq!(
            lines[3],
            " 3 00:00:00.040 +0.040s  orders-db  intend create [planned/create] 1 effect: CreateGroup"
        );
        let gap = lines.iter().position(|line| line.contains("────")).expect("a gap");
        assert_eq!(lines[gap], "──── 3.1 s of nothing ──── epoch 2: the daemon was started again ────");
        assert!(lines[gap - 1].ends_with("  ⚡ no outcome: the process ended here"), "{text}");
    }

    #[test]
    fn time_of_day_wraps_at_midnight() {
        assert_eq!(time_of_day(1_767_225_600_000_000_000 + 86_399_999_000_000), "23:59:59.999");
        assert_eq!(time_of_day(-1), "23:59:59.999");
    }

    #[test]
    fn wide_lines_show_hash_and_view() {
        let entries = fixture();
        let text = text(&entries[..3], true);
        assert!(text.contains("Group=Absent") && text.contains(&Shown::of(&entries[2]).hash), "{text}");
    }

    #[test]
    fn finds_run_by_name_or_id_prefix() {
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
