//! An exported journal, as a file or on stdin. It is the only input of an auditor without access to the
//! journal directory.
//!
//! The file is read line by line, as often as necessary. Input that cannot be read twice, such as stdin, is
//! first copied to an unnamed temporary file. The bytes of a line are authoritative. `verify` reports
//! readable fields that differ from the bytes, because the hash does not cover the readable fields.
//!
//! Not here: whether the end was truncated. An export does not know where its journal ended. A head that was
//! published elsewhere does (`verify --expect-head`).

use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

use crate::audit::Shown;
use crate::domain::problem::{About, Code, Problem};
use crate::journal::chain::sealed;
use crate::journal::export::{Exported as Line, ImportError, Lines};
use crate::journal::{ChainProblem, Entry, Fault, Head, SCHEMA, Verification, Verifier};

/// A file of exported lines.
pub struct Exported(File);

impl Exported {
    /// Opens the file; `-` is stdin.
    ///
    /// # Errors
    /// The file cannot be opened, or the temporary copy cannot be written.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let opened = match path.as_os_str() == "-" {
            true => kept(&mut io::stdin().lock()),
            false => File::open(path).and_then(|mut file| match file.metadata()?.is_file() {
                true => Ok(file),
                false => kept(&mut file),
            }),
        };
        opened.map(Self).map_err(|error| {
            let about = About::new("File", "", &path.display().to_string());
            let reason = format!("read the exported journal: {error}");
            Problem::new(
                Code::Usage,
                about,
                reason,
                "name a file that `stillpoint journal export` wrote, or -",
            )
        })
    }

    fn lines(&self) -> impl Iterator<Item = Result<Line, ImportError>> {
        let mut file = &self.0;
        // If the file cannot seek to its beginning, the first line returns the error.
        let sought = file.seek(SeekFrom::Start(0)).err();
        let sought = sought.map(|error| Err(ImportError::Io { line: 1, reason: error.to_string() }));
        sought.into_iter().chain(Lines::new(BufReader::new(file)))
    }

    /// All entries with a valid hash, in order, up to the first invalid line.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, ChainProblem>> {
        let mut next = 1;
        self.lines().map(move |line| {
            let Line { entry, .. } = line.map_err(|error| problem(error, next))?;
            next = entry.position.saturating_add(1);
            sealed(&entry).map(|()| entry)
        })
    }

    /// Verifies every line and the chain, passes each valid entry to `each`, and returns remarks for the
    /// reader.
    pub fn verify_each(
        &self,
        expected: Option<&Head>,
        each: &mut dyn FnMut(Entry),
    ) -> (Verification, Vec<String>) {
        let (mut verifier, mut next, mut beside) = (Verifier::new(expected), 1, Beside::default());
        for line in self.lines() {
            match line {
                Err(error) => verifier.refuse(problem(error, next)),
                Ok(Line { entry, text }) if verifier.admit(&entry) => {
                    next = entry.position.saturating_add(1);
                    beside.compare(&entry, &text);
                    each(entry);
                }
                Ok(_) => break,
            }
        }
        let start = verifier.start();
        let mut remarks = beside.remarks();
        if start.position > 0 {
            remarks.push(format!(
                "it begins after record {}: hold it against the archive whose head is {start}",
                start.position
            ));
        }
        (verifier.finish(None), remarks)
    }
}

/// Copies all input to a temporary file that is deleted when it is closed.
fn kept(reader: &mut dyn io::Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(reader, &mut file)?;
    Ok(file)
}

/// The problem of a line, at the position that the line should have.
fn problem(error: ImportError, next: u64) -> ChainProblem {
    match error {
        ImportError::Schema { position, found } => {
            ChainProblem { position, what: Fault::Schema { found, known: SCHEMA } }
        }
        other => ChainProblem { position: next, what: Fault::Unreadable { reason: other.to_string() } },
    }
}

/// Compares the readable fields of the lines with the bytes.
#[derive(Default)]
struct Beside {
    lines: u64,
    first: Option<(u64, String)>,
}

/// Readable fields that follow from the bytes in every release. Fields with sentences are not compared,
/// because a later release may word them differently.
const COMPARED: [&str; 3] = ["time", "event", "view"];

impl Beside {
    fn compare(&mut self, entry: &Entry, text: &str) {
        let Ok(line) = serde_json::from_str::<Value>(text) else { return };
        if COMPARED.iter().all(|field| line.get(field).is_none()) {
            return;
        }
        let Ok(shown) = serde_json::to_value(Shown::of(entry)) else { return };
        let differs = |field: &&&str| line.get(**field).is_some_and(|said| !said_by(&shown[**field], said));
        if let Some(field) = COMPARED.iter().find(differs) {
            self.lines += 1;
            self.first.get_or_insert((entry.position, (*field).to_owned()));
        }
    }

    fn remarks(&self) -> Vec<String> {
        let said = self.first.iter().map(|(position, field)| {
            let lines = if self.lines == 1 { "1 line".to_owned() } else { format!("{} lines", self.lines) };
            format!(
                "{field} of record {position} says something else than its bytes ({lines}): believe the bytes"
            )
        });
        said.collect()
    }
}

/// Whether the bytes contain every value of the line. A later release may decode more fields from the bytes.
fn said_by(bytes: &Value, line: &Value) -> bool {
    match (bytes, line) {
        (Value::Object(bytes), Value::Object(line)) => {
            line.iter().all(|(key, said)| bytes.get(key).is_some_and(|shown| said_by(shown, said)))
        }
        (bytes, line) => bytes == line,
    }
}
