//! `journal export`: every record as one line of JSON, with its exact bytes.
//!
//! A line contains the readable content of the record and everything that goes into the hash, so that the
//! chain can be verified without the store. The output is always JSON lines. `-o json` only affects the
//! format of an error.

use std::path::PathBuf;

use serde::Serialize;

use super::{DirectoryArgs, SourceArgs, problems, read};
use crate::audit::Shown;
use crate::cli::common::print;
use crate::cli::output::exit;
use crate::domain::problem::{About, Code, Problem};
use crate::journal::Entry;
use crate::journal::export::ExportedRecord;

/// Number of bytes that are buffered before a write.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) directory: DirectoryArgs,
    /// Directory that archives were moved to. Archives in the journal directory are found without this flag
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
}

/// One line: the readable record, and the other fields that the hash covers.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    shown: Shown,
    codec: u8,
    schema: u16,
    payload: String,
}

/// Writes the valid records. If the journal is damaged, or a daemon would refuse it, the export then ends
/// with a problem.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let dir = &args.directory.journal;
    let source =
        read::open(&SourceArgs { journal: dir.clone(), archive: args.archive.clone(), export: None })?;
    let mut text = String::new();
    for entry in source.entries() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(problem) => {
                print(&text)?;
                return Err(problems::damaged(dir, &problem));
            }
        };
        text.push_str(&line(&entry)?);
        if text.len() > CHUNK_BYTES {
            print(&std::mem::take(&mut text))?;
        }
    }
    print(&text)?;
    source.refusal(dir).map_or(Ok(exit::DONE), Err)
}

fn line(entry: &Entry) -> Result<String, Problem> {
    let ExportedRecord { codec, schema, payload, .. } = ExportedRecord::from(entry);
    let line = Line { shown: Shown::of(entry), codec, schema, payload };
    let text = serde_json::to_string(&line).map_err(|error| {
        let reason = format!("write record {}: {error}", entry.position);
        Problem::new(Code::Internal, About::default(), reason, "report this defect")
    })?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::super::testing::fixture;
    use super::*;
    use crate::journal::chain::check;
    use crate::journal::export::import;

    #[test]
    fn exported_records_verify_without_store() {
        let entries = fixture();
        let text: String = entries.iter().map(|entry| line(entry).expect("plain data")).collect();
        assert_eq!(text.lines().count(), entries.len());
        let back = import(&text).expect("exported lines");
        assert_eq!(back, entries);
        assert_eq!(check(back).expect("intact").head, entries[entries.len() - 1].head());
    }

    #[test]
    fn exported_line_has_fields_of_record() {
        let entries = fixture();
        let line: serde_json::Value =
            serde_json::from_str(&line(&entries[2]).expect("plain data")).expect("an object");
        assert_eq!(line["kindName"], "intend");
        assert_eq!(line["event"]["Intended"]["step"], "create");
        assert_eq!((line["codec"].as_u64(), line["schema"].as_u64()), (Some(1), Some(1)));
    }
}
