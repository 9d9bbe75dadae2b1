//! Shortens the texts of an event until it fits into a record.
//!
//! One error message has at most [`limits::MAX_TEXT_BYTES`], but the messages of all members of a large
//! group, or of all groups of a Backup, can exceed the size of a record. The caller fits an event before it
//! folds and appends it, so that the state in memory equals the journal.

use super::{MAX_PAYLOAD_BYTES, WireError, encode_group};
use crate::domain::limits;
use crate::domain::time::Timestamp;
use crate::machine::group::Event;
use crate::machine::group::Timed;
use crate::machine::kit::Outcome;

/// Text lengths to be tried in turn, in bytes.
pub(super) const LENGTHS: [usize; 4] = [256, 128, 64, 32];

const _: () = {
    // An outcome consists of its text and a few bytes; a rebuild has two effects for each member.
    assert!(2 * limits::MAX_MEMBERS * (LENGTHS[1] + 64) < MAX_PAYLOAD_BYTES);
    // A refused group consists of two label values and its text.
    assert!(limits::MAX_GROUPS_PER_BACKUP * (LENGTHS[2] + 2 * 63 + 16) < MAX_PAYLOAD_BYTES);
};

/// The event, with the messages of its outcomes shortened if it would not fit otherwise.
pub fn fit_group(event: Event) -> Event {
    let at = Timestamp(0);
    let mut timed = Timed { at, event };
    for length in LENGTHS {
        if !matches!(encode_group(&timed), Err(WireError::TooLarge { .. })) {
            break;
        }
        let Event::StepCompleted { outcomes, .. } = &mut timed.event else { break };
        outcomes.iter_mut().for_each(|outcome| match outcome {
            Outcome::Done { .. } => {}
            Outcome::Determinate { message, .. } | Outcome::Indeterminate { message } => cut(message, length),
        });
    }
    timed.event
}

pub(super) fn cut(text: &mut String, length: usize) {
    *text = limits::clip_to(text, length);
}
