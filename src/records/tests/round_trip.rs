//! Tests that an encoded event decodes to the same event.

use super::backup_samples::backup_events;
use std::sync::Arc;

use super::samples::{AT, earlier_events, group_events, later_versions, third_versions};
use crate::journal::Record;
use crate::machine::backup::{self, BackupPart};
use crate::machine::group::Timed;
use crate::records::{Decoded, WireError, decode, encode_backup, encode_earlier_backup, encode_group};

fn group_record(event: crate::machine::group::Event) -> Record {
    encode_group(&Timed { at: AT, event }).expect("it fits")
}

#[test]
fn every_group_event_round_trips() {
    for members in [1, 5, 128] {
        for event in group_events(members) {
            let record = group_record(event.clone());
            assert_eq!(record.time_ns, AT.0);
            assert_eq!(decode(&record), Ok(Decoded::Group(Timed { at: AT, event })));
        }
    }
}

#[test]
fn every_backup_event_round_trips() {
    for event in backup_events() {
        let timed = backup::Timed { at: AT, event };
        let record = encode_backup(&timed).expect("it fits");
        assert_eq!(decode(&record), Ok(Decoded::Backup(timed)));
    }
    for event in earlier_events() {
        let record = encode_earlier_backup(&event, AT).expect("it fits");
        assert_eq!(decode(&record), Ok(Decoded::EarlierBackup { event, at: AT }));
    }
}

#[test]
fn writes_newer_version_only_if_required() {
    let (planned, finished) = later_versions(3);
    let record = group_record(planned.clone());
    assert_eq!((record.kind, record.version), (1, 2));
    assert_eq!(decode(&record), Ok(Decoded::Group(Timed { at: AT, event: planned })));
    let record = encode_earlier_backup(&finished, AT).expect("it fits");
    assert_eq!((record.kind, record.version), (17, 2));
    assert_eq!(decode(&record), Ok(Decoded::EarlierBackup { event: finished, at: AT }));
    assert_eq!(group_record(group_events(3).remove(0)).version, 1);
    assert_eq!(encode_earlier_backup(&earlier_events()[1], AT).expect("it fits").version, 1);
}

#[test]
fn plan_and_receipt_round_trip_with_what_a_restore_needs() {
    for members in [1, 5, 128] {
        for event in third_versions(members) {
            let record = group_record(event.clone());
            assert_eq!(record.version, 3);
            assert_eq!(decode(&record), Ok(Decoded::Group(Timed { at: AT, event: event.clone() })));
            let crate::machine::group::Event::Planned(plan) = event else { continue };
            let part = BackupPart { part: 0, index: 0, plan: Arc::new(*plan) };
            let timed = backup::Timed { at: AT, event: backup::Event::Part(part) };
            let record = encode_backup(&timed).expect("it fits");
            assert_eq!(decode(&record), Ok(Decoded::Backup(timed)));
        }
    }
}

#[test]
fn each_event_has_unique_kind() {
    let kinds: Vec<u16> = group_events(3).into_iter().map(|event| group_record(event).kind).collect();
    assert_eq!(kinds, [1, 2, 3, 5, 5, 5, 5, 4, 5, 5, 6]);
    let kinds: Vec<u16> = earlier_events()
        .iter()
        .map(|event| encode_earlier_backup(event, AT).expect("it fits").kind)
        .collect();
    assert_eq!(kinds, [16, 17]);
    let kind = |event| encode_backup(&backup::Timed { at: AT, event }).expect("it fits").kind;
    let kinds: Vec<u16> = backup_events().into_iter().map(kind).collect();
    assert_eq!(kinds, [48, 51, 52, 52, 49, 50, 52, 52, 52, 52, 52, 52, 53, 54]);
}

#[test]
fn unknown_kinds_and_versions_are_named() {
    let record = group_record(group_events(1).remove(0));
    let newer = Record { version: 4, ..record.clone() };
    assert_eq!(decode(&newer), Err(WireError::Version { kind: 1, found: 4, known: 3 }));
    let other = Record { kind: 9, ..record.clone() };
    assert_eq!(
        decode(&other).expect_err("no such kind").to_string(),
        "records of kind 9 are not known to this stillpoint"
    );
    let mut longer = group_record(group_events(1).remove(1));
    longer.payload.push(0);
    assert_eq!(decode(&longer), Err(WireError::Trailing { kind: 2, bytes: 1 }));
}
