//! Reading a journal without holding it.
//!
//! sled has no read-only open: it takes an exclusive lock and writes. So what is read is a private
//! copy, which is gone when the [`Snapshot`] is dropped; the journal itself is not written to. While
//! a daemon has the journal open it cannot be copied whole, and the snapshot is refused.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use tempfile::TempDir;

use super::chain::{ChainProblem, Fault, open_at};
use super::error::JournalError;
use super::open::{database, named, read_meta};
use super::owner::Owner;
use super::record::{Entry, Head};
use super::scan::{Damage, scan};
use super::sled_store::SledStore;
use super::store::{Meta, Store, StoreError};

/// A private copy of a journal.
pub struct Snapshot {
    store: SledStore,
    meta: Meta,
    owner: Option<Owner>,
    // Dropped last: the store writes to it until then.
    _copy: TempDir,
}

/// What a journal looks like as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every record is there and unchanged, up to the head.
    Intact,
    /// Everything is right up to an end that is not the head's.
    TornTail,
    /// It ends before a head that was published.
    CutTail,
    /// A record, a link or the index is wrong.
    Corrupt,
    /// A newer Stillpoint wrote it; see [`JournalError::verdict`].
    NewerSchema,
    /// A living process holds it; see [`JournalError::verdict`].
    Locked,
}

/// The result of looking at every record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// What the journal looks like.
    pub verdict: Verdict,
    /// How many records held.
    pub records: u64,
    /// The last record that held.
    pub head: Head,
    /// The first problem.
    pub problem: Option<ChainProblem>,
}

impl Snapshot {
    /// Copies the journal in `dir` and opens the copy.
    ///
    /// # Errors
    /// There is no journal, a living process holds it, it comes from a newer Stillpoint, or the copy
    /// cannot be made or opened.
    pub fn open(dir: &Path) -> Result<Snapshot, JournalError> {
        let copy = tempfile::tempdir().map_err(JournalError::io("create", &std::env::temp_dir()))?;
        let lock = lock(dir)?;
        let owner = Owner::read(dir)?;
        copy_files(&database(dir), copy.path()).map_err(JournalError::io("copy", dir))?;
        drop(lock);
        let store = named(dir, SledStore::open(copy.path()))?;
        let meta = read_meta(&store)?;
        Ok(Snapshot { store, meta, owner, _copy: copy })
    }

    /// The journal's account of itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Every stored envelope with the position it is stored at, in order.
    pub fn raw(&self) -> impl Iterator<Item = Result<(u64, Vec<u8>), StoreError>> {
        self.store.records(0)
    }

    /// Every entry in order. Damage is yielded with its position, and the walk goes on where it can.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, ChainProblem>> {
        let mut position = self.meta.cut.position;
        self.raw().map(move |raw| match raw {
            Ok((at, bytes)) => {
                position = at;
                open_at(at, &bytes)
            }
            Err(error) => {
                let what = Fault::Unreadable { reason: error.to_string() };
                Err(ChainProblem { position: position.saturating_add(1), what })
            }
        })
    }

    /// Looks at every record, and compares with a head that was published elsewhere.
    pub fn verify(&self, expected: Option<&Head>) -> Verification {
        let found = verify(&self.store, &self.meta, expected);
        match &self.owner {
            Some(owner) if found.verdict == Verdict::Intact && owner.epoch > self.meta.epoch => {
                let what = Fault::LostEpoch { found: self.meta.epoch, claimed: owner.epoch };
                let problem = Some(ChainProblem { position: found.head.position.saturating_add(1), what });
                Verification { verdict: Verdict::CutTail, problem, ..found }
            }
            _ => found,
        }
    }
}

/// Takes the lock that a daemon would hold, shared, so that the files stand still while they are copied.
fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = SledStore::lock_file(&database(dir));
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent(dir)),
        other => other.map_err(JournalError::io("open", &path))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(JournalError::Held { dir: dir.to_owned(), owner: Owner::read(dir).ok().flatten() })
        }
        Err(TryLockError::Error(error)) => Err(JournalError::io("lock", &path)(error)),
    }
}

fn absent(dir: &Path) -> JournalError {
    match Owner::read(dir) {
        Ok(Some(Owner { epoch, .. })) => JournalError::Lost { dir: dir.to_owned(), epoch },
        _ => JournalError::Missing { dir: dir.to_owned() },
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn verify(store: &dyn Store, meta: &Meta, expected: Option<&Head>) -> Verification {
    let (verdict, verified, problem) = match scan(store, meta, |_| ()) {
        Ok(verified) => (Verdict::Intact, verified, None),
        Err(Damage { torn: true, problem, verified }) => (Verdict::TornTail, verified, Some(problem)),
        Err(Damage { torn: false, problem, verified }) => (Verdict::Corrupt, verified, Some(problem)),
    };
    let (verdict, problem) = match expected {
        // A published head weighs more than a torn tail, and tells nothing new about damage.
        Some(expected) if verdict != Verdict::Corrupt => compare(store, meta.cut, verified.head, expected)
            .map_or((verdict, problem), |(verdict, what)| {
                (verdict, Some(ChainProblem { position: expected.position, what }))
            }),
        _ => (verdict, problem),
    };
    Verification { verdict, records: verified.records, head: verified.head, problem }
}

fn compare(store: &dyn Store, cut: Head, head: Head, expected: &Head) -> Option<(Verdict, Fault)> {
    if expected.position > head.position {
        return Some((Verdict::CutTail, Fault::Cut { expected: expected.position }));
    }
    if expected.position < cut.position {
        return Some((Verdict::Corrupt, Fault::Archived));
    }
    let hash = if expected.position == cut.position {
        Some(cut.hash)
    } else {
        let bytes = store.record(expected.position).ok().flatten();
        bytes.and_then(|bytes| open_at(expected.position, &bytes).ok()).map(|entry| entry.hash)
    };
    (hash != Some(expected.hash)).then_some((Verdict::Corrupt, Fault::OtherHistory))
}
