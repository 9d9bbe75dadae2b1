//! Stillpoint: crash-consistent snapshots of groups of Kubernetes volumes.
//!
//! # A bird's eye view
//!
//! A Velero `Backup` selects the PVCs of some namespaces. PVCs of one namespace that share one value of the
//! group label form a **group**. All volumes of a group are cut at one instant, through a
//! VolumeGroupSnapshot. The steps after the cut are the difficult ones: Stillpoint converts the members to
//! ordinary VolumeSnapshots and deletes the group objects, while controllers restore owner references and
//! delete owned objects. Each group is therefore a **state machine with a journal**:
//!
//! ```text
//!            intent ──► durable ──► effects ──► outcomes ──► durable          (one step)
//!
//! Planned ─► Created ─► VSBound ─► Relabelled ─► Retained ─┃─► Cleaned ─► Completed
//!                │          │           │            │     ┃ the pivot: from here on only forward
//!                └──────────┴───────────┴────────────┴─► Unwinding ─► Failed, or another attempt
//! ```
//!
//! A process that is killed at any instruction starts again, folds its journal, reads the cluster, and gets
//! the next step from the recovery table. A first start uses the same table: there is no separate start path.
//!
//! # The code, in reading order
//!
//! Four packages. `src/core`, `src/journal` and `src/sim` do not depend on each other. The core does not
//! depend on a runtime, a disk or a cluster. This package combines the three.
//!
//! | read | for |
//! |---|---|
//! | [`domain`] (`src/core`) | the nouns: ids, names, limits, plan, receipt, observation |
//! | [`machine::group::table`] (`src/core`) | **the next step of a run**: the recovery table, rows as data |
//! | [`machine::kit`] (`src/core`) | the kit that carries every machine: fold, table, proof, decision, calls as data, crash points |
//! | [`machine::group`] (`src/core`) | what a group run adds to the kit: steps, milestones, columns, effects |
//! | [`machine::backup`] (`src/core`) | the machine of a Backup |
//! | [`planning`] (`src/core`) | from a Backup and the inventory of the cluster to plans, or to refusals |
//! | [`journal`] (`src/journal`) | **the place where bytes become durable**: envelope, chain, writer, [`Durable`](journal::Durable) |
//! | [`sim`] (`src/sim`) | the embedded cluster |
//! | `records` | the meaning of the bytes of a record: events of the machines, versions, migrations |
//! | `api`, `cluster` | Kubernetes types; **the only place that writes to the cluster**: `perform` and `project` |
//! | `engine` | **the entry point of a Backup**; the one loop of every machine; the caches |
//! | `audit` | replay and description of a journal, without cluster and engine |
//! | `drill` | kills the daemon, injects faults and concurrent changes, and checks the invariants afterwards |
//! | `cli`, `service` | commands; logs, health, metrics |
//!
//! # Invariants
//!
//! - No effect without a durable intent: `perform` requires a [`Durable`](journal::Durable). Only the journal
//!   can create one, after write and sync.
//! - `decide` and `fold` are pure. The `clippy.toml` of the core bans clocks, randomness, environment and
//!   I/O, and no dependency of the core has any of them.
//! - Every write names the uid of its object and the old value of the field that it replaces. Names are
//!   computed.
//! - The receipt is durable before anything is deleted. It contains every handle that a later deletion needs.
//! - One journal writes to one cluster. A binding object names the journal. The daemon reads the binding
//!   again before every step that frees storage ([`domain::binding`]).
//! - A rollback frees the storage of the members, and a completed run retains it. No other step of a run
//!   frees it.
//!
//! Absent on purpose:
//!
//! - The simulator does not know the machine. The machine does not know Kubernetes types. The core does not
//!   know sled.
//! - A record is never rewritten. Nothing in the journal is repaired silently.
//! - No fall-back from a group to single snapshots.
//! - No graceful shutdown: SIGTERM has the effect of SIGKILL.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | VGS, VGSC | VolumeGroupSnapshot, VolumeGroupSnapshotContent (`groupsnapshot.storage.k8s.io`) |
//! | VS, VSC | VolumeSnapshot, VolumeSnapshotContent (`snapshot.storage.k8s.io`) |
//! | group | the PVCs of one namespace that share one value of the group label key |
//! | member | one PVC of a group with its volume and, later, its VS, VSC and snapshot handle |
//! | run | one request for one group: one journal stream; `attempt` counts inside it |
//! | plan | the first record of a run: everything that is settled before the first effect |
//! | effect | one call that changes the cluster, as data |
//! | cut | the instant at which the driver takes the group snapshot; to take it |
//! | view | the recorded observation, as the columns of the recovery table |
//! | recovery table, row | the table that decides the next step of a run; exactly one row matches each situation |
//! | intent, outcome | the record before the effects of a step; the record after them |
//! | milestone | the record that a run has reached a state, for example Created or Retained |
//! | receipt | the durable record of a finished cut |
//! | projection | a status computed from the fold; not journaled, never ahead of the durable head |
//! | binding | the ConfigMap that names the journal that may write in a namespace |
//! | epoch | start counter of the daemon and fencing token; each open of the journal raises it |
//! | pivot | the point of no return: the intent to clear the group names; after it a run only goes forward |
//! | drill | one automatic test of crash recovery: the daemon is killed or disturbed, then the invariants are checked |
//! | disruption | a concurrent change of the cluster that a drill makes on purpose |

pub use stillpoint_core::{columns, domain, machine, named, planning, rows};
pub use stillpoint_journal as journal;
pub use stillpoint_sim as sim;

pub mod api;
pub mod audit;
pub mod cli;
pub mod cluster;
pub mod drill;
pub mod engine;
pub mod records;
pub mod service;
