//! Gives a whole log segment its second name, and writes the index of the streams that ended in it.
//!
//! Both files are on disk before a checkpoint names them. If sealing was interrupted, a repetition leaves
//! the same files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use uuid::Uuid;

use super::super::envelope;
use super::super::error::JournalError;
use super::super::fault_injection::{Call, FaultHook};
use super::super::log;
use super::super::record::{Entry, Head, Record};
use super::super::store::{StreamHead, StreamState};
use super::carry;
use super::index::{Gathering, Index};
use super::leaving::{Leaving, Remains, each};
use super::{CarrySummary, Checkpoint, Places, Range, hash, list};

impl Leaving {
    /// The positions of the records in it.
    pub fn range(&self) -> Range {
        Range { first: self.after.position + 1, last: self.last.position }
    }

    /// Writes the archive and its index. Blocks.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn seal(&self, places: &Places, faults: &FaultHook) -> Result<(), JournalError> {
        let range = self.range();
        let write = || {
            for dir in [&places.archives, &places.indexes] {
                fs::create_dir_all(dir)?;
                log::sync_parent(dir)?;
            }
            name(&self.path, &places.archives, &range.file("seg"))?;
            replace(&places.indexes, &range.file("ids"), &self.index.encode())
        };
        let written = faults.run(Call::ArchiveWrite, |error| error, write);
        written.map_err(JournalError::io("write an archive in", &places.archives))
    }

    /// The checkpoint of the archive. `indexes` is that field of the checkpoint before it, `from` the position
    /// that the first record of `remains` will have.
    pub fn checkpoint(&self, indexes: [u8; 32], remains: &Remains, from: u64) -> Checkpoint {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&indexes).update(&hash(&self.index.encode()));
        let carry = match carry::summary(&remains.records) {
            (0, _) => CarrySummary::default(),
            (copies, hash) => CarrySummary { copies, hash, from },
        };
        Checkpoint {
            first: self.range().first,
            last: self.last,
            file: hash(&self.bytes),
            bytes: self.bytes.len() as u64,
            streams: self.index.len() as u64,
            indexes: *hasher.finalize().as_bytes(),
            carry,
            file_of_copies: None,
        }
    }
}

/// The heads of the streams of `copies`, of which an earlier release had a file. `later` has the state, the sequence and
/// the position of the last record of a stream in the log. Streams that have ended since, and that are not needed, are
/// left out.
pub(crate) fn heads(
    copies: &mut BTreeMap<Uuid, (StreamState, Vec<Entry>)>,
    later: &BTreeMap<Uuid, (StreamState, u64, u64)>,
) -> Vec<StreamHead> {
    copies.retain(|stream, (state, entries)| {
        let has_ended = later.get(stream).is_some_and(|(later, ..)| *later == StreamState::Finished);
        let is_over = has_ended && *state == StreamState::Open;
        !entries.is_empty() && !is_over
    });
    let head = |(stream, (state, entries)): (&Uuid, &(StreamState, Vec<Entry>))| {
        let (first, last) = (entries.first()?, entries.last()?);
        let own = (*state, last.seq, last.position);
        let (state, last_seq, last_position) =
            later.get(stream).copied().filter(|(.., position)| *position > last.position).unwrap_or(own);
        let first_position = first.position;
        Some(StreamHead { stream: *stream, state, last_seq, first_position, last_position })
    };
    copies.iter().filter_map(head).collect()
}

/// The records that copy `copies`, and the checkpoint behind them. It replaces `newest`. `from` is the position of the
/// first of them.
pub(crate) fn copied_again(
    newest: &Checkpoint,
    copies: BTreeMap<Uuid, (StreamState, Vec<Entry>)>,
    heads: &[StreamHead],
    from: u64,
    time_ns: i64,
) -> Vec<Record> {
    let mut records = Vec::new();
    for (head, (_, entries)) in heads.iter().zip(copies.values()) {
        let envelopes: Vec<Vec<u8>> = entries.iter().map(envelope::of).collect();
        let envelopes: Vec<&[u8]> = envelopes.iter().map(Vec::as_slice).collect();
        records.extend(carry::records(head, &envelopes, time_ns));
    }
    let (copies, hash) = carry::summary(&records);
    let from = if copies == 0 { 0 } else { from };
    let carry = if copies == 0 { CarrySummary::default() } else { CarrySummary { copies, hash, from } };
    records.push(Checkpoint { carry, file_of_copies: None, ..*newest }.record(time_ns));
    records
}

/// The index of an archive's bytes, read as by [`each`].
pub(super) fn index_of(bytes: &[u8], after: Head, last: Head) -> Result<Index, JournalError> {
    let mut gathering = Gathering::default();
    each(bytes, after, last, &mut |state, entry, _| gathering.admit(state, entry))?;
    Ok(gathering.index())
}

/// Creates a second name for the same file, or a copy if the file system refuses the link.
fn name(segment: &Path, dir: &Path, name: &str) -> io::Result<()> {
    let (path, draft) = (dir.join(name), dir.join(format!("{name}.tmp")));
    remove(&draft)?;
    if fs::hard_link(segment, &draft).is_err() {
        fs::copy(segment, &draft)?;
    }
    File::open(&draft)?.sync_all()?;
    // A rename between two names of the same file leaves both names.
    remove(&path)?;
    fs::rename(&draft, &path)?;
    File::open(dir)?.sync_all()
}

/// Writes a small file atomically.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (path, draft) = (dir.join(name), dir.join(format!("{name}.tmp")));
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    File::open(dir)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes the files behind the last archive. They were sealed, but no checkpoint names them. All their records
/// are in the log, which ends at `head`.
pub(crate) fn clear(
    places: &Places,
    truncated_at: u64,
    head: u64,
    faults: &FaultHook,
) -> Result<(), JournalError> {
    let clear = || {
        for (dir, extension) in [(&places.archives, "seg"), (&places.indexes, "ids")] {
            for range in list(dir, extension)? {
                if range.last > truncated_at && range.last <= head {
                    fs::remove_file(dir.join(range.file(extension)))?;
                }
            }
        }
        Ok(())
    };
    faults.run(Call::ArchiveClear, |error| error, clear).map_err(JournalError::io("clear", &places.archives))
}
