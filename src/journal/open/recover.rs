//! Reads a store into the state from which a daemon continues, and checks every record.
//!
//! One pass checks the chain and collects the entries of the open streams. Not here: the choice of the
//! store ([`super::find`]), and the action for a damaged store ([`crate::reconcile`]).

use super::Opened;
use crate::chain::{ChainProblem, Fault, open_at};
use crate::envelope::SCHEMA;
use crate::error::JournalError;
use crate::record::Entry;
use crate::scan::{Damage, scan};
use crate::store::{Batch, Meta, Store, StoreError, StreamHead, StreamState};

/// Reads the journal's [`Meta`]. For an empty store it is a new one.
pub(crate) fn read_meta(store: &dyn Store) -> Result<Meta, JournalError> {
    read_meta_up_to(SCHEMA, store)
}

/// As [`read_meta`], for a binary whose newest schema is `known`.
pub(crate) fn read_meta_up_to(known: u16, store: &dyn Store) -> Result<Meta, JournalError> {
    let damaged = |what| JournalError::Damaged { torn: false, source: ChainProblem { position: 0, what } };
    match store.meta()? {
        Some(Meta { schema: found, .. }) if found > known => Err(JournalError::NewerSchema { found, known }),
        Some(Meta { schema: 0, .. }) => Err(damaged(Fault::Schema { found: 0, known })),
        Some(meta) => Ok(meta),
        None if store.records(0).next().is_none() && store.streams()?.is_empty() => Ok(Meta::new()),
        None => Err(damaged(Fault::Unreadable {
            reason: "the journal's account of itself is missing".to_owned(),
        })),
    }
}

pub(crate) fn recover(store: &dyn Store) -> Result<(Meta, Opened), JournalError> {
    let meta = read_meta(store)?;
    let mut streams: Vec<_> = store
        .streams()?
        .into_iter()
        .filter(|head| head.state == StreamState::Open)
        .map(|head| (head, vec![]))
        .collect();
    streams.sort_by_key(|(head, _)| head.stream);
    for (head, entries) in &mut streams {
        *entries = copied(store, &meta, head)?;
    }
    let verified = scan(store, &meta, |entry| {
        if let Ok(index) = streams.binary_search_by_key(&entry.stream, |(head, _)| head.stream) {
            streams[index].1.push(entry);
        }
    });
    let verified =
        verified.map_err(|Damage { torn, problem, .. }| JournalError::Damaged { torn, source: problem })?;
    streams.sort_by_key(|(head, _)| head.first_position);
    let streams = streams.into_iter().map(|(head, entries)| (head.stream, entries)).collect();
    let (epoch, head, records) = (meta.epoch, meta.head, verified.records);
    Ok((meta, Opened { epoch, head, records, streams, repairs: vec![], ballast: false }))
}

/// The records of a stream that the store has although they are archived.
fn copied(store: &dyn Store, meta: &Meta, head: &StreamHead) -> Result<Vec<Entry>, JournalError> {
    let truncated_at = meta.truncated_at.position;
    if head.first_position > truncated_at {
        return Ok(vec![]);
    }
    let mut entries = Vec::new();
    for position in store.positions(head.stream)?.into_iter().take_while(|at| *at <= truncated_at) {
        let bytes = store.record(position)?.ok_or(StoreError::Layout { what: "the index of a stream" })?;
        let entry = open_at(position, &bytes);
        entries.push(entry.map_err(|source| JournalError::Damaged { torn: false, source })?);
    }
    Ok(entries)
}

/// Claims the next epoch in a store without a log.
pub(crate) fn claim(store: &mut dyn Store, meta: &mut Meta, opened: &mut Opened) -> Result<(), JournalError> {
    meta.epoch = meta.epoch.checked_add(1).ok_or(StoreError::Layout { what: "the epoch" })?;
    opened.epoch = meta.epoch;
    // From here on an older binary refuses the journal. Earlier records stay unchanged.
    meta.schema = SCHEMA;
    store.write(&Batch { meta: *meta, records: vec![], streams: vec![] })?;
    store.sync()?;
    Ok(())
}
