//! Tests that every record of the largest group fits, or is refused before it is written.

use super::backup_samples::ends;
use super::samples::{AT, all_failed, cleaned, failed, intended, plan, receipt_records};
use crate::domain::limits::{MAX_GROUPS_PER_BACKUP, MAX_MEMBERS, MAX_TEXT_BYTES};
use crate::machine::backup::columns::Column;
use crate::machine::backup::event::Ended;
use crate::machine::backup::{self, Formed, Reached};
use crate::machine::group::Event;
use crate::machine::group::Step;
use crate::machine::group::Timed;
use crate::machine::kit::{DecisionRecord, Outcome, View};
use crate::records::{WireError, encode_backup, encode_group, fit_backup, fit_group};

fn size(event: Event) -> Result<usize, WireError> {
    encode_group(&Timed { at: AT, event }).map(|record| record.payload.len())
}

#[test]
fn plan_of_largest_group_fits_with_long_names() {
    let bytes = size(Event::Planned(Box::new(plan(MAX_MEMBERS, 180)))).expect("it fits");
    assert!(bytes > 48 << 10, "{bytes} bytes prove nothing");
}

#[test]
fn rejects_oversized_plan_with_longest_names() {
    let plan = Event::Planned(Box::new(plan(MAX_MEMBERS, 253)));
    assert!(matches!(size(fit_group(plan)), Err(WireError::TooLarge { kind: 1, .. })));
}

#[test]
fn a_decision_about_the_largest_group_is_small() {
    let bytes = size(intended(Step::Retain, MAX_MEMBERS)).expect("it fits");
    assert!(bytes < 2 << 10, "{bytes} bytes");
}

#[test]
fn receipt_of_largest_group_fits_in_parts() {
    for event in receipt_records(&plan(MAX_MEMBERS, 253)) {
        size(event).expect("it fits");
    }
}

#[test]
fn fully_rebuilt_largest_group_fits() {
    let bytes = size(cleaned(MAX_MEMBERS)).expect("it fits");
    assert!(bytes > 32 << 10, "{bytes} bytes prove nothing");
}

#[test]
fn outcomes_fit_once_their_messages_are_shortened() {
    let event = all_failed(2 * MAX_MEMBERS);
    assert!(matches!(size(event.clone()), Err(WireError::TooLarge { kind: 3, .. })));
    let fitted = fit_group(event);
    assert!(size(fitted.clone()).is_ok());
    let Event::StepCompleted { outcomes, .. } = fitted else { panic!("it stays what it was") };
    assert_eq!(outcomes.len(), 2 * MAX_MEMBERS);
    let small = all_failed(3);
    assert_eq!(fit_group(small.clone()), small);
}

#[test]
fn largest_backup_fits_with_shortened_messages() {
    let message = "m".repeat(MAX_TEXT_BYTES);
    let refused = (0..MAX_GROUPS_PER_BACKUP).map(|index| failed(index, message.clone())).collect();
    let view = View { members: vec![7; MAX_GROUPS_PER_BACKUP], ..View::blank::<Column>() };
    let formed = Formed { groups: 256, hash: [7; 32], refused, warnings: vec![message.clone(); 16] };
    let outcome = Outcome::Determinate { code: 409, message: message.clone() };
    let ends = ends(256, &message);
    let reached = |reached| {
        let grounds = DecisionRecord { row: "backup/failed".into(), rules: 1, view: view.clone() };
        backup::Event::MilestoneReached { grounds, reached }
    };
    let events = [
        reached(Reached::Formed(formed)),
        reached(Reached::Failed(Ended { ends })),
        backup::Event::StepCompleted {
            step: backup::Step::StartGroups,
            outcomes: vec![outcome; MAX_GROUPS_PER_BACKUP],
        },
    ];
    for event in events {
        let timed = backup::Timed { at: AT, event: fit_backup(event) };
        encode_backup(&timed).expect("it fits");
    }
}
