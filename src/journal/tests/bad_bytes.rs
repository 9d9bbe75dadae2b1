//! Tests arbitrary bytes: the journal refuses them, and the process survives.

use super::super::envelope::open;
use super::super::export::{ExportedRecord, import};
use super::super::sled_store::SledStore;
use super::super::testing::{batches, chain_of};
use super::*;

const HASH_BYTES: usize = 32;

/// Changes, removes or repeats a few bytes.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..5) {
        if bytes.is_empty() {
            return;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, random.u8(..)),
            3 => bytes.extend_from_within(at..),
            _ => {
                let any = random.u8(..);
                bytes[at] = random.choice([0, 1, 0x7f, 0x80, 0xff, any]).unwrap_or(0);
            }
        }
        bytes.truncate(1 << 16);
    }
}

#[test]
fn decodes_or_rejects_mutated_envelopes_with_valid_hash() {
    let written = batches(8);
    let mut random = fastrand::Rng::with_seed(20_260_102);
    let mut opened = 0;
    for _ in 0..4_000 {
        let envelope = &written[random.usize(..written.len())].records[0].envelope;
        let mut bytes = envelope[..envelope.len() - HASH_BYTES].to_vec();
        mutate(&mut random, &mut bytes);
        bytes.extend(*blake3::hash(&bytes).as_bytes());
        match open(&bytes) {
            // A decoded payload comes from the bytes: it is never larger than they are.
            Ok(entry) => {
                assert!(entry.record.payload.len() <= bytes.len());
                assert!(ExportedRecord::from(&entry).payload.len() <= 2 * bytes.len());
                opened += 1;
            }
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
    }
    assert!(opened > 100, "only {opened} of the forgeries opened");
}

#[test]
fn reads_or_rejects_mutated_export_lines() {
    let chain = chain_of(6);
    let lines = chain
        .iter()
        .map(|entry| serde_json::to_string(&ExportedRecord::from(entry)).expect("plain data") + "\n");
    let text: String = lines.collect();
    let mut random = fastrand::Rng::with_seed(20_260_103);
    for _ in 0..4_000 {
        let mut bytes = text.clone().into_bytes();
        mutate(&mut random, &mut bytes);
        let changed = String::from_utf8_lossy(&bytes).into_owned();
        match import(&changed) {
            Ok(entries) if entries == chain => {}
            // The chain detects every change of a field, unless whole lines are missing at the end.
            Ok(entries) => {
                let whole = entries.len() <= chain.len() && entries[..] == chain[..entries.len()];
                assert!(whole || chain::check(entries).is_err(), "{changed}");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn reads_store_of_bad_records_to_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut written = batches(300);
    let mut random = fastrand::Rng::with_seed(20_260_104);
    let mut bad = 0;
    for batch in &mut written {
        let envelope = &mut batch.records[0].envelope;
        let before = envelope.clone();
        if random.bool() {
            mutate(&mut random, envelope);
        }
        bad += usize::from(before != *envelope);
    }
    let mut store = SledStore::open(&dir.path().join("sled")).expect("opened");
    written.iter().for_each(|batch| store.write(batch).expect("written"));
    store.sync().expect("synced");
    drop(store);
    let snapshot = Snapshot::open(dir.path()).expect("readable");
    let (read, refused): (Vec<_>, Vec<_>) = snapshot.entries().partition(Result::is_ok);
    assert_eq!((read.len(), refused.len()), (300 - bad, bad));
    assert_eq!(snapshot.verify(None).verdict, Verdict::CutTail, "the log is lost");
}
