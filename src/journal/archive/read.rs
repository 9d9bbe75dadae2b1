//! Reads archives as the beginning of a journal.
//!
//! Archives are taken from the end backwards, as long as there is no gap and each follows the one before it
//! by its hash. The bytes of each archive are compared with its checkpoint. A reader gets copies
//! ([`super::carry`]) in place of archives that are missing. So runs that have not ended are complete.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::chain::{ChainProblem, Fault};
use super::super::error::JournalError;
use super::super::log;
use super::super::record::{Entry, Head};
use super::{Carry, Checkpoint, Range, directory, hash, list};

/// The available part of the archived records of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    archives: Vec<(Range, PathBuf)>,
    start: Head,
    end: Head,
}

impl Prefix {
    /// Finds archives that end at `end`, in the directory of the journal and in `elsewhere`.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn find(journal: &Path, elsewhere: Option<&Path>, end: Head) -> Result<Prefix, JournalError> {
        let mut by_last = BTreeMap::new();
        for dir in [Some(directory(journal)), elsewhere.map(Path::to_owned)].into_iter().flatten() {
            for range in list(&dir, "seg").map_err(JournalError::io("read", &dir))? {
                by_last.insert(range.last, (range, dir.join(range.file("seg"))));
            }
        }
        let (mut archives, mut start) = (Vec::new(), end);
        while start.position > 0
            && let Some((range, path)) = by_last.remove(&start.position)
        {
            let after = log::header(&path).map_err(JournalError::io("read", &path))?;
            let Some(after) = after.filter(|after| after.position + 1 == range.first) else { break };
            archives.push((range, path));
            start = after;
        }
        archives.reverse();
        Ok(Prefix { archives, start, end })
    }

    /// The head before the first available record: the genesis if no archive is missing.
    pub fn start(&self) -> Head {
        self.start
    }

    /// The head before the first record behind the archives.
    pub fn end(&self) -> Head {
        self.end
    }

    /// The file names of the archives, in order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.archives.iter().map(|(range, _)| range.file("seg"))
    }

    /// A remark for the reader about missing records. `None` if all records are available.
    pub fn remark(&self) -> Option<String> {
        (self.start.position > 0).then(|| {
            format!(
                "records 1 to {} are in archives that are not here: but for runs that had not ended there, what is shown begins behind them; give their directory with --archive",
                self.start.position
            )
        })
    }

    /// Every archived entry in order. Damage is yielded with its position and ends its archive.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, ChainProblem>> {
        self.archives.iter().flat_map(|(range, path)| {
            let Loaded { entries, problem, .. } = load(*range, path);
            entries.into_iter().map(Ok).chain(problem.map(Err))
        })
    }

    /// Passes on every entry in order until `each` refuses one. Checks that the bytes of each archive are
    /// those that `vouched` will name.
    ///
    /// # Errors
    /// The first problem within an archive.
    pub fn check(
        &self,
        vouched: &mut Vouched,
        mut each: impl FnMut(&mut Vouched, Entry) -> bool,
    ) -> Result<(), ChainProblem> {
        for (range, path) in &self.archives {
            let Loaded { entries, hash, problem } = load(*range, path);
            for entry in entries {
                vouched.entry(&entry);
                if !each(vouched, entry) {
                    return Ok(());
                }
            }
            if let Some(problem) = problem {
                return Err(problem);
            }
            vouched.files.push((*range, hash));
        }
        Ok(())
    }
}

/// The entries that are copied in `live`, the records of a log, and that lie at position `through` or before it.
/// In order of position, each once.
pub fn carried<'a>(live: impl IntoIterator<Item = &'a Entry>, through: u64) -> Vec<Entry> {
    let carries = live.into_iter().filter_map(|entry| Carry::of(&entry.record));
    let copies = carries.flat_map(|carry| carry.entries).filter(|copy| copy.position <= through);
    copies.map(|copy| (copy.position, copy)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Compares the archives that were read with their checkpoints, and the copies of their records with the records.
#[derive(Debug, Default)]
pub struct Vouched {
    files: Vec<(Range, [u8; 32])>,
    checkpoints: BTreeMap<Range, [u8; 32]>,
    /// Hash of the record at each position of a copy, as the copy says, and the position of the copy.
    copies: BTreeMap<u64, ([u8; 32], u64)>,
    differs: Option<ChainProblem>,
}

impl Vouched {
    /// Expects the records that are copied in `live`, the records of a log.
    pub fn expecting<'a>(live: impl IntoIterator<Item = &'a Entry>) -> Vouched {
        let mut vouched = Vouched::default();
        for entry in live {
            let copies = Carry::of(&entry.record).into_iter().flat_map(|carry| carry.entries);
            vouched.copies.extend(copies.map(|copy| (copy.position, (copy.hash, entry.position))));
        }
        vouched
    }

    /// Adds the next entry of the journal.
    pub fn entry(&mut self, entry: &Entry) {
        if let Some((_, copy)) = self.copies.get(&entry.position).filter(|(hash, _)| *hash != entry.hash) {
            let problem = ChainProblem { position: entry.position, what: Fault::Copy { copy: *copy } };
            self.differs.get_or_insert(problem);
        }
        if let Some(checkpoint) = Checkpoint::of(&entry.record) {
            self.checkpoints.insert(checkpoint.range(), checkpoint.file);
        }
    }

    /// Returns, after the last entry, the first archive that no checkpoint names or that has other bytes, or the
    /// first record that differs from its copy.
    pub fn problem(&self) -> Option<ChainProblem> {
        let wrong = |(range, hash): &&(Range, [u8; 32])| self.checkpoints.get(range) != Some(hash);
        let file = self.files.iter().find(wrong).map(|(range, _)| ChainProblem {
            position: range.first,
            what: Fault::ArchiveFile { name: range.file("seg") },
        });
        file.or(self.differs.clone())
    }
}

/// The contents of one archive, up to its first problem.
struct Loaded {
    entries: Vec<Entry>,
    hash: [u8; 32],
    problem: Option<ChainProblem>,
}

fn load(range: Range, path: &Path) -> Loaded {
    let unreadable =
        |reason: String| ChainProblem { position: range.first, what: Fault::Unreadable { reason } };
    let bytes = match fs::read(path) {
        Err(error) => {
            let problem = Some(unreadable(format!("read {}: {error}", path.display())));
            return Loaded { entries: vec![], hash: [0; 32], problem };
        }
        Ok(bytes) => bytes,
    };
    let mut entries = Vec::new();
    let summary = log::read_segment(&bytes, &mut |admitted| {
        entries.extend(admitted.records.into_iter().map(|(_, entry, _)| entry));
        Ok(())
    });
    let problem = match summary {
        Err(error) => Some(unreadable(error.text())),
        Ok(summary) => summary.damage.or_else(|| {
            let short = summary.torn.is_some() || summary.head.position != range.last;
            short.then(|| ChainProblem {
                position: summary.head.position + 1,
                what: Fault::ArchiveFile { name: range.file("seg") },
            })
        }),
    };
    Loaded { entries, hash: hash(&bytes), problem }
}
