//! Reading a journal without holding it.
//!
//! sled has no read-only open: it takes an exclusive lock and writes. So what is read is a private
//! copy, which is gone when the [`Snapshot`] is dropped; the journal itself is not written to. While
//! a daemon has the journal open it cannot be copied whole, and the snapshot is refused.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::TempDir;

use super::archive::{self, Prefix, Vouched};
use super::chain::{ChainProblem, Checker, Fault, Verified, open_at};
use super::error::JournalError;
use super::find::{FoundEvidence, database, evidence_dir, named, survey};
use super::lock::{Lock, taken};
use super::mend;
use super::owner::Owner;
use super::record::{Entry, Head};
use super::recover::read_meta;
use super::scan::{Damage, scan};
use super::sled_store::SledStore;
use super::store::{Meta, Store, StoreError};
use super::verification::{Verdict, Verification};

/// A private copy of a journal.
pub struct Snapshot {
    store: SledStore,
    meta: Meta,
    owner: Option<Owner>,
    archives: Prefix,
    carried: Result<Vec<Entry>, ChainProblem>,
    remarks: Vec<String>,
    /// The evidence is whole and has every record that the database should have.
    evidence_whole: bool,
    // Dropped last: the store writes to it until then.
    copy: TempDir,
}

impl Snapshot {
    /// Copies the journal in `dir` and opens the copy.
    ///
    /// # Errors
    /// There is no journal, a living process holds it, it comes from a newer Stillpoint, or the copy
    /// cannot be made or opened.
    pub fn open(dir: &Path) -> Result<Snapshot, JournalError> {
        Snapshot::open_with(dir, None)
    }

    /// As [`open`](Snapshot::open), with archives from another directory as well.
    ///
    /// # Errors
    /// As [`open`](Snapshot::open).
    pub fn open_with(dir: &Path, archives: Option<&Path>) -> Result<Snapshot, JournalError> {
        let copy = tempfile::tempdir().map_err(JournalError::io("create", &std::env::temp_dir()))?;
        let lock = lock(dir)?;
        let owner = Owner::read(dir)?;
        for path in [database(dir), evidence_dir(dir)] {
            let to = copy.path().join(path.file_name().unwrap_or_default());
            copy_files(&path, &to).map_err(JournalError::io("copy", dir))?;
        }
        archive::copy(dir, copy.path()).map_err(JournalError::io("copy what is carried forward in", dir))?;
        drop(lock);
        let mut remarks = Vec::new();
        let Readable { store, meta, evidence_whole } = readable(dir, copy.path(), &mut remarks)?;
        // They are written once, so that they stand still without the lock.
        let archives = Prefix::find(dir, archives, meta.cut)?;
        remarks.extend(archives.remark());
        let carried = archives.carried(copy.path(), archive::newest(&store)?.as_ref());
        if let (Err(problem), 0) = (&carried, archives.start().position) {
            remarks.push(format!("{problem}; the next start makes it anew from the archives"));
        }
        Ok(Snapshot { store, meta, owner, archives, carried, remarks, evidence_whole, copy })
    }

    /// What a reader should know about where this comes from: sentences, usually none.
    ///
    /// Archives that are not here are named. A database that does not open is read from its evidence; records that only the evidence has are
    /// shown as well. The next open of the journal mends that, here only the copy is.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The journal's account of itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Every envelope of the database with the position it is stored at, in order; archived ones are not in it.
    pub fn raw(&self) -> impl Iterator<Item = Result<(u64, Vec<u8>), StoreError>> {
        self.store.records(0)
    }

