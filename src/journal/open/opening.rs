//! Carries out one open: brings the two halves of a journal into agreement.
//!
//! [`crate::reconcile`] decides the action. This module carries it out in an order that is safe in a crash.
//! First the whole half gets the claim of the new epoch with the record of the repair, synced. Then the
//! other half is made from it with the functions of [`crate::repair_half`]. Both halves hold the epoch
//! before a handle exists.

use std::path::Path;
use std::sync::Arc;

use super::Opened;
use super::find::{DRAFT, Found, FoundDatabase, FoundLog, database, evidence_dir, named, said, summary};
use super::recover::recover;
use crate::archive::Catalog;
use crate::archived;
use crate::error::JournalError;
use crate::fault_injection::FaultHook;
use crate::lock::Lock;
use crate::log::{LogSummary, LogWriter};
use crate::options::Options;
use crate::reconcile::Row;
use crate::record::Head;
use crate::repair::{self, Repair};
use crate::repair_half;
use crate::sled_store::SledStore;
use crate::store::{Meta, Store, StoreError};
use crate::twin::TwinStore;

/// A journal that is ready for the writer.
pub(crate) struct Ready {
    pub store: TwinStore,
    pub meta: Meta,
    pub opened: Opened,
    /// The journal's [`Meta`] before this start added its epoch and its repair records.
    pub found: Meta,
    pub catalog: Arc<Catalog>,
}

enum Way {
    GoOn,
    RebuildEvidence(Option<String>),
    FollowEvidence,
}

pub(crate) struct Opening<'a> {
    pub dir: &'a Path,
    pub options: &'a Options,
    pub faults: FaultHook,
    /// Repairs so far.
    pub told: Vec<Repair>,
}

