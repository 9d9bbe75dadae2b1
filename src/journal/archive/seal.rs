//! Giving a whole segment of evidence its second name, and writing down which streams ended in it.
//!
//! Both are on disk before a checkpoint names them. Done again after it was cut short it leaves the same files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::super::chain::{ChainProblem, Fault};
use super::super::error::JournalError;
use super::super::evidence::{self, Segment};
use super::super::find::evidence_dir;
use super::super::probe::{Call, Probed};
use super::super::record::Head;
use super::index::{Gathering, Index};
use super::{Checkpoint, Range, directory, hash, list};

/// Seals every whole segment that ends behind `cut` and not behind `limit`; answers the checkpoints to append, in their
/// order. `indexes` is that field of the checkpoint before them.
///
/// It reads each segment once, and blocks meanwhile.
pub(in crate::journal) fn seal(
    journal: &Path,
    cut: Head,
    limit: u64,
    mut indexes: [u8; 32],
    probed: &Probed,
) -> Result<Vec<Checkpoint>, JournalError> {
    let from = evidence_dir(journal);
    let segments = evidence::segments(&from).map_err(JournalError::io("read", &from))?;
    let mut sealed = Vec::new();
    for pair in segments.windows(2) {
        let [Segment { after, path, .. }, Segment { after: last, .. }] = pair else { continue };
        // Archived already, or a segment that only holds claims of epochs.
        if last.position <= cut.position || after.position == last.position {
            continue;
        }
        if last.position > limit {
            break;
        }
        let checkpoint = one(journal, path, *after, *last, indexes, probed)?;
        indexes = checkpoint.indexes;
        sealed.push(checkpoint);
    }
    Ok(sealed)
}

fn one(
    journal: &Path,
    segment: &Path,
    after: Head,
    last: Head,
    indexes: [u8; 32],
    probed: &Probed,
) -> Result<Checkpoint, JournalError> {
    let bytes = fs::read(segment).map_err(JournalError::io("read", segment))?;
    let index = index_of(&bytes, after, last)?;
    let encoded = index.encode();
    let range = Range { first: after.position + 1, last: last.position };
    let dir = directory(journal);
    let write = || {
        fs::create_dir_all(&dir)?;
        evidence::sync_parent(&dir)?;
        name(segment, &dir, &range.file("seg"))?;
        replace(&dir, &range.file("ids"), &encoded)
    };
    let written = probed.run(Call::ArchiveWrite, |error| error, write);
    written.map_err(JournalError::io("write an archive in", &dir))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&indexes).update(&hash(&encoded));
    Ok(Checkpoint {
        first: range.first,
        last,
        file: hash(&bytes),
        bytes: bytes.len() as u64,
        streams: index.len() as u64,
        indexes: *hasher.finalize().as_bytes(),
    })
}

/// The index of an archive's bytes, which have to be whole and to lie between `after` and `last`.
pub(super) fn index_of(bytes: &[u8], after: Head, last: Head) -> Result<Index, JournalError> {
    let mut gathering = Gathering::default();
    let survey = evidence::read_segment(bytes, &mut |admitted| {
        admitted.records.iter().for_each(|(state, entry, _)| gathering.admit(*state, entry));
        Ok(())
    })?;
    let damaged = |source| Err(JournalError::Damaged { torn: false, source });
    match survey.damage {
        Some(damage) => damaged(damage.problem),
        None if survey.torn > 0 || (survey.start, survey.head) != (after, last) => {
            damaged(ChainProblem { position: last.position, what: Fault::EvidenceShort })
        }
        None => Ok(gathering.index()),
    }
}

/// A second name for the same file; where there can be none, a copy.
fn name(segment: &Path, dir: &Path, name: &str) -> io::Result<()> {
    let (path, draft) = (dir.join(name), dir.join(format!("{name}.tmp")));
    remove(&draft)?;
    if fs::hard_link(segment, &draft).is_err() {
        fs::copy(segment, &draft)?;
    }
    File::open(&draft)?.sync_all()?;
    // Renaming one name of a file to another of the same file leaves both.
    remove(&path)?;
    fs::rename(&draft, &path)?;
    File::open(dir)?.sync_all()
}

/// Writes a small file so that a reader sees all of it or none.
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

/// Removes what stands behind the last archive: it was sealed and no checkpoint names it, so that all its records are
/// in the live journal, which ends at `head`.
pub(in crate::journal) fn clear(journal: &Path, cut: u64, head: u64) -> Result<(), JournalError> {
    let dir = directory(journal);
    let clear = || {
        for extension in ["seg", "ids"] {
            for range in list(&dir, extension)? {
                if range.last > cut && range.last <= head {
                    fs::remove_file(dir.join(range.file(extension)))?;
                }
            }
        }
        Ok(())
    };
    clear().map_err(JournalError::io("clear", &dir))
}