    /// Every entry in order, archived ones first. Damage is yielded with its position, and the walk goes on where it can.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, ChainProblem>> {
        let mut position = self.meta.cut.position;
        let live = self.store.records(position.saturating_add(1)).map(move |raw| match raw {
            Ok((at, bytes)) => {
                position = at;
                open_at(at, &bytes)
            }
            Err(error) => {
                let what = Fault::Unreadable { reason: error.to_string() };
                Err(ChainProblem { position: position.saturating_add(1), what })
            }
        });
        self.archives.entries().chain(live)
    }

    /// Entries of archives that are not here which are carried forward: with them every run that has not ended is whole,
    /// but they are no chain. None if every archive is here.
    pub fn carried(&self) -> &[Entry] {
        self.carried.as_deref().unwrap_or_default()
    }

    /// Looks at every record, and compares with a head that was published elsewhere.
    pub fn verify(&self, expected: Option<&Head>) -> Verification {
        self.verify_each(expected, |_| ())
    }

    /// As [`verify`](Snapshot::verify), and hands out each entry that held, in the same pass.
    pub fn verify_each(&self, expected: Option<&Head>, each: impl FnMut(Entry)) -> Verification {
        self.verify_told(expected, each).0
    }

    /// As [`verify_each`](Snapshot::verify_each). Where a record of the database does not hold and the evidence is whole,
    /// the evidence is what is verified, because the next start makes the database anew from it: that is told beside
    /// the verdict.
    pub fn verify_told(
        &self,
        expected: Option<&Head>,
        mut each: impl FnMut(Entry),
    ) -> (Verification, Option<String>) {
        let mut held = None;
        let found = verify(self, &self.store, self.meta, expected, |entry| {
            held = Some(entry.head());
            each(entry);
        });
        let broken = matches!(found.verdict, Verdict::Corrupt | Verdict::TornTail);
        match (&found.problem, self.evidence_whole && broken) {
            (Some(problem), true) => match self.of_evidence(expected, held, each) {
                Some(whole) => {
                    let told = format!("the database is damaged ({problem}): this is read from the evidence");
                    (self.of_owner(whole), Some(told))
                }
                None => (found, None),
            },
            _ => (self.of_owner(found), None),
        }
    }

    /// The same for the records of the evidence; hands out those behind `held`. None if it does not hold either, or is
    /// not what was handed out.
    fn of_evidence(
        &self,
        expected: Option<&Head>,
        held: Option<Head>,
        mut each: impl FnMut(Entry),
    ) -> Option<Verification> {
        let (store, meta) =
            filled(&self.copy.path().join("verified"), &evidence_dir(self.copy.path())).ok()?;
        let mut same = true;
        let found = verify(self, &store, meta, expected, |entry| match held {
            Some(held) if entry.position <= held.position => {
                same &= entry.position < held.position || entry.head() == held;
            }
            _ => each(entry),
        });
        let holds = !matches!(found.verdict, Verdict::Corrupt | Verdict::TornTail);
        (same && holds).then_some(found)
    }

    fn of_owner(&self, found: Verification) -> Verification {
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

/// Takes the locks that a daemon would hold, shared, so that the files stand still while they are copied.
fn lock(dir: &Path) -> Result<(Option<Lock>, Option<File>), JournalError> {
    let lock = Lock::shared(dir)?;
    let path = SledStore::lock_file(&database(dir));
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && evidence_dir(dir).exists() => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent(dir)),
        other => Some(other.map_err(JournalError::io("open", &path))?),
    };
    if let Some(file) = &file {
        taken(dir, file.try_lock_shared())?;
    }
    Ok((lock, file))
}

/// What can be read of a copy.
struct Readable {
    store: SledStore,
    meta: Meta,
    evidence_whole: bool,
}

/// Opens the copy: the database with what the evidence has beyond it, else the evidence.
fn readable(dir: &Path, copy: &Path, remarks: &mut Vec<String>) -> Result<Readable, JournalError> {
    let evidence = evidence_dir(copy);
    let path = database(copy);
    let opened = if SledStore::lock_file(&path).exists() {
        named(dir, SledStore::open(&path))
    } else {
        Err(absent(dir))
    };
    let error = match opened {
        Ok(mut store) => {
            let meta = read_meta(&store)?;
            let found = survey(&evidence, Some(meta.head))?;
            let begins = found.survey.as_ref().map_or(0, |survey| survey.start.position);
            if begins <= meta.head.position {
                let (meta, evidence_whole) = ahead(&mut store, meta, &evidence, found, remarks)?;
                return Ok(Readable { store, meta, evidence_whole });
            }
            JournalError::Store(StoreError::Layout {
                what: "a database that ends before the evidence begins",
            })
        }
        Err(error) => error,
    };
    let found = survey(&evidence, None)?.survey.filter(|survey| survey.damage.is_none());
    if found.is_none() {
        return Err(error);
    }
    remarks.push(format!("the database cannot be used ({}): this is read from the evidence", error.text()));
    let (store, meta) = filled(&copy.join("rebuilt"), &evidence)?;
    Ok(Readable { store, meta, evidence_whole: false })
}

/// A database at `path` of what the evidence has.
fn filled(path: &Path, evidence: &Path) -> Result<(SledStore, Meta), JournalError> {
    let start = survey(evidence, None)?.survey.map_or(Head::genesis(), |survey| survey.start);
    let mut store = SledStore::open(path)?;
    mend::fill(&mut store, evidence, start, start)?;
    let meta = read_meta(&store)?;
    Ok((store, meta))
}

