//! Gives a whole log segment its second name, and writes the index of the streams that ended in it.
//!
//! Both files are on disk before a checkpoint names them. If sealing was interrupted, a repetition leaves
//! the same files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::super::chain::{ChainProblem, Fault};
use super::super::error::JournalError;
use super::super::fault_injection::{Call, FaultHook};
use super::super::log::{self, Segment};
use super::super::paths;
use super::super::record::{Entry, Head, Links};
use super::super::store::StreamState;
use super::carry_over::CarryOver;
use super::index::{Gathering, Index};
use super::{Checkpoint, Range, carry_over_file, directory, hash, list};

/// Number of segments that are sealed together. Their checkpoints are one append.
const AT_ONCE: usize = 256;

/// The state that an archiving starts from and updates.
#[derive(Debug)]
pub(crate) struct Prior {
    /// The `indexes` field of the last checkpoint.
    pub indexes: [u8; 32],
    /// The carry-over behind the last checkpoint.
    pub carried: CarryOver,
    pub links: Links,
}

impl Prior {
    /// The state for a journal without archives.
    pub fn none(links: Links) -> Self {
        Self { indexes: [0; 32], carried: CarryOver::default(), links }
    }
}

/// Seals the whole segments that end behind `truncated_at` and not behind `limit`, at most 256 of them, the oldest
/// first. Returns the checkpoints to append, in order. Afterwards `prior` holds the carry-over behind the
/// last segment. The caller must write it ([`super::write`]) before it appends the checkpoints.
///
/// Reads each segment once. Blocks.
pub(crate) fn seal(
    journal: &Path,
    truncated_at: Head,
    limit: u64,
    prior: &mut Prior,
    faults: &FaultHook,
) -> Result<Vec<Checkpoint>, JournalError> {
    let from = paths::log(journal);
    let segments = log::segments(&from).map_err(JournalError::io("read", &from))?;
    let mut sealed = Vec::new();
    for pair in segments.windows(2) {
        let [Segment { after, path, .. }, Segment { after: last, .. }] = pair else { continue };
        // The segment is archived already, or it holds only claims of epochs.
        if last.position <= truncated_at.position || after.position == last.position {
            continue;
        }
        if last.position > limit || sealed.len() == AT_ONCE {
            break;
        }
        sealed.push(one(journal, path, *after, *last, prior, faults)?);
    }
    Ok(sealed)
}

fn one(
    journal: &Path,
    segment: &Path,
    after: Head,
    last: Head,
    prior: &mut Prior,
    faults: &FaultHook,
) -> Result<Checkpoint, JournalError> {
    let bytes = fs::read(segment).map_err(JournalError::io("read", segment))?;
    let mut gathering = Gathering::default();
    each(&bytes, after, last, &mut |state, entry, envelope| {
        gathering.admit(state, entry);
        prior.carried.admit(prior.links, state, entry, envelope);
    })?;
    prior.carried.drop_finished();
    let index = gathering.index();
    let encoded = index.encode();
    let range = Range { first: after.position + 1, last: last.position };
    let dir = directory(journal);
    let write = || {
        fs::create_dir_all(&dir)?;
        log::sync_parent(&dir)?;
        name(segment, &dir, &range.file("seg"))?;
        replace(&dir, &range.file("ids"), &encoded)
    };
    let written = faults.run(Call::ArchiveWrite, |error| error, write);
    written.map_err(JournalError::io("write an archive in", &dir))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&prior.indexes).update(&hash(&encoded));
    prior.indexes = *hasher.finalize().as_bytes();
    Ok(Checkpoint {
        first: range.first,
        last,
        file: hash(&bytes),
        bytes: bytes.len() as u64,
        streams: index.len() as u64,
        indexes: prior.indexes,
        runs: prior.carried.len() as u64,
        carried: prior.carried.hash().unwrap_or_default(),
    })
}

/// Passes on every record in the bytes of an archive with the state of its stream after it. The records
/// must be complete and lie between `after` and `last`.
pub(super) fn each(
    bytes: &[u8],
    after: Head,
    last: Head,
    each: &mut dyn FnMut(StreamState, &Entry, &[u8]),
) -> Result<(), JournalError> {
    let summary = log::read_segment(bytes, &mut |admitted| {
        admitted.records.iter().for_each(|(state, entry, envelope)| each(*state, entry, envelope));
        Ok(())
    })?;
    let damaged = |source| Err(JournalError::Damaged { torn: false, source });
    match summary.damage {
        Some(damage) => damaged(damage),
        None if summary.torn.is_some() || (summary.start, summary.head) != (after, last) => {
            damaged(ChainProblem { position: last.position, what: Fault::SegmentShort })
        }
        None => Ok(()),
    }
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

/// Removes the files behind the last archive, and every carry-over that ends at another record than
/// `truncated_at`. The files behind the last archive were sealed, but no checkpoint names them. All their
/// records are in the live journal, which ends at `head`.
pub(crate) fn clear(
    journal: &Path,
    truncated_at: u64,
    head: u64,
    faults: &FaultHook,
) -> Result<(), JournalError> {
    let dir = directory(journal);
    let clear = || {
        for extension in ["seg", "ids"] {
            for range in list(&dir, extension)? {
                if range.last > truncated_at && range.last <= head {
                    fs::remove_file(dir.join(range.file(extension)))?;
                }
            }
        }
        carry_over_file::clear(&dir, truncated_at, head)
    };
    faults.run(Call::ArchiveClear, |error| error, clear).map_err(JournalError::io("clear", &dir))
}