impl Opening<'_> {
    /// Carries out the row of the reconcile table, and completes an interrupted archiving.
    pub fn reconcile(mut self, found: Found) -> Result<Ready, JournalError> {
        let (mut way, mut found) = way(found)?;
        let before = found.meta();
        let epoch = before
            .epoch
            .max(self.options.after_epoch)
            .checked_add(1)
            .ok_or(StoreError::Layout { what: "the epoch" })?;
        let newest = archived::newest(&found.database, &found.evidence)?;
        let (catalog, anew) =
            archived::load(self.dir, &found.evidence, newest.as_ref(), &self.faults, self.options.links)?;
        self.told.extend(anew);
        if let FoundDatabase::Whole(whole) = &found.database
            && let Some(error) = archived::lacks(&whole.0, &whole.1, newest.as_ref(), &catalog)?
        {
            let head = whole.1.head;
            found.database = FoundDatabase::Broken(error, Some(head));
            (way, found) = self::way(found)?;
        }
        let Found { lock, database, evidence, .. } = found;
        let (dir, faults) = (self.dir, self.faults.clone());
        let (mut store, meta, mut opened) = match way {
            Way::GoOn => self.go_on(epoch, lock, database, evidence.summary)?,
            Way::RebuildEvidence(why) => self.rebuild_evidence(epoch, lock, database, why, &catalog)?,
            Way::FollowEvidence => self.follow_evidence(epoch, lock, database, evidence, &catalog)?,
        };
        let meta = archived::finish(dir, &mut store, meta, &catalog, &faults)?;
        archived::complete(&mut opened, &catalog)?;
        opened.records = meta.head.position - meta.cut.position;
        let found = Meta { cut: meta.cut, ..before };
        Ok(Ready { store, meta, opened, found, catalog: Arc::new(catalog) })
    }

    /// Both halves hold the same records.
    fn go_on(
        mut self,
        epoch: u64,
        lock: Lock,
        database: FoundDatabase,
        summary: Option<LogSummary>,
    ) -> Result<(TwinStore, Meta, Opened), JournalError> {
        let (store, mut meta, mut opened) = match database {
            FoundDatabase::Whole(whole) => *whole,
            FoundDatabase::None | FoundDatabase::Broken(..) => {
                let store = self.new_database()?;
                let (meta, opened) = recover(&store)?;
                (store, meta, opened)
            }
        };
        let evidence = self.evidence(summary.as_ref(), meta.cut)?;
        self.trimmed(summary.as_ref());
        let known = store.stream(repair::stream())?;
        let mut twin = TwinStore::new(store, evidence, lock);
        meta.epoch = epoch;
        let batch = repair::claim(meta, &self.told, known, (self.options.now)());
        twin.write(&batch)?;
        twin.sync()?;
        (opened.epoch, opened.head) = (epoch, batch.meta.head);
        opened.records += batch.slots.len() as u64;
        opened.repairs = self.told;
        Ok((twin, batch.meta, opened))
    }

    /// The log has all records. The database is caught up or rebuilt.
    fn follow_evidence(
        mut self,
        epoch: u64,
        lock: Lock,
        database: FoundDatabase,
        evidence: FoundLog,
        catalog: &Catalog,
    ) -> Result<(TwinStore, Meta, Opened), JournalError> {
        let Some(summary) = evidence.summary else { return Err(refused(database)) };
        self.trimmed(Some(&summary));
        let (store, from, cut, why) = match database {
            FoundDatabase::Whole(whole) if whole.1.head.position < summary.start.position => {
                let why = format!("it ended at record {}, before the evidence begins", whole.1.head.position);
                (None, summary.start, summary.start, why)
            }
            FoundDatabase::Whole(whole) => (Some(whole.0), whole.1.head, whole.1.cut, String::new()),
            FoundDatabase::None => (None, summary.start, summary.start, "it was missing".to_owned()),
            FoundDatabase::Broken(error, _) => (None, summary.start, summary.start, error.text()),
        };
        let (mut store, repair) = match store {
            Some(store) => {
                let (from, to) = (from.position + 1, summary.head.position);
                (store, Repair::DatabaseCaughtUp { from, to })
            }
            None => {
                let aside = repair_half::set_aside(self.dir, "sled", epoch)?;
                (self.new_database()?, Repair::DatabaseRebuilt { why, aside, records: summary.records })
            }
        };
        self.told.push(repair);
        let meta = Meta { epoch, head: summary.head, cut, ..Meta::new() };
        let claim = repair::claim(meta, &self.told, evidence.repairs, (self.options.now)());
        let mut writer = self.evidence(Some(&summary), summary.start)?;
        writer.append(&claim)?;
        writer.sync()?;
        if from == summary.start {
            let heads = catalog.kept().heads(from.position);
            let heads = heads.map_err(JournalError::io("read what is carried forward in", self.dir))?;
            repair_half::carry(&mut store, from, heads)?;
        }
        repair_half::fill(&mut store, &evidence_dir(self.dir), from, cut)?;
        let (meta, opened) = recover(&store)?;
        Ok((TwinStore::new(store, writer, lock), meta, Opened { repairs: self.told, ..opened }))
    }

    /// The database has all records. The log is rebuilt.
    fn rebuild_evidence(
        mut self,
        epoch: u64,
        lock: Lock,
        database: FoundDatabase,
        why: Option<String>,
        catalog: &Catalog,
    ) -> Result<(TwinStore, Meta, Opened), JournalError> {
        let FoundDatabase::Whole(whole) = database else { return Err(refused(database)) };
        let (mut store, meta, _) = *whole;
        // The log begins where the archives end, even if the truncation of the database was not complete.
        let mut meta = archived::trim_archived(&mut store, meta, catalog)?;
        let records = meta.head.position - meta.cut.position;
        let aside = repair_half::set_aside(self.dir, "evidence", epoch)?;
        self.told.push(match why {
            Some(why) => Repair::EvidenceRebuilt { why, aside, records },
            None => Repair::EvidenceBegun { records },
        });
        meta.epoch = epoch;
        let claim = repair::claim(meta, &self.told, store.stream(repair::stream())?, (self.options.now)());
        store.write(&claim)?;
        store.sync()?;
        let draft = self.dir.join(DRAFT);
        repair_half::write_evidence(&store, claim.meta, &draft, self.options.segment_bytes, &self.faults)?;
        repair_half::put_in_place(&draft, &evidence_dir(self.dir))?;
        let written = summary(&evidence_dir(self.dir), None)?;
        let writer = self.evidence(written.summary.as_ref(), meta.cut)?;
        let (meta, opened) = recover(&store)?;
        Ok((TwinStore::new(store, writer, lock), meta, Opened { repairs: self.told, ..opened }))
    }

    fn trimmed(&mut self, summary: Option<&LogSummary>) {
        if let Some(LogSummary { torn: bytes @ 1.., head, .. }) = summary {
            self.told.push(Repair::EvidenceTrimmed { bytes: *bytes, after: head.position });
        }
    }

    fn new_database(&self) -> Result<SledStore, JournalError> {
        let path = database(self.dir);
        repair_half::create_database(&path)?;
        named(self.dir, SledStore::open_probed(&path, self.faults.clone()))
    }

    fn evidence(&self, summary: Option<&LogSummary>, cut: Head) -> Result<LogWriter, JournalError> {
        let (path, faults) = (evidence_dir(self.dir), self.faults.clone());
        let bytes = self.options.segment_bytes;
        let writer = match summary {
            Some(summary) => LogWriter::resume(&path, summary, bytes, faults),
            None => LogWriter::begin(&path, cut, bytes, faults),
        };
        writer.map_err(JournalError::io("go on with evidence in", &path))
    }
}

/// The action, or an error if the journal is refused.
fn way(found: Found) -> Result<(Way, Found), JournalError> {
    let way = match found.row()? {
        Row::Begin | Row::Agree => Way::GoOn,
        Row::BeginEvidence => Way::RebuildEvidence(None),
        Row::RebuildEvidence(why) => Way::RebuildEvidence(Some(why)),
        Row::CatchUp | Row::RebuildDatabase => Way::FollowEvidence,
        Row::RefuseDatabase => return Err(refused(found.database)),
        Row::RefuseBoth(source) => {
            return Err(JournalError::BothDamaged { database: said(&found.database), source });
        }
        Row::RefuseTwo(source) => return Err(JournalError::Damaged { torn: false, source }),
    };
    Ok((way, found))
}

/// The reason to refuse a database that cannot be repaired.
fn refused(database: FoundDatabase) -> JournalError {
    match database {
        FoundDatabase::Broken(error, _) => error,
        FoundDatabase::None | FoundDatabase::Whole(_) => {
            JournalError::Store(StoreError::Layout { what: "the database" })
        }
    }
}
