//! Lists the archives of an open journal, and which streams ended in which archive.

use std::fs;
use std::sync::{PoisonError, RwLock};
use uuid::Uuid;

use super::super::error::JournalError;
use super::super::log;
use super::super::record::Entry;
use super::super::repair::Repair;
use super::index::Index;
use super::seal::{index_of, replace};
use super::{Checkpoint, Places, Range, hash, list};

pub(crate) struct Catalog {
    places: Places,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    archives: Vec<(Range, Index)>,
    /// The index hash of the newest checkpoint.
    indexes: [u8; 32],
}

impl Catalog {
    /// Reads every index up to the newest checkpoint. Also returns the files that were rebuilt from archives.
    ///
    /// # Errors
    /// An index is missing or is not the recorded one, and the archive to rebuild it from is missing.
    pub fn load(places: Places, newest: Option<&Checkpoint>) -> Result<(Catalog, Vec<Repair>), JournalError> {
        let dir = places.indexes.clone();
        let catalog = |state| Catalog { places: places.clone(), state: RwLock::new(state) };
        let Some(newest) = newest else { return Ok((catalog(State::default()), vec![])) };
        let (mut state, mut rebuilt, mut next) = (State::default(), Vec::new(), 1);
        let read = |dir, extension| list(dir, extension).map_err(JournalError::io("read", dir));
        // The name of an archive shows that the archive exists, even if its index is lost.
        let mut ranges = [read(&dir, "ids")?, read(&places.archives, "seg")?].concat();
        ranges.sort_unstable();
        ranges.dedup();
        while next <= newest.last.position {
            let lost = |what| JournalError::IndexLost { dir: dir.clone(), first: next, what };
            let of = |range: &&Range| range.first == next && range.last <= newest.last.position;
            let Some(range) = ranges.iter().find(of).copied() else {
                return Err(lost("there is neither an index nor an archive that begins with it"));
            };
            let (index, bytes, made) = index(&places, range).map_err(lost)?;
            rebuilt.extend(made.then(|| range.file("ids")));
            state.admit(range, index, &bytes);
            next = range.last + 1;
        }
        if state.indexes != newest.indexes {
            let what = "the indexes are not those that the newest checkpoint vouches for";
            return Err(JournalError::IndexLost { dir: dir.clone(), first: 1, what });
        }
        for name in &rebuilt {
            let index = state.archives.iter().find(|(range, _)| range.file("ids") == *name);
            let bytes = index.map(|(_, index)| index.encode()).unwrap_or_default();
            replace(&dir, name, &bytes).map_err(JournalError::io("write an index in", &dir))?;
        }
        let repairs = rebuilt.into_iter().map(|name| Repair::ArchiveIndexRebuilt { name }).collect();
        Ok((catalog(state), repairs))
    }

    /// Position of the last archived record; 0 if there are no archives.
    pub fn last(&self) -> u64 {
        self.read(|state| state.archives.last().map_or(0, |(range, _)| range.last))
    }

    /// The `indexes` field of the newest checkpoint.
    pub fn indexes(&self) -> [u8; 32] {
        self.read(|state| state.indexes)
    }

    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Adds the archive of a checkpoint that is on disk.
    ///
    /// # Errors
    /// Its index cannot be read.
    pub fn admit(&self, checkpoint: &Checkpoint) -> Result<(), JournalError> {
        let range = checkpoint.range();
        let (dir, first) = (self.places.indexes.clone(), range.first);
        let read = index(&self.places, range);
        let (index, bytes, _) = read.map_err(|what| JournalError::IndexLost { dir, first, what })?;
        self.state.write().unwrap_or_else(PoisonError::into_inner).admit(range, index, &bytes);
        Ok(())
    }

    /// Whether the stream ended in an archive.
    pub fn contains(&self, stream: Uuid) -> bool {
        self.read(|state| state.archives.iter().rev().any(|(_, index)| index.contains(stream)))
    }

    /// Archived entries of a stream, with sequences below `before`. Reads whole archives. Blocks.
    ///
    /// # Errors
    /// [`JournalError::ArchiveMissing`] if a needed archive is missing.
    pub fn entries(&self, stream: Uuid, before: u64) -> Result<Vec<Entry>, JournalError> {
        let mut ranges: Vec<Range> = self.read(|state| {
            // The stream may have begun before the archive in which it ended. It does not continue in a
            // later one.
            let ended = state.archives.iter().rposition(|(_, index)| index.contains(stream));
            let through = ended.map_or(state.archives.len(), |at| at + 1);
            state.archives[..through].iter().map(|(range, _)| *range).collect()
        });
        let (mut found, mut next) = (Vec::new(), before);
        while next > 1
            && let Some(range) = ranges.pop()
        {
            let mut some = self.some(range, stream)?;
            some.retain(|entry| entry.seq < next);
            next = some.first().map_or(next, |first| first.seq);
            some.extend(std::mem::take(&mut found));
            found = some;
        }
        Ok(found)
    }

    fn some(&self, range: Range, stream: Uuid) -> Result<Vec<Entry>, JournalError> {
        let path = self.places.archives.join(range.file("seg"));
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(JournalError::ArchiveMissing { path, first: range.first, last: range.last });
            }
            other => other.map_err(JournalError::io("read", &path))?,
        };
        let mut found = Vec::new();
        let summary = log::read_segment(&bytes, &mut |admitted| {
            let own = admitted.records.into_iter().map(|(_, entry, _)| entry);
            found.extend(own.filter(|entry| entry.stream == stream));
            Ok(())
        })?;
        match summary.damage {
            Some(damage) => Err(JournalError::Damaged { torn: false, source: damage }),
            None => Ok(found),
        }
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn admit(&mut self, range: Range, index: Index, bytes: &[u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.indexes).update(&hash(bytes));
        self.indexes = *hasher.finalize().as_bytes();
        self.archives.push((range, index));
    }
}

/// Reads the index of an archive. Returns the index, its bytes, and whether it was rebuilt from the
/// archive.
fn index(places: &Places, range: Range) -> Result<(Index, Vec<u8>, bool), &'static str> {
    let stored = fs::read(places.indexes.join(range.file("ids"))).ok();
    if let Some(index) = stored.as_deref().and_then(Index::decode) {
        return Ok((index, stored.unwrap_or_default(), false));
    }
    let lost = "its index is missing or damaged, and so is its archive";
    let bytes = fs::read(places.archives.join(range.file("seg"))).map_err(|_| lost)?;
    let (start, end) = log::ends(&bytes).ok_or(lost)?;
    let index = index_of(&bytes, start, end).map_err(|_| lost)?;
    let bytes = index.encode();
    Ok((index, bytes, true))
}
