//! `journal archive`: moves the segments of the live journal to immutable archive files. Records of runs that
//! have not ended, and receipts of storage that is not known to be freed, are copied.
//!
//! The daemon archives by itself once a segment is full or old. This command is for a journal that no daemon
//! has open. The command locks the journal while it runs, and raises the epoch as every open does. If the
//! process is killed, the next open completes the archiving.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{DirectoryArgs, problems};
use crate::cli::common::show;
use crate::cli::output::{self, exit, talk};
use crate::domain::problem::Problem;
use crate::domain::text::count;
use crate::journal::archive::{Archived, COPIED_PERCENT, Checkpoint, Policy, Stays};
use crate::journal::{Journal, JournalError, Options};
use crate::records::journal_options;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) directory: DirectoryArgs,

    /// Also archive segments of which a quarter or more is still needed: it is copied to the end of the log
    #[arg(long)]
    all: bool,

    /// Write the archives to this directory instead of `archive` in the journal's
    #[arg(long, value_name = "DIR")]
    archive_dir: Option<PathBuf>,
}

/// The output of the command.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    archives: Vec<ShownArchive>,
    /// Records that were copied, because they are still needed.
    copied: u64,
    /// The segments that stay, because too much of them is still needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    stays: Option<ShownSegment>,
    /// Records that remain in the live journal.
    live: u64,
}

#[derive(Debug, Serialize)]
struct ShownSegment {
    first: u64,
    last: u64,
    /// Size in bytes.
    bytes: u64,
    /// Size of what is still needed, in bytes.
    needed: u64,
}

#[derive(Debug, Serialize)]
struct ShownArchive {
    name: String,
    first: u64,
    last: u64,
    streams: u64,
    bytes: u64,
    blake3: String,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let dir = &args.directory.journal;
    let unreadable = |error: JournalError| problems::unreadable(dir, &error);
    if !dir.join("sled").exists() && !dir.join("log").exists() {
        return Err(unreadable(JournalError::Missing { dir: dir.clone() }));
    }
    // Commands already run on a runtime. A second runtime can neither block nor be dropped on the same
    // thread.
    let done = std::thread::scope(|scope| scope.spawn(|| archived(dir, args)).join());
    let (archived, live) = done
        .unwrap_or_else(|_| Err(JournalError::Stopped { reason: "archiving ended in a panic".to_owned() }))
        .map_err(unreadable)?;
    show(args.directory.format(), &shown(&archived, live), text)?;
    Ok(exit::DONE)
}

/// Archives, and returns the result and the number of records that remain in the live journal.
fn archived(dir: &Path, args: &Args) -> Result<(Archived, u64), JournalError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|source| JournalError::Io {
        what: "start a runtime for",
        path: dir.into(),
        source,
    })?;
    let (journal, opened) =
        Journal::open_thread(dir, Options { archive_dir: args.archive_dir.clone(), ..journal_options() })?;
    opened.repairs.iter().for_each(|repair| talk(&format!("note: {repair}")));
    let everything = Policy::everything();
    let copied_percent = if args.all { u64::MAX } else { everything.copied_percent };
    let policy = Policy { copied_percent, ..everything };
    let archived = runtime.block_on(journal.archive(policy, now_ns()))?;
    let first = runtime.block_on(journal.entries(1, 1))?.first().map(|first| first.position);
    Ok((archived, first.map_or(0, |first| journal.head().position + 1 - first)))
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn shown(archived: &Archived, live: u64) -> Shown {
    let archive = |checkpoint: &Checkpoint| ShownArchive {
        name: checkpoint.name(),
        first: checkpoint.first,
        last: checkpoint.last.position,
        streams: checkpoint.streams,
        bytes: checkpoint.bytes,
        blake3: checkpoint.file.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let stays = archived.stays.map(|Stays { first, last, bytes, needed }| ShownSegment {
        first,
        last,
        bytes,
        needed,
    });
    let archives = archived.archives.iter().map(archive).collect();
    Shown { archives, copied: archived.copied, stays, live }
}

fn text(shown: &Shown) -> String {
    let mut text = match shown.archives.as_slice() {
        [] => "nothing to archive\n".to_owned(),
        archives => output::table(
            &["archive", "records", "streams", "bytes"],
            archives.iter().map(|archive| {
                let records = format!("{} to {}", archive.first, archive.last);
                vec![archive.name.clone(), records, archive.streams.to_string(), archive.bytes.to_string()]
            }),
        ),
    };
    if shown.copied > 0 {
        text.push_str(&format!("{} copied: they are still needed\n", count(shown.copied, "record")));
    }
    if let Some(ShownSegment { first, last, bytes, needed }) = shown.stays {
        text.push_str(&format!(
            "records {first} to {last} stay in the live journal: {needed} of {bytes} bytes are still needed, and \
             segments leave only below {COPIED_PERCENT} %; --all archives it all the same\n"
        ));
    }
    text + &format!("left in the live journal: {}\n", count(shown.live, "record"))
}
