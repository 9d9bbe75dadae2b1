//! Bytes that never change, and bytes that are wrong.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::samples::{AT, backup_events, group_events};
use crate::journal::Record;
use crate::journal::wire::{decode, encode_backup, encode_group};
use crate::machine::group::Timed;

fn records(members: usize) -> Vec<Record> {
    let group = group_events(members).into_iter().map(|event| encode_group(&Timed { at: AT, event }));
    let backup = backup_events();
    let backup = backup.iter().map(|event| encode_backup(event, AT));
    group.chain(backup).map(|record| record.expect("it fits")).collect()
}

/// The bytes of every kind in version 1, as they were released. A change here makes journals unreadable: it needs a
/// new version of the payload and an upcaster instead. `UPDATE_FIXTURES=1` writes the file when a kind is added.
#[test]
fn the_bytes_of_version_1_never_change() {
    let mut text = String::new();
    for record in records(4) {
        let hex: String = record.payload.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{} {} {hex}", record.kind, record.version).expect("a string");
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/journals/0.1.0/payloads.hex");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, &text).expect("write the fixture");
    }
    let golden = fs::read_to_string(&path).expect("read the fixture");
    for (line, (found, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of {}", line + 1, path.display());
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}

#[test]
fn a_payload_that_ends_early_is_an_error() {
    for record in records(4) {
        for length in 0..record.payload.len() {
            let cut = Record { payload: record.payload[..length].to_vec(), ..record };
            assert!(decode(&cut).is_err(), "kind {} cut to {length} bytes", record.kind);
        }
    }
}

#[test]
fn mutated_bytes_decode_or_are_an_error_and_never_panic() {
    let records = records(8);
    let mut random = fastrand::Rng::with_seed(20_260_101);
    for _ in 0..6_000 {
        let mut record = records[random.usize(..records.len())].clone();
        for _ in 0..random.usize(1..4) {
            let (at, any) = (random.usize(..record.payload.len()), random.u8(..));
            record.payload[at] = random.choice([0, 1, 0x7f, 0xfb, 0xfc, 0xfd, 0xff, any]).unwrap_or(0);
        }
        if random.bool() {
            record.kind = random.choice([1, 2, 3, 4, 5, 16, 17]).unwrap_or(1);
        }
        // What decodes is an event of the machine: it encodes again.
        match decode(&record) {
            Ok(crate::journal::wire::Decoded::Group(timed)) => drop(encode_group(&timed).expect("an event")),
            Ok(crate::journal::wire::Decoded::Backup { event, at }) => {
                drop(encode_backup(&event, at).expect("an event"));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn a_lying_length_allocates_nothing() {
    for kind in [1, 2, 3, 4, 5, 16, 17] {
        let payload = vec![0xfd; 64];
        assert!(decode(&Record { kind, version: 1, time_ns: 0, payload }).is_err());
    }
}
