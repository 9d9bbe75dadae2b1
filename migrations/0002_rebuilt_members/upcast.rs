//! Kind 5, version 1 to 2: `cleaned` names the members that were rebuilt.
//!
//! Version 1 did not record them, so that the answer is none. All other milestones keep what they say.

use crate::records::migrations::Upcaster;
use crate::records::v1::group as v1;
use crate::records::v2::group as v2;
use crate::records::{WireError, encode, kind, read};

/// The step.
pub const STEP: Upcaster = Upcaster { kind: kind::GROUP_REACHED, from: 1, to: 2, apply };

/// The number of the milestone `cleaned`.
const CLEANED: u16 = 6;

fn apply(payload: &[u8]) -> Result<Vec<u8>, String> {
    step(payload).map_err(|error| error.to_string())
}

fn step(payload: &[u8]) -> Result<Vec<u8>, WireError> {
    let v1::Reached { grounds, milestone, facts } = read(kind::GROUP_REACHED, payload)?;
    let facts = match facts {
        v1::Facts::Nothing if milestone == CLEANED => v2::Facts::Rebuilt(Vec::new()),
        v1::Facts::Nothing => v2::Facts::Nothing,
        v1::Facts::Created { uid } => v2::Facts::Created { uid },
        v1::Facts::Cut { group_handle } => v2::Facts::Cut { group_handle },
        v1::Facts::Receipt(head) => v2::Facts::Receipt(head),
        v1::Facts::Reason(reason) => v2::Facts::Reason(reason),
    };
    let (_, payload) = encode(kind::GROUP_REACHED, &v2::Reached { grounds, milestone, facts })?;
    Ok(payload)
}
