//! Tests the engine on the embedded cluster, on simulated time: one binary, with one module for each
//! guarantee.

#[path = "engine/asked.rs"]
mod asked;
#[path = "engine/atomic.rs"]
mod atomic;
#[path = "engine/backups.rs"]
mod backups;
#[path = "engine/beginning.rs"]
mod beginning;
#[path = "engine/binding.rs"]
mod binding;
#[path = "engine/complete.rs"]
mod complete;
#[path = "engine/doors.rs"]
mod doors;
#[path = "engine/faults.rs"]
mod faults;
#[path = "engine/fence.rs"]
mod fence;
#[path = "engine/killed.rs"]
mod killed;
#[path = "engine/lost_replies.rs"]
mod lost_replies;
#[path = "engine/meddle.rs"]
mod meddle;
#[path = "engine/mutants.rs"]
mod mutants;
#[path = "engine/namespace.rs"]
mod namespace;
#[path = "engine/permissions.rs"]
mod permissions;
#[path = "engine/reasons.rs"]
mod reasons;
#[path = "engine/rebuilt.rs"]
mod rebuilt;
#[path = "engine/refused.rs"]
mod refused;
#[path = "engine/release.rs"]
mod release;
#[path = "engine/requests.rs"]
mod requests;
#[path = "engine/rows.rs"]
mod rows;
#[path = "engine/share.rs"]
mod share;
#[path = "engine/silent.rs"]
mod silent;
#[path = "engine/spec.rs"]
mod spec;
#[path = "engine/starting.rs"]
mod starting;
#[path = "engine/told.rs"]
mod told;
#[path = "engine/toy.rs"]
mod toy;
#[path = "engine/under/mod.rs"]
mod under;
#[path = "engine/undo.rs"]
mod undo;
#[path = "engine/versions.rs"]
mod versions;
#[path = "engine/waits.rs"]
mod waits;
#[path = "engine/writes.rs"]
mod writes;

use stillpoint::drill::{disruptions, invariants, testbed};