/// What the evidence says beyond the database; answers as well whether it is whole and says all that the database should.
fn ahead(
    store: &mut SledStore,
    meta: Meta,
    evidence: &Path,
    found: FoundEvidence,
    remarks: &mut Vec<String>,
) -> Result<(Meta, bool), JournalError> {
    let Some(survey) = found.survey else { return Ok((meta, false)) };
    if let Some(damage) = &survey.damage {
        remarks.push(format!("the evidence is damaged: {}", damage.problem));
        return Ok((meta, false));
    }
    let (here, there) = (meta.head.position, survey.head.position);
    if there < here {
        remarks.push(format!("the evidence ends at record {there}, the database at record {here}"));
    } else if found.at_head != Some(meta.head.hash) {
        remarks.push(format!("the evidence has another record {here} than the database"));
    } else if there > here {
        remarks.push(format!(
            "records {} to {there} are read from the evidence: the database lacks them",
            here + 1
        ));
        mend::fill(store, evidence, meta.head, survey.start)?;
        return Ok((read_meta(store)?, survey.start == meta.cut));
    } else {
        return Ok((meta, survey.start == meta.cut));
    }
    Ok((meta, false))
}

fn absent(dir: &Path) -> JournalError {
    match Owner::read(dir) {
        Ok(Some(Owner { epoch, .. })) => JournalError::Lost { dir: dir.to_owned(), epoch },
        _ => JournalError::Missing { dir: dir.to_owned() },
    }
}

/// Copies a directory, if it is there.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    fs::create_dir(to)?;
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn verify(
    snapshot: &Snapshot,
    store: &SledStore,
    meta: Meta,
    expected: Option<&Head>,
    mut each: impl FnMut(Entry),
) -> Verification {
    let Snapshot { archives, carried, .. } = snapshot;
    let (mut vouched, mut broken) = (Vouched::default(), None);
    let mut checker = Checker::new(archives.start());
    let mut at_expected = [archives.start(), archives.cut()].into_iter().find(|head| expected == Some(head));
    let mut hold = |entry: Entry| {
        if expected.is_some_and(|head| head.position == entry.position) {
            at_expected = Some(entry.head());
        }
        each(entry);
    };
    let archived = archives.check(&mut vouched, |_, entry| {
        broken = checker.admit(&entry).err();
        if broken.is_none() {
            hold(entry);
        }
        broken.is_none()
    });
    let held = checker.verified();
    let found = |verdict, more: Verified, problem| {
        let records = held.records + more.records;
        Verification { verdict, records, head: more.head, problem }
    };
    if let Some(problem) = archived.err().or(broken) {
        return found(Verdict::Corrupt, Verified { records: 0, head: held.head }, Some(problem));
    }
    let scanned = scan(store, &meta, |entry| {
        vouched.entry(&entry);
        hold(entry);
    });
    let (verdict, verified, problem) = match (scanned, vouched.problem()) {
        (Ok(verified), None) => match carried {
            // With every archive here it is made anew from them.
            Err(problem) if archives.start().position > 0 => {
                (Verdict::Corrupt, verified, Some(problem.clone()))
            }
            _ => (Verdict::Intact, verified, None),
        },
        (Ok(verified), Some(problem)) => (Verdict::Corrupt, verified, Some(problem)),
        (Err(Damage { torn: true, problem, verified }), _) => (Verdict::TornTail, verified, Some(problem)),
        (Err(Damage { torn: false, problem, verified }), _) => (Verdict::Corrupt, verified, Some(problem)),
    };
    match expected {
        // A published head weighs more than a torn tail, and tells nothing new about damage.
        Some(expected) if verdict != Verdict::Corrupt && at_expected != Some(*expected) => {
            let position = expected.position;
            let (verdict, what) = match at_expected {
                Some(_) => (Verdict::Corrupt, Fault::OtherHistory),
                None if position > verified.head.position => {
                    (Verdict::CutTail, Fault::Cut { expected: position })
                }
                None if position < archives.start().position => (Verdict::Corrupt, Fault::Archived),
                None => (Verdict::Corrupt, Fault::OtherHistory),
            };
            found(verdict, verified, Some(ChainProblem { position, what }))
        }
        _ => found(verdict, verified, problem),
    }
}
