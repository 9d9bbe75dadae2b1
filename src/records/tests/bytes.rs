//! Tests bytes that never change, and malformed bytes.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::backup_samples::backup_events;
use super::samples::{AT, earlier_events, group_events, later_versions, third_versions};
use crate::journal::Record;
use crate::machine::backup::{self, BackupPart};
use crate::machine::group::Event;
use crate::machine::group::Reached;
use crate::machine::group::Timed;
use crate::records::{Decoded, decode, encode_backup, encode_earlier_backup, encode_group};

/// A record of every kind with content that needs a later version than most of its records.
fn later(members: usize) -> [Record; 2] {
    let (planned, finished) = later_versions(members);
    [encode_group(&Timed { at: AT, event: planned }), encode_earlier_backup(&finished, AT)]
        .map(|record| record.expect("it fits"))
}

/// The records that have a third version, and the part of a Backup with such a plan.
fn third(members: usize) -> Vec<Record> {
    let events = third_versions(members);
    let Event::Planned(plan) = &events[0] else { panic!("a plan") };
    let part = BackupPart { part: 1, index: 2, plan: Arc::new((**plan).clone()) };
    let part = encode_backup(&backup::Timed { at: AT, event: backup::Event::Part(part) });
    let group = events.map(|event| encode_group(&Timed { at: AT, event })).into_iter();
    group.chain([part]).map(|record| record.expect("it fits")).collect()
}

fn records(members: usize) -> Vec<Record> {
    let group = group_events(members).into_iter().map(|event| encode_group(&Timed { at: AT, event }));
    let earlier = earlier_events();
    let earlier = earlier.iter().map(|event| encode_earlier_backup(event, AT));
    group.chain(earlier).map(|record| record.expect("it fits")).collect()
}

fn of_backups() -> Vec<Record> {
    let encode = |event| encode_backup(&backup::Timed { at: AT, event }).expect("it fits");
    backup_events().into_iter().map(encode).collect()
}

fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The bytes of every kind as they are written. A change here makes journals unreadable: it needs a new
/// version of the payload and an upcaster instead. `UPDATE_FIXTURES=1` writes the file when a kind or a
/// version is added.
#[test]
fn the_bytes_that_are_written_never_change() {
    never_change(&records(4), "migrations/0003_asked/after/payloads.hex");
    never_change(&later(4), "migrations/0005_atomicity/after/payloads.hex");
    never_change(&of_backups(), "migrations/0006_backups/after/payloads.hex");
    never_change(&third(4), "migrations/0008_receipts/after/payloads.hex");
}

fn never_change(records: &[Record], path: &str) {
    let mut text = String::new();
    for record in records {
        let hex: String = record.payload.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{} {} {hex}", record.kind, record.version).expect("a string");
    }
    let path = fixture(path);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, &text).expect("write the fixture");
    }
    let golden = fs::read_to_string(&path).expect("read the fixture");
    for (line, (found, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of {}", line + 1, path.display());
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}

/// Payloads of schema 2 still decode to the same events.
#[test]
fn payloads_of_schema_2_keep_their_meaning() {
    let text = fs::read_to_string(fixture("migrations/0002_rebuilt_members/after/payloads.hex"))
        .expect("the fixture");
    let released: Vec<_> = text.lines().map(|line| decode(&parse(line)).expect("a payload")).collect();
    let groups = group_events(4).into_iter().filter(|event| !matches!(event, Event::RequestReceived(_)));
    let groups = groups.map(|event| Decoded::Group(Timed { at: AT, event }));
    let backups = earlier_events().into_iter().map(|event| Decoded::EarlierBackup { event, at: AT });
    assert_eq!(released, groups.chain(backups).collect::<Vec<_>>());
}

fn parse(line: &str) -> Record {
    let fields: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| fields[at].parse().expect("a number");
    let byte = |at: usize| u8::from_str_radix(&fields[2][at..at + 2], 16).expect("hexadecimal");
    let payload = (0..fields[2].len()).step_by(2).map(byte).collect();
    Record { kind: number(0), version: number(1), time_ns: AT.0, payload }
}

/// Payloads of the first release decode to the same events; a `cleaned` record of that
/// release has no rebuilt members.
#[test]
fn payloads_of_version_1_keep_their_meaning() {
    let text = fs::read_to_string(fixture("fixtures/journals/0.1.0/payloads.hex")).expect("the fixture");
    let released: Vec<_> = text.lines().map(|line| decode(&parse(line)).expect("a payload")).collect();
    let groups = group_events(4).into_iter().filter(|event| !is_later(event));
    let groups = groups.map(|event| Decoded::Group(Timed { at: AT, event }));
    let backups = earlier_events().into_iter().map(|event| Decoded::EarlierBackup { event, at: AT });
    assert_eq!(released, groups.chain(backups).collect::<Vec<_>>());
}

/// Not in version 1, or not with the same text.
fn is_later(event: &Event) -> bool {
    matches!(event, Event::MilestoneReached { reached: Reached::Cleaned(_), .. } | Event::RequestReceived(_))
}

#[test]
fn a_payload_that_ends_early_is_an_error() {
    for record in records(4).into_iter().chain(later(4)).chain(of_backups()) {
        for length in 0..record.payload.len() {
            let cut = Record { payload: record.payload[..length].to_vec(), ..record };
            assert!(decode(&cut).is_err(), "kind {} cut to {length} bytes", record.kind);
        }
    }
}

#[test]
fn mutated_bytes_never_cause_a_panic() {
    let records = [records(8), of_backups()].concat();
    let mut random = fastrand::Rng::with_seed(20_260_101);
    for _ in 0..6_000 {
        let mut record = records[random.usize(..records.len())].clone();
        for _ in 0..random.usize(1..4) {
            let (at, any) = (random.usize(..record.payload.len()), random.u8(..));
            record.payload[at] = random.choice([0, 1, 0x7f, 0xfb, 0xfc, 0xfd, 0xff, any]).unwrap_or(0);
        }
        if random.u8(..8) == 0 {
            record.version = 3 - record.version.min(2);
        }
        if random.bool() {
            record.kind =
                random.choice([1, 2, 3, 4, 5, 6, 7, 16, 17, 48, 49, 50, 51, 52, 53, 54]).unwrap_or(1);
        }
        // A decoded event is an event of the machine: it can be encoded again.
        match decode(&record) {
            Ok(Decoded::Group(timed)) => drop(encode_group(&timed).expect("an event")),
            Ok(Decoded::Backup(timed)) => drop(encode_backup(&timed).expect("an event")),
            Ok(Decoded::EarlierBackup { event, at }) => {
                drop(encode_earlier_backup(&event, at).expect("an event"));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn wrong_length_allocates_nothing() {
    for (kind, version) in
        [(1, 1), (1, 2), (2, 1), (3, 1), (4, 1), (5, 1), (5, 2), (6, 1), (7, 1), (16, 1), (17, 1), (17, 2)]
    {
        let payload = vec![0xfd; 64];
        assert!(decode(&Record { kind, version, time_ns: 0, payload }).is_err());
    }
}
