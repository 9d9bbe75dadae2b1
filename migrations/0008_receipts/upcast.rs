//! Kinds 1 and 5, version 2 to 3: what a reclaim and a restore need besides handles. Earlier releases did not record it.

use bincode::{Decode, Encode};

use crate::records::migrations::Upcaster;
use crate::records::v2::group as v2;
use crate::records::v3::group as v3;
use crate::records::{encode, kind, read};

/// The step of a plan.
pub const PLANNED: Upcaster = Upcaster { kind: kind::GROUP_PLANNED, from: 2, to: 3, apply: planned };

/// The step of a milestone.
pub const REACHED: Upcaster = Upcaster { kind: kind::GROUP_REACHED, from: 2, to: 3, apply: reached };

fn planned(payload: &[u8]) -> Result<Vec<u8>, String> {
    step(kind::GROUP_PLANNED, payload, |plan: v2::Planned| v3::Planned {
        plan,
        class: None,
        claims: Vec::new(),
    })
}

fn reached(payload: &[u8]) -> Result<Vec<u8>, String> {
    step(kind::GROUP_REACHED, payload, |reached: v2::Reached| v3::Reached { reached, provenance: None })
}

fn step<V2: Decode<()>, V3: Encode>(
    kind: u16,
    payload: &[u8],
    upcast: impl FnOnce(V2) -> V3,
) -> Result<Vec<u8>, String> {
    let upcasted = read(kind, payload).and_then(|old| encode(kind, &upcast(old)));
    upcasted.map(|(_, payload)| payload).map_err(|error| error.to_string())
}
