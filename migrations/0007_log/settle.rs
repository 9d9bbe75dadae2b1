//! Brings the directory of a journal of an earlier release to the present layout.
//!
//! The log was in `evidence/`. Releases of schema 1 had none: their database was the journal. The order protects
//! the journal from an earlier release that is started again after a kill: the schema in the database is raised
//! and synced first, so from then on it refuses the journal. Only then the log gets its present name. Each step
//! can be repeated. No file is removed.

use std::path::Path;

use crate::envelope::SCHEMA;
use crate::error::JournalError;
use crate::fault_injection::{Call, FaultHook};
use crate::open::recover::recover;
use crate::options::Options;
use crate::paths;
use crate::rebuild;
use crate::repair::Repair;
use crate::sled_store::SledStore;
use crate::store::{Batch, Meta, Store, StoreError};

/// The last schema whose journals had no log.
const WITHOUT_LOG: u16 = 1;

/// Name of the directory of a log that was written from the database of a journal without one.
const BEGUN: &str = "log.begun";

/// Settles the directory. `index` is the database and its state, if it opens. Returns the records that a log was
/// begun with.
///
/// # Errors
/// The database cannot be read or written, or a file cannot be written.
pub(crate) fn settle(
    dir: &Path,
    index: Option<(&mut SledStore, &mut Meta)>,
    options: &Options,
    faults: &FaultHook,
) -> Result<Option<Repair>, JournalError> {
    let (log, earlier, begun) = (dir.join(paths::LOG), dir.join(paths::EARLIER_LOG), dir.join(BEGUN));
    if log.exists() {
        return Ok(None);
    }
    let Some((store, meta)) = index else {
        // Without a database there is nothing that an earlier release could start from.
        put(faults, &earlier, &log)?;
        return Ok(None);
    };
    let mut repair = None;
    if meta.schema <= WITHOUT_LOG && !earlier.exists() {
        // What is there may be older than the database.
        paths::remove(&begun)?;
        recover(store)?;
        let records = rebuild::begin_log(dir, store, *meta, options, &begun)?;
        repair = Some(Repair::LogBegun { records });
    }
    if earlier.exists() || begun.exists() {
        raise(store, meta)?;
    }
    put(faults, &earlier, &log)?;
    put(faults, &begun, &log)?;
    Ok(repair)
}

fn raise(store: &mut SledStore, meta: &mut Meta) -> Result<(), JournalError> {
    if meta.schema < SCHEMA {
        meta.schema = SCHEMA;
        store.write(&Batch { meta: *meta, records: vec![], streams: vec![] })?;
        store.sync()?;
    }
    Ok(())
}

fn put(faults: &FaultHook, from: &Path, to: &Path) -> Result<(), JournalError> {
    if !from.exists() {
        return Ok(());
    }
    let failed = |error| StoreError::io("rename the log", &error).into();
    faults.run(Call::LogReplace, failed, || paths::put_in_place(from, to))
}
