//! Reads the carry-over file for an open journal and for readers.
//!
//! The location of each stream in the file is in memory. The records of a stream are read on demand.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use uuid::Uuid;

use super::super::envelope;
use super::super::error::JournalError;
use super::super::fault_injection::{Call, FaultHook};
use super::super::record::{Entry, Links};
use super::super::store::{StreamHead, StreamState};
use super::carry_over::{CarryOver, Place, envelopes, places};
use super::seal::replace;
use super::{Checkpoint, Range, directory, hash};

const EXTENSION: &str = "carried";

/// The reason if the file is missing.
const MISSING: &str = "it is missing";
const OTHER: &str = "it is not the file that its checkpoint names";

/// The carry-over up to one checkpoint.
#[derive(Debug, Default)]
pub(crate) struct CarryOverFile {
    /// `None` if there is no carry-over.
    file: Option<File>,
    places: BTreeMap<Uuid, Place>,
}

impl Checkpoint {
    /// Name of the carry-over file that belongs to this archive. `None` if there is no carry-over.
    pub fn carried_name(&self) -> Option<String> {
        (self.runs > 0).then(|| self.range().file(EXTENSION))
    }
}

impl CarryOverFile {
    /// Reads the file that `checkpoint` names, in an archive directory.
    ///
    /// # Errors
    /// The reason why the file cannot be used.
    pub fn load(dir: &Path, checkpoint: &Checkpoint) -> Result<CarryOverFile, &'static str> {
        let Some(name) = checkpoint.carried_name() else { return Ok(CarryOverFile::default()) };
        let bytes = fs::read(dir.join(&name)).map_err(|_| MISSING)?;
        if hash(&bytes) != checkpoint.carried {
            return Err(OTHER);
        }
        let file = File::open(dir.join(name)).map_err(|_| MISSING)?;
        let places = places(&bytes).filter(|places| places.len() as u64 == checkpoint.runs).ok_or(OTHER)?;
        let places = places.into_iter().map(|place| (place.stream, place)).collect();
        Ok(CarryOverFile { file: Some(file), places })
    }

    /// Whether the carry-over has records of the stream.
    pub fn contains(&self, stream: Uuid) -> bool {
        self.places.contains_key(&stream)
    }

    /// The unfinished streams.
    pub fn open(&self) -> impl Iterator<Item = Uuid> {
        self.places.values().filter(|place| place.state == StreamState::Open).map(|place| place.stream)
    }

    /// The entries of a stream in the carry-over. Empty if the stream is not in it.
    ///
    /// # Errors
    /// The file cannot be read, or it was changed since it was opened.
    pub fn entries(&self, stream: Uuid) -> io::Result<Vec<Entry>> {
        let (Some(file), Some(place)) = (&self.file, self.places.get(&stream)) else { return Ok(vec![]) };
        let mut bytes = vec![0; place.at.len()];
        file.read_exact_at(&mut bytes, place.at.start as u64)?;
        let changed = || io::Error::other("the carry-over was changed");
        let open = |envelope| {
            envelope::open(envelope).ok().filter(|entry| entry.stream == stream).ok_or_else(changed)
        };
        envelopes(&bytes).ok_or_else(changed)?.into_iter().map(open).collect()
    }

    /// Every entry of the carry-over up to record `through`, in the order of the journal.
    ///
    /// # Errors
    /// As [`entries`](CarryOverFile::entries).
    pub fn through(&self, through: u64) -> io::Result<Vec<Entry>> {
        let mut all = Vec::new();
        for stream in self.places.keys() {
            all.extend(self.entries(*stream)?.into_iter().filter(|entry| entry.position <= through));
        }
        all.sort_unstable_by_key(|entry| entry.position);
        Ok(all)
    }

    /// The heads of the unfinished streams as of record `through`, as an index stores them.
    ///
    /// # Errors
    /// As [`entries`](CarryOverFile::entries).
    pub fn heads(&self, through: u64) -> io::Result<Vec<StreamHead>> {
        let mut heads = Vec::new();
        for stream in self.open() {
            let mut entries = self.entries(stream)?;
            entries.retain(|entry| entry.position <= through);
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { continue };
            let (first_position, last_position, last_seq) = (first.position, last.position, last.seq);
            heads.push(StreamHead {
                stream,
                state: StreamState::Open,
                last_seq,
                first_position,
                last_position,
            });
        }
        Ok(heads)
    }

    /// The whole carry-over, as the base of the next one.
    ///
    /// # Errors
    /// As [`entries`](CarryOverFile::entries).
    pub fn carried(&self, links: Links) -> io::Result<CarryOver> {
        let Some(file) = &self.file else { return Ok(CarryOver::default()) };
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        CarryOver::decode(&bytes, links).ok_or_else(|| io::Error::other("the carry-over was changed"))
    }
}

/// Writes and syncs the file that `checkpoint` will name, if there is a carry-over.
pub(crate) fn write(
    journal: &Path,
    checkpoint: &Checkpoint,
    carried: &CarryOver,
    faults: &FaultHook,
) -> Result<(), JournalError> {
    let (Some(name), Some(bytes)) = (checkpoint.carried_name(), carried.encode()) else { return Ok(()) };
    let dir = directory(journal);
    let written = faults.run(Call::CarryOverWrite, |error| error, || replace(&dir, &name, &bytes));
    written.map_err(JournalError::io("write the carry-over in", &dir))
}

/// Gives the copy of a journal its archive directory. Small files that may be replaced are copied. Archives
/// are linked.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn copy(journal: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (directory(journal), directory(to));
    for extension in [EXTENSION, "ids", "seg"] {
        for range in super::list(&from, extension)? {
            let name = range.file(extension);
            fs::create_dir_all(&to)?;
            match extension {
                "seg" => symlink(from.canonicalize()?.join(&name), to.join(&name))?,
                _ => drop(fs::copy(from.join(&name), to.join(&name))?),
            }
        }
    }
    Ok(())
}

/// Removes each carry-over file that ends at another record than `truncated_at`, unless it ends behind `head`.
pub(super) fn clear(dir: &Path, truncated_at: u64, head: u64) -> io::Result<()> {
    for range in super::list(dir, EXTENSION)? {
        if range.last != truncated_at && range.last <= head {
            remove(dir, range)?;
        }
    }
    Ok(())
}

fn remove(dir: &Path, range: Range) -> io::Result<()> {
    fs::remove_file(dir.join(range.file(EXTENSION)))
}
