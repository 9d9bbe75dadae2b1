//! One open, from what was found to two halves that agree.
//!
//! [`super::settle`] said what is to be done; here it is done, in an order that a cut cannot hurt: the half that is
//! whole gets the claim of the new epoch with the record of the repair, synced, and then the other half is made from
//! it with what [`super::mend`] has. Both hold the epoch before a handle exists.

use std::path::Path;

use super::error::JournalError;
use super::evidence::{EvidenceWriter, Survey};
use super::find::{DRAFT, Found, FoundDatabase, FoundEvidence, database, evidence_dir, named, said, survey};
use super::lock::Lock;
use super::mend;
use super::open::Opened;
use super::options::Options;
use super::probe::Probed;
use super::record::Head;
use super::recover::recover;
use super::repair::{self, Repair};
use super::settle::Row;
use super::sled_store::SledStore;
use super::store::{Meta, Store, StoreError};
use super::twin::TwinStore;

/// One open.
pub(super) struct Opening<'a> {
    pub dir: &'a Path,
    pub options: &'a Options,
    pub probed: Probed,
    /// What was done so far.
    pub told: Vec<Repair>,
}

impl Opening<'_> {
    /// Does what the table says about what was found.
    pub fn settle(self, found: Found) -> Result<(TwinStore, Meta, Opened), JournalError> {
        let row = found.row()?;
        let epoch = found.epoch().checked_add(1).ok_or(StoreError::Layout { what: "the epoch" })?;
        let Found { lock, database, evidence, .. } = found;
        match row {
            Row::Begin | Row::Agree => self.go_on(epoch, lock, database, evidence.survey),
            Row::BeginEvidence => self.rebuild_evidence(epoch, lock, database, None),
            Row::RebuildEvidence(why) => self.rebuild_evidence(epoch, lock, database, Some(why)),
            Row::CatchUp | Row::RebuildDatabase => self.follow_evidence(epoch, lock, database, evidence),
            Row::RefuseDatabase => Err(refused(database)),
            Row::RefuseBoth(source) => Err(JournalError::BothDamaged { database: said(&database), source }),
            Row::RefuseTwo(source) => Err(JournalError::Damaged { torn: false, source }),
        }
    }

    /// Both hold the same records.
    fn go_on(
        mut self,
        epoch: u64,
        lock: Lock,
        database: FoundDatabase,
        survey: Option<Survey>,
    ) -> Result<(TwinStore, Meta, Opened), JournalError> {
        let (store, mut meta, mut opened) = match database {
            FoundDatabase::Whole(whole) => *whole,
            FoundDatabase::None | FoundDatabase::Broken(..) => {
                let store = self.new_database()?;
                let (meta, opened) = recover(&store)?;
                (store, meta, opened)
            }
        };
        let evidence = self.evidence(survey.as_ref(), meta.cut)?;
        self.trimmed(survey.as_ref());
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

    /// The evidence has everything; the database is caught up, or made anew.
    fn follow_evidence(
        mut self,
        epoch: u64,
        lock: Lock,
        database: FoundDatabase,
        evidence: FoundEvidence,
    ) -> Result<(TwinStore, Meta, Opened), JournalError> {
        let Some(survey) = evidence.survey else { return Err(refused(database)) };
        self.trimmed(Some(&survey));
        let (store, from, why) = match database {
            FoundDatabase::Whole(whole) => (Some(whole.0), whole.1.head, String::new()),
            FoundDatabase::None => (None, survey.start, "it was missing".to_owned()),
            FoundDatabase::Broken(error, _) => (None, survey.start, error.text()),
        };
        let (mut store, repair) = match store {
            Some(store) => {
                let (from, to) = (from.position + 1, survey.head.position);
                (store, Repair::DatabaseCaughtUp { from, to })
            }
            None => {
                let aside = mend::set_aside(self.dir, "sled", epoch)?;
                (self.new_database()?, Repair::DatabaseRebuilt { why, aside, records: survey.records })
            }
        };
        self.told.push(repair);
        let meta = Meta { epoch, head: survey.head, cut: survey.start, ..Meta::new() };
        let claim = repair::claim(meta, &self.told, evidence.repairs, (self.options.now)());
        let mut writer = self.evidence(Some(&survey), survey.start)?;
        writer.append(&claim)?;
        writer.sync()?;
        mend::fill(&mut store, &evidence_dir(self.dir), from, survey.start)?;
        let (meta, opened) = recover(&store)?;
        Ok((TwinStore::new(store, writer, lock), meta, Opened { repairs: self.told, ..opened }))
    }

    /// The database has everything; the evidence is written anew.
    fn rebuild_evidence(
        mut self,
        epoch: u64,
        lock: Lock,
        database: FoundDatabase,
        why: Option<String>,
    ) -> Result<(TwinStore, Meta, Opened), JournalError> {
        let FoundDatabase::Whole(whole) = database else { return Err(refused(database)) };
        let (mut store, mut meta, opened) = *whole;
        let records = opened.records;
        let aside = mend::set_aside(self.dir, "evidence", epoch)?;
        self.told.push(match why {
            Some(why) => Repair::EvidenceRebuilt { why, aside, records },
            None => Repair::EvidenceBegun { records },
        });
        meta.epoch = epoch;
        let claim = repair::claim(meta, &self.told, store.stream(repair::stream())?, (self.options.now)());
        store.write(&claim)?;
        store.sync()?;
        let draft = self.dir.join(DRAFT);
        mend::write_evidence(&store, claim.meta, &draft, self.options.segment_bytes, &self.probed)?;
        mend::put_in_place(&draft, &evidence_dir(self.dir))?;
        let written = survey(&evidence_dir(self.dir), None)?;
        let writer = self.evidence(written.survey.as_ref(), meta.cut)?;
        let (meta, opened) = recover(&store)?;
        Ok((TwinStore::new(store, writer, lock), meta, Opened { repairs: self.told, ..opened }))
    }

    fn trimmed(&mut self, survey: Option<&Survey>) {
        if let Some(Survey { torn: bytes @ 1.., head, .. }) = survey {
            self.told.push(Repair::EvidenceTrimmed { bytes: *bytes, after: head.position });
        }
    }

    fn new_database(&self) -> Result<SledStore, JournalError> {
        let path = database(self.dir);
        mend::create_database(&path)?;
        named(self.dir, SledStore::open_probed(&path, self.probed.clone()))
    }

    fn evidence(&self, survey: Option<&Survey>, cut: Head) -> Result<EvidenceWriter, JournalError> {
        let (path, probed) = (evidence_dir(self.dir), self.probed.clone());
        let bytes = self.options.segment_bytes;
        let writer = match survey {
            Some(survey) => EvidenceWriter::resume(&path, survey, bytes, probed),
            None => EvidenceWriter::begin(&path, cut, bytes, probed),
        };
        writer.map_err(JournalError::io("go on with evidence in", &path))
    }
}

/// Why a database is refused that nothing can mend.
fn refused(database: FoundDatabase) -> JournalError {
    match database {
        FoundDatabase::Broken(error, _) => error,
        FoundDatabase::None | FoundDatabase::Whole(_) => {
            JournalError::Store(StoreError::Layout { what: "the database" })
        }
    }
}
