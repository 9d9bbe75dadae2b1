//! Tests reasons for users: the observed state, the object, and the instruction, which is never truncated.

use crate::fixture::*;
use stillpoint::domain::limits;
use stillpoint::domain::observed::{Observation, UnplannedVolume};
use stillpoint::domain::problem::Code;
use stillpoint::domain::time::Timestamp;
use stillpoint::machine::group::Event;
use stillpoint::machine::group::GroupRun;
use stillpoint::machine::group::Reached;
use stillpoint::machine::group::Timed;
use stillpoint::machine::group::advance::advice;
use stillpoint::machine::group::advance::reason_of;
use stillpoint::machine::group::table::TABLE;
use stillpoint::machine::kit::Action;
use stillpoint::machine::kit::DecisionRecord;
use stillpoint::machine::kit::Reached as _;
use stillpoint::machine::kit::Reason;
use stillpoint::machine::kit::fold;

/// The reason of the rollback of a run with this observation.
fn reason(run: &GroupRun, seen: &Observation, now: Timestamp) -> Reason {
    match &records(run, seen, now)[..] {
        [Event::MilestoneReached { reached, .. }] => reached.reason().expect("a reason").clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_pvcs_of_unplanned_volumes() {
    let mut seen = bound();
    let content = seen.content.as_mut().expect("the content");
    content.volume_handles = vec!["vol-data".into(), "vol-extra".into(), "vol-lost".into()];
    let claim = |handle: &str, claim: Option<&str>| UnplannedVolume {
        volume_handle: handle.into(),
        claim: claim.map(str::to_owned),
    };
    seen.unplanned = vec![claim("vol-extra", Some("extra")), claim("vol-lost", None)];
    let reason = reason(&created(), &seen, at(9));
    assert_eq!(reason.code, Code::MembersDiffer);
    let says = "froze 3 volumes, planned were 2; not planned: PersistentVolumeClaim extra (volume vol-extra), volume \
                vol-lost of an unknown PersistentVolumeClaim; planned and not frozen: PersistentVolumeClaim wal \
                (volume vol-wal); ";
    assert!(reason.message.contains(says), "{}", reason.message);
}

#[test]
fn final_reason_names_members_never_created() {
    let reached = Reached::Cut { group_handle: "group-handle".into() };
    let grounds = DecisionRecord { row: "test".into(), rules: 1, view: view_with(|_| {}) };
    let event = Event::MilestoneReached { grounds, reached };
    let run = fold(Some(created()), &Timed { at: at(10), event }).expect("a legal record");
    let mut seen = bound();
    seen.group.as_mut().expect("a group").ready = false;
    seen.snapshots.clear();
    seen.contents.clear();
    let reason = reason(&run, &seen, at(3600));
    assert_eq!(reason.code, Code::ReadyTimeout);
    assert!(reason.message.contains("0 of 2 VolumeSnapshots of the group exist"), "{}", reason.message);
    assert!(reason.message.ends_with("or raise spec.itemOperationTimeout"), "{}", reason.message);
}

#[test]
fn shortened_error_keeps_cause_and_advice() {
    let mut seen = bound();
    let content = seen.content.as_mut().expect("the content");
    (content.group_handle, content.cuts) = (None, Vec::new());
    let volumes = "e88fc571-0e70-47b3-a6ac-1b22046c7f28 ".repeat(60);
    content.error =
        Some(format!("failed to take a snapshot of [{volumes}]: rpc error: code = Internal desc = full"));
    seen.error_since = Some(at(1));
    let reason = reason(&created(), &seen, at(60));
    assert_eq!(reason.code, Code::DriverFailed);
    let (cause, advice) = ("rpc error: code = Internal desc = full; ", "run the Backup again");
    assert!(reason.message.contains(cause) && reason.message.ends_with(advice), "{}", reason.message);
    assert!(reason.message.len() <= limits::MAX_TEXT_BYTES);
}

#[test]
fn advice_comes_from_row_not_reason() {
    for row in TABLE.iter() {
        let Action::Stick { advice: wanted, .. } = row.then else { continue };
        let run = GroupRun { stuck: Some(row.id.to_owned()), ..created() };
        assert_eq!(advice(&run), Some(wanted), "{}", row.id);
        // The format of older releases: one text, truncated.
        let old: String = format!("it is refused: {wanted}").chars().take(60).collect();
        assert_eq!(reason_of(&run, &old), "it is refused", "{}", row.id);
        assert_eq!(reason_of(&run, "it is refused"), "it is refused");
    }
    assert_eq!(advice(&created()), None);
}
