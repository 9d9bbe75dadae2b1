//! Output of commands: data on stdout, messages on stderr, JSON as the contract.
//!
//! Promises: JSON and YAML contain no colour; tables are aligned and never wrapped; colour appears only on
//! terminals and never under `NO_COLOR`; a closed pipe is not an error. A [`Problem`] is always printed with
//! its code, its object, the reason and the fix.
//!
//! Not here: the content of the output (each command renders its own types) and progress bars.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::problem::{Code, Problem};

mod explain;

pub use explain::{CODES, explain, page, parse_code, title};

pub mod exit {
    use crate::domain::problem::Code;

    /// The command succeeded.
    pub const DONE: u8 = 0;
    /// The command failed.
    pub const FAILED: u8 = 1;
    /// The command line is invalid; clap exits with the same code.
    pub const USAGE: u8 = 2;
    /// Done, but degraded or different from what was expected.
    pub const DEGRADED: u8 = 3;
    /// Refused: the journal is corrupt, locked by another process or of a newer release, or an object does
    /// not belong to Stillpoint.
    pub const REFUSED: u8 = 4;

    /// The exit code of a command that ended with a problem of this code.
    pub fn of(code: Code) -> u8 {
        match code {
            Code::Usage => USAGE,
            Code::JournalCorrupt | Code::JournalLocked | Code::JournalNewer | Code::ForeignObject => REFUSED,
            _ => FAILED,
        }
    }
}

/// The output formats of `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// Aligned columns, including additional columns
    Wide,
    /// JSON document
    Json,
    /// YAML document
    Yaml,
}

impl Format {
    /// Whether a program reads the output. Then the data must be complete, and errors are written to stdout
    /// as well.
    pub fn is_document(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }

    /// Returns `value` as a document; `None` for tables, which each command renders itself.
    ///
    /// # Errors
    /// The value cannot be serialized in this format, which is a defect of its type.
    pub fn document(self, value: &impl Serialize) -> Result<Option<String>, Problem> {
        let text = match self {
            Self::Table | Self::Wide => return Ok(None),
            Self::Json => serde_json::to_string_pretty(value).map_err(|error| error.to_string()),
            Self::Yaml => serde_saphyr::to_string(value).map_err(|error| error.to_string()),
        };
        let mut text = text.map_err(|reason| {
            let about = crate::domain::problem::About::default();
            Problem::new(Code::Internal, about, format!("write the output: {reason}"), "report this defect")
        })?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(Some(text))
    }
}

/// Renders a table as kubectl does: headers in capitals, columns three spaces apart, no borders, no wrapping.
/// Every line ends with a line feed. Cells are plain text: line feeds and escapes in them are replaced by a
/// space.
pub fn table<H, R, C>(headers: &[H], rows: R) -> String
where
    H: AsRef<str>,
    R: IntoIterator,
    R::Item: IntoIterator<Item = C>,
    C: AsRef<str>,
{
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.iter().map(|header| header.as_ref().to_uppercase()));
    for row in rows {
        table.add_row(row.into_iter().map(|cell| cell.as_ref().replace(|c: char| c.is_control(), " ")));
    }
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 3));
    });
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Colours with a meaning. [`data`] and [`talk`] remove the colour codes if the output is not a terminal.
/// Print styled text only with these two functions.
pub mod style {
    use anstyle::{AnsiColor, Style};

    /// For a condition that holds.
    pub fn ok(text: &str) -> String {
        paint(AnsiColor::Green.on_default(), text)
    }

    /// For a condition that needs attention.
    pub fn warn(text: &str) -> String {
        paint(AnsiColor::Yellow.on_default(), text)
    }

    /// For a condition that failed.
    pub fn bad(text: &str) -> String {
        paint(AnsiColor::Red.on_default().bold(), text)
    }

    /// For secondary details.
    pub fn dim(text: &str) -> String {
        paint(Style::new().dimmed(), text)
    }

    /// For the most important text.
    pub fn bold(text: &str) -> String {
        paint(Style::new().bold(), text)
    }

    fn paint(style: Style, text: &str) -> String {
        format!("{style}{text}{style:#}")
    }
}

/// Writes data to stdout.
///
/// # Errors
/// Stdout cannot be written. A closed pipe is not an error: the reader has read what it needed.
pub fn data(text: &str) -> io::Result<()> {
    write(anstream::stdout().lock(), text)
}

/// Writes a message of one or more lines to stderr. Write errors are ignored.
pub fn talk(text: &str) {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    drop(write(anstream::stderr().lock(), &format!("{text}{end}")));
}

