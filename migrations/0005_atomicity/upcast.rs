//! Kind 1, version 1 to 2: how far apart the members of a group may be cut. Kind 17, version 1 to 2: warnings of the end.
//!
//! Version 1 of a plan was written where the answer is one second and no more than a warning, or where nobody asked.
//! Version 1 of an end was written where there is no warning.

use bincode::{Decode, Encode};

use crate::domain::atomicity::Demand;
use crate::records::migrations::Upcaster;
use crate::records::v1::{backup as v1_backup, group as v1_group};
use crate::records::v2::{backup as v2_backup, group as v2_group};
use crate::records::{encode, kind, read};

/// The step of a plan.
pub const PLANNED: Upcaster = Upcaster { kind: kind::GROUP_PLANNED, from: 1, to: 2, apply: planned };

/// The step of the end of a Backup.
pub const FINISHED: Upcaster = Upcaster { kind: kind::BACKUP_FINISHED, from: 1, to: 2, apply: finished };

fn planned(payload: &[u8]) -> Result<Vec<u8>, String> {
    let Demand { max_skew, required } = Demand::UNRECORDED;
    step(kind::GROUP_PLANNED, payload, |plan: v1_group::Planned| v2_group::Planned {
        plan,
        max_skew_ms: max_skew.0,
        require_atomic: required,
    })
}

fn finished(payload: &[u8]) -> Result<Vec<u8>, String> {
    step(kind::BACKUP_FINISHED, payload, |end: v1_backup::Finished| v2_backup::Finished {
        end,
        warnings: Vec::new(),
    })
}

fn step<V1: Decode<()>, V2: Encode>(
    kind: u16,
    payload: &[u8],
    upcast: impl FnOnce(V1) -> V2,
) -> Result<Vec<u8>, String> {
    let upcasted = read(kind, payload).and_then(|old| encode(kind, &upcast(old)));
    upcasted.map(|(_, payload)| payload).map_err(|error| error.to_string())
}
