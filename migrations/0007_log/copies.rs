//! Reads the copies of archived records that earlier releases wrote to a file: `archive/FIRST-LAST.carried`.
//!
//! Version 1 of the file, big-endian:
//!
//! | bytes | field |
//! |---:|---|
//! | 8 | `SPcarry1` |
//! | 8 | number n of streams |
//! | | n times, by id: 1 byte, 1 if no work is left; 16 bytes id; 8 bytes length; records |
//! | | a record: 4 bytes length; envelope |
//! | 32 | BLAKE3 hash of all bytes before it |
//!
//! The file follows from the archives alone, so a lost file is rebuilt from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use uuid::Uuid;

use crate::archive::{Checkpoint, FileOfCopies, Places, each_record, hash};
use crate::envelope;
use crate::error::JournalError;
use crate::log;
use crate::record::{Entry, Links};
use crate::repair;
use crate::store::StreamState;

const MAGIC: &[u8; 8] = b"SPcarry1";

/// Streams with their archived records, in order of position.
pub(crate) type Copies = BTreeMap<Uuid, (StreamState, Vec<Entry>)>;

/// The copies that `newest` names: from its file, or else from the archives.
///
/// # Errors
/// [`JournalError::CarryOverLost`] if the file is lost and an archive is missing.
pub(crate) fn copies(
    places: &Places,
    newest: &Checkpoint,
    file: FileOfCopies,
    links: Links,
) -> Result<Copies, JournalError> {
    let path = places.indexes.join(newest.range().file("carried"));
    let what = match fs::read(&path) {
        Err(_) => "it is missing",
        Ok(bytes) if hash(&bytes) != file.hash => "it is not the file that its checkpoint names",
        Ok(bytes) => match decode(&bytes) {
            Some(copies) => return Ok(copies),
            None => "it is not the file that its checkpoint names",
        },
    };
    let lost = |missing| JournalError::CarryOverLost {
        path: path.clone(),
        runs: file.streams,
        last: newest.last.position,
        what,
        missing,
    };
    let copies = of_archives(places, newest, links, &lost)?;
    let is_it = hash(&encode(&copies)) == file.hash;
    if is_it { Ok(copies) } else { Err(lost(None)) }
}

/// Reads every archive up to `newest`.
fn of_archives(
    places: &Places,
    newest: &Checkpoint,
    links: Links,
    lost: &dyn Fn(Option<String>) -> JournalError,
) -> Result<Copies, JournalError> {
    let (mut copies, mut next) = (Copies::new(), 1);
    let ranges = crate::archive::list(&places.archives, "seg");
    let ranges = ranges.map_err(JournalError::io("read", &places.archives))?;
    while next <= newest.last.position {
        let range = ranges.iter().find(|range| range.first == next).ok_or_else(|| lost(None))?;
        let name = range.file("seg");
        let bytes = fs::read(places.archives.join(&name)).map_err(|_| lost(Some(name.clone())))?;
        let (start, end) = log::ends(&bytes).ok_or_else(|| lost(Some(name)))?;
        each_record(&bytes, start, end, &mut |state, entry, _| {
            if entry.stream != repair::stream() {
                let known = copies.entry(entry.stream).or_insert((state, vec![]));
                known.0 = state;
                known.1.push(entry.clone());
            }
        })?;
        drop_finished(&mut copies, links);
        next = range.last + 1;
    }
    Ok(copies)
}

/// Drops each finished stream that no unfinished stream needs.
fn drop_finished(copies: &mut Copies, links: Links) {
    let open = copies.values().filter(|(state, _)| *state == StreamState::Open);
    let needed: BTreeSet<Uuid> =
        open.flat_map(|(_, entries)| entries.iter().flat_map(|entry| links(&entry.record))).collect();
    copies.retain(|stream, (state, _)| *state == StreamState::Open || needed.contains(stream));
}

fn encode(copies: &Copies) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((copies.len() as u64).to_be_bytes());
    for (stream, (state, entries)) in copies {
        let mut records = Vec::new();
        for envelope in entries.iter().map(envelope::of) {
            records.extend((envelope.len() as u32).to_be_bytes());
            records.extend(envelope);
        }
        bytes.push(u8::from(*state == StreamState::Finished));
        bytes.extend(stream.as_bytes());
        bytes.extend((records.len() as u64).to_be_bytes());
        bytes.extend(records);
    }
    let end = hash(&bytes);
    bytes.extend(end);
    bytes
}

/// Decodes a file whose hash holds. `None` for other bytes.
fn decode(bytes: &[u8]) -> Option<Copies> {
    let (body, _) = bytes.split_last_chunk::<32>()?;
    let (_, mut rest) = body.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    let mut copies = Copies::new();
    while let Some((front, after)) = rest.split_first_chunk::<25>() {
        let state = if front[0] == 1 { StreamState::Finished } else { StreamState::Open };
        let stream = Uuid::from_slice(&front[1..17]).ok()?;
        let length = usize::try_from(u64::from_be_bytes(front[17..].try_into().ok()?)).ok()?;
        let (records, after) = after.split_at_checked(length)?;
        copies.insert(stream, (state, entries(records)?));
        rest = after;
    }
    rest.is_empty().then_some(copies)
}

fn entries(mut bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (envelope, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        entries.push(envelope::open(envelope).ok()?);
        bytes = rest;
    }
    bytes.is_empty().then_some(entries)
}