fn write(mut stream: impl Write, text: &str) -> io::Result<()> {
    match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints a problem: as JSON on stdout, or in three lines on stderr. Returns the exit code.
pub fn report(problem: &Problem, json: bool) -> u8 {
    if json {
        // If stdout is closed, only the exit code reports the problem.
        drop(data(&format!("{:#}\n", problem_json(problem))));
    } else {
        talk(&problem_text(problem));
    }
    exit::of(problem.code)
}

/// A problem in the JSON contract: `{"error":{code,message,object{kind,namespace,name},reason,fix}}`.
pub fn problem_json(problem: &Problem) -> Value {
    json!({
        "error": {
            "code": problem.code.to_string(),
            "message": title(problem.code),
            "object": {
                "kind": problem.about.kind,
                "namespace": problem.about.namespace,
                "name": problem.about.name,
            },
            "reason": problem.reason,
            "fix": problem.fix,
        }
    })
}

/// A problem in three lines: the error with its object, the reason, and the fix.
pub fn problem_text(problem: &Problem) -> String {
    let code = problem.code;
    let object = problem.about.to_string();
    let object = if object.is_empty() { String::new() } else { format!(" ({object})") };
    let mut text = format!("{} {}{object}\n", style::bad(&format!("error {code}:")), title(code));
    text.push_str(&format!("  {} {}\n", style::bold("why:"), problem.reason));
    let more = style::dim(&format!("(stillpoint explain {code})"));
    text.push_str(&format!("  {} {} {more}\n", style::bold("what to do:"), problem.fix));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::problem::About;

    fn problem() -> Problem {
        let about = About::new("PersistentVolumeClaim", "shop", "data-0");
        Problem::new(Code::ClaimUnfit, about, "it is not bound", "wait until it is bound")
    }

    #[test]
    fn aligns_tables_without_trailing_blanks() {
        let rows = vec![vec!["orders-db", "Completed"], vec!["x", "Failed\nbadly"], vec!["größe", ""]];
        let expected = "GROUP       STATE\norders-db   Completed\nx           Failed badly\ngröße\n";
        assert_eq!(table(&["group", "state"], rows), expected);
    }

    #[test]
    fn a_table_is_never_wrapped() {
        let long = "x".repeat(400);
        assert_eq!(table(&["name"], [[long.as_str()]]), format!("NAME\n{long}\n"));
    }

    #[test]
    fn an_empty_table_is_its_header() {
        assert_eq!(table(&["name", "age"], Vec::<Vec<String>>::new()), "NAME   AGE\n");
    }

    #[test]
    fn json_output_ends_with_newline_and_rejects_tables() {
        let value = json!({ "name": "nightly", "groups": [1] });
        let document = |format: Format| format.document(&value).expect("plain data");
        assert_eq!(document(Format::Table), None);
        assert_eq!(document(Format::Wide), None);
        let text = document(Format::Json).expect("a document");
        assert!(text.ends_with("}\n"));
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
        let text = document(Format::Yaml).expect("a document");
        assert!(
            text.contains("name: nightly\n") && text.ends_with('\n') && !text.ends_with("\n\n"),
            "{text:?}"
        );
    }

    #[test]
    fn json_error_has_documented_fields() {
        let expected = json!({ "error": {
            "code": "SP0004",
            "message": "a claim of the group cannot be snapshotted",
            "object": { "kind": "PersistentVolumeClaim", "namespace": "shop", "name": "data-0" },
            "reason": "it is not bound",
            "fix": "wait until it is bound",
        }});
        assert_eq!(problem_json(&problem()), expected);
    }

    #[test]
    fn terminal_error_has_problem_cause_and_fix() {
        let plain = anstream::adapter::strip_str(&problem_text(&problem())).to_string();
        let expected = "error SP0004: a claim of the group cannot be snapshotted (PersistentVolumeClaim shop/data-0)\n  \
                        why: it is not bound\n  what to do: wait until it is bound (stillpoint explain SP0004)\n";
        assert_eq!(plain, expected);
    }

    #[test]
    fn exit_codes_distinguish_refused_from_failed() {
        let check = |code, expected| assert_eq!(exit::of(code), expected, "{code}");
        check(Code::Usage, 2);
        check(Code::JournalCorrupt, 4);
        check(Code::JournalLocked, 4);
        check(Code::JournalNewer, 4);
        check(Code::ForeignObject, 4);
        check(Code::DriverFailed, 1);
        check(Code::JournalMissing, 1);
    }

    #[test]
    fn ignores_broken_pipe_but_reports_full_disk() {
        struct Failing(io::ErrorKind);
        impl Write for Failing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(write(Failing(io::ErrorKind::BrokenPipe), "x").is_ok());
        assert!(write(Failing(io::ErrorKind::StorageFull), "x").is_err());
    }
}
