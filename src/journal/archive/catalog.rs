//! Lists the archives of an open journal: which streams ended in which archive, and the carry-over.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use uuid::Uuid;

use super::super::error::JournalError;
use super::super::log;
use super::super::record::{Entry, Head, Links};
use super::super::repair::Repair;
use super::carry_over::CarryOver;
use super::carry_over_file::CarryOverFile;
use super::index::Index;
use super::seal::{Prior, each, index_of, replace};
use super::{Checkpoint, Range, directory, hash, list};

pub(crate) struct Catalog {
    dir: PathBuf,
    links: Links,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    archives: Vec<(Range, Index)>,
    /// The index hash of the newest checkpoint.
    indexes: [u8; 32],
    carry_over: Arc<CarryOverFile>,
}

impl Catalog {
    /// Reads every index up to the newest checkpoint, and the locations in the carry-over file. Also
    /// returns the files that were rebuilt from archives.
    ///
    /// # Errors
    /// An index or the carry-over file is missing or is not the recorded one, and the archives to rebuild
    /// it from are missing.
    pub fn load(
        journal: &Path,
        newest: Option<&Checkpoint>,
        links: Links,
    ) -> Result<(Catalog, Vec<Repair>), JournalError> {
        let dir = directory(journal);
        let catalog = |state| Catalog { dir: dir.clone(), links, state: RwLock::new(state) };
        let Some(newest) = newest else { return Ok((catalog(State::default()), vec![])) };
        let (mut state, mut rebuilt, mut next) = (State::default(), Vec::new(), 1);
        let read = |extension| list(&dir, extension).map_err(JournalError::io("read", &dir));
        // The name of an archive shows that the archive exists, even if its index is lost.
        let mut ranges = [read("ids")?, read("seg")?].concat();
        ranges.sort_unstable();
        ranges.dedup();
        while next <= newest.last.position {
            let lost = |what| JournalError::IndexLost { dir: dir.clone(), first: next, what };
            let of = |range: &&Range| range.first == next && range.last <= newest.last.position;
            let Some(range) = ranges.iter().find(of).copied() else {
                return Err(lost("there is neither an index nor an archive that begins with it"));
            };
            let (index, bytes, made) = index(&dir, range).map_err(lost)?;
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
        let mut repairs: Vec<_> =
            rebuilt.into_iter().map(|name| Repair::ArchiveIndexRebuilt { name }).collect();
        state.carry_over = Arc::new(match CarryOverFile::load(&dir, newest) {
            Ok(carry_over) => carry_over,
            Err(what) => {
                let ranges: Vec<Range> = state.archives.iter().map(|(range, _)| *range).collect();
                rebuild_carry_over(&dir, &ranges, newest, what, links)?;
                repairs.extend(newest.carried_name().map(|name| Repair::CarryOverRebuilt { name }));
                CarryOverFile::load(&dir, newest).map_err(|what| lost(&dir, newest, what, None))?
            }
        });
        Ok((catalog(state), repairs))
    }

    /// The state that the next archiving starts from. Reads the carry-over file. Blocks.
    ///
    /// # Errors
    /// The carry-over file cannot be read.
    pub fn prior(&self) -> Result<Prior, JournalError> {
        let (indexes, carry_over) = self.read(|state| (state.indexes, state.carry_over.clone()));
        let carried =
            carry_over.carried(self.links).map_err(JournalError::io("read the carry-over in", &self.dir))?;
        Ok(Prior { indexes, carried, links: self.links })
    }

    pub fn carry_over(&self) -> Arc<CarryOverFile> {
        self.read(|state| state.carry_over.clone())
    }

    /// Adds the archives of checkpoints that are on disk.
    pub fn admit(&self, checkpoints: &[Checkpoint]) -> Result<(), JournalError> {
        for checkpoint in checkpoints {
            let range = checkpoint.range();
            let read = index(&self.dir, range);
            let (index, bytes, _) = read.map_err(|what| JournalError::IndexLost {
                dir: self.dir.clone(),
                first: range.first,
                what,
            })?;
            self.state.write().unwrap_or_else(PoisonError::into_inner).admit(range, index, &bytes);
        }
        if let Some(newest) = checkpoints.last() {
            let carry_over =
                CarryOverFile::load(&self.dir, newest).map_err(|what| lost(&self.dir, newest, what, None))?;
            self.state.write().unwrap_or_else(PoisonError::into_inner).carry_over = Arc::new(carry_over);
        }
        Ok(())
    }

    /// Reads the archives behind `truncated_at` and checks that they continue it. Returns the head at their
    /// end, or `None` if there are no archives.
    ///
    /// # Errors
    /// An archive is missing, or it is not the recorded one.
    pub fn check(&self, truncated_at: Head) -> Result<Option<Head>, JournalError> {
        let behind = |state: &State| -> Vec<Range> {
            state
                .archives
                .iter()
                .map(|(range, _)| *range)
                .filter(|range| range.last > truncated_at.position)
                .collect()
        };
        let mut end = None;
        for range in self.read(behind) {
            let path = self.dir.join(range.file("seg"));
            let missing =
                || JournalError::ArchiveMissing { path: path.clone(), first: range.first, last: range.last };
            let bytes = fs::read(&path).map_err(|_| missing())?;
            let (start, last) = log::ends(&bytes).ok_or_else(missing)?;
            // The index may have dropped a part of the first archive already.
            let follows = end.map_or(start.position <= truncated_at.position, |end| end == start);
            if !follows || last.position != range.last {
                return Err(missing());
            }
            end = Some(last);
        }
        Ok(end)
    }

    /// Whether the stream ended in an archive.
    pub fn contains(&self, stream: Uuid) -> bool {
        self.read(|state| state.archives.iter().rev().any(|(_, index)| index.contains(stream)))
    }

    /// Whether the stream has records that the index no longer has.
    pub fn knows(&self, stream: Uuid) -> bool {
        self.carry_over().contains(stream) || self.contains(stream)
    }

    /// Archived entries of a stream, with sequences below `before`. Reads them from the carry-over, or else
    /// from whole archives. Blocks.
    ///
    /// # Errors
    /// [`JournalError::ArchiveMissing`] if a needed archive is missing.
    pub fn entries(&self, stream: Uuid, before: u64) -> Result<Vec<Entry>, JournalError> {
        let carried = self.carry_over().entries(stream);
        let mut carried = carried.map_err(JournalError::io("read the carry-over in", &self.dir))?;
        carried.retain(|entry| entry.seq < before);
        match carried.first() {
            Some(first) if first.seq == 1 => Ok(carried),
            _ => self.archived(stream, before),
        }
    }

    fn archived(&self, stream: Uuid, before: u64) -> Result<Vec<Entry>, JournalError> {
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
        let path = self.dir.join(range.file("seg"));
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

fn lost(dir: &Path, newest: &Checkpoint, what: &'static str, missing: Option<String>) -> JournalError {
    let name = newest.carried_name().unwrap_or_default();
    let (runs, last) = (newest.runs, newest.last.position);
    JournalError::CarryOverLost { path: dir.join(name), runs, last, what, missing }
}

/// Rebuilds the carry-over from all archives.
fn rebuild_carry_over(
    dir: &Path,
    ranges: &[Range],
    newest: &Checkpoint,
    what: &'static str,
    links: Links,
) -> Result<(), JournalError> {
    let mut carried = CarryOver::default();
    for range in ranges {
        let name = range.file("seg");
        let lost = || lost(dir, newest, what, Some(name.clone()));
        let bytes = fs::read(dir.join(&name)).map_err(|_| lost())?;
        let (start, end) = log::ends(&bytes).ok_or_else(lost)?;
        each(&bytes, start, end, &mut |state, entry, envelope| carried.admit(links, state, entry, envelope))?;
        carried.drop_finished();
    }
    let bytes = carried.encode().filter(|bytes| hash(bytes) == newest.carried);
    let bytes = bytes.ok_or_else(|| lost(dir, newest, "the archives do not say what it said", None))?;
    let name = newest.carried_name().unwrap_or_default();
    replace(dir, &name, &bytes).map_err(JournalError::io("write the carry-over in", dir))
}

/// Reads the index of an archive. Returns the index, its bytes, and whether it was rebuilt from the
/// archive.
fn index(dir: &Path, range: Range) -> Result<(Index, Vec<u8>, bool), &'static str> {
    let stored = fs::read(dir.join(range.file("ids"))).ok();
    if let Some(index) = stored.as_deref().and_then(Index::decode) {
        return Ok((index, stored.unwrap_or_default(), false));
    }
    let lost = "its index is missing or damaged, and so is its archive";
    let bytes = fs::read(dir.join(range.file("seg"))).map_err(|_| lost)?;
    let (start, end) = log::ends(&bytes).ok_or(lost)?;
    let index = index_of(&bytes, start, end).map_err(|_| lost)?;
    let bytes = index.encode();
    Ok((index, bytes, true))
}
