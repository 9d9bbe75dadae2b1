//! Stillpoint: crash-consistent snapshots of groups of Kubernetes volumes, by a service that never loses its place.
//!
//! # A bird's eye view
//!
//! A Velero `Backup` asks for the claims of some namespaces. Those that share one value of the group label are a
//! **group**, and all volumes of a group are cut at one instant, through a VolumeGroupSnapshot. What follows is
//! delicate: the members have to be made ordinary VolumeSnapshots and the group objects deleted, against controllers
//! that put ownership back and delete what is owned. Each group is therefore a **state machine with a journal**:
//!
//! ```text
//!            intent ──► durable ──► effects ──► outcomes ──► durable          (one step)
//!
//! Planned ─► Created ─► VSBound ─► Relabelled ─► Retained ─┃─► Cleaned ─► Completed
//!                │          │           │            │     ┃ the pivot: from here on only forward
//!                └──────────┴───────────┴────────────┴─► Unwinding ─► Failed, or another attempt
//! ```
//!
//! A process that is killed at any instruction starts again, folds its journal, looks at the cluster, and asks the
//! recovery table what to do. A first start asks the same table: there is no other way in.
//!
//! # The code, in reading order
//!
//! Four packages. `src/core`, `src/journal` and `src/sim` know nothing of each other, and no runtime, no disk and no
//! cluster is a dependency of the core; this one puts them together.
//!
//! | read | for |
//! |---|---|
//! | [`domain`] (`src/core`) | the nouns: ids, names, limits, plan, receipt, what was observed |
//! | [`machine::group::table`] (`src/core`) | **what happens next**: the recovery table, rows as data |
//! | [`machine::group`] (`src/core`) | the machine around it: event, fold, view, decide, effects |
//! | [`machine::backup`] (`src/core`) | the machine of a Backup |
//! | [`planning`] (`src/core`) | from a Backup and plain facts to plans, or to refusals |
//! | [`journal`] (`src/journal`) | **where bytes are made durable**: envelope, chain, writer, [`Durable`](journal::Durable) |
//! | [`sim`] (`src/sim`) | the embedded cluster |
//! | `records` | what the bytes of a record mean: events of the machines, versions, migrations |
//! | `api`, `cluster` | Kubernetes types; **the only place that writes to the cluster**: `perform` and `project` |
//! | `engine` | **where a Backup enters**; the one loop; the caches |
//! | `audit` | replay and description of a journal, without cluster and engine |
//! | `drill` | lives that are killed and interfered with, and what has to hold afterwards |
//! | `cli`, `service` | commands; logs, health, metrics |
//!
//! # What always holds
//!
//! - No effect without a durable intent: `perform` asks for a [`Durable`](journal::Durable), which only the journal
//!   can make, after write and sync.
//! - `decide` and `fold` are pure: clocks, randomness, environment and I/O are banned from the
//!   core by its `clippy.toml`, and no dependency of it has any of them.
//! - Every write names the uid of its object and the old value of what it replaces. Names are computed.
//! - The receipt, with every handle that a later deletion needs, is durable before anything is deleted.
//! - One journal writes to one cluster: a binding object names it, and is read again before every step that frees storage
//!   ([`domain::binding`]).
//! - The members' storage is freed by an undo, retained by a completed run, and never in between.
//!
//! What is absent on purpose: the simulator does not know the machine; the machine does not know Kubernetes types; the
//! core does not know sled; a record is never rewritten; nothing in the journal is repaired silently; no fall-back
//! from a group to single snapshots; no quiet end, because SIGTERM does what SIGKILL does.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | VGS, VGSC | VolumeGroupSnapshot, VolumeGroupSnapshotContent (`groupsnapshot.storage.k8s.io`) |
//! | VS, VSC | VolumeSnapshot, VolumeSnapshotContent (`snapshot.storage.k8s.io`) |
//! | group | the claims of one namespace that share one value of the group label key |
//! | member | one claim of a group with its volume and, later, its VS, VSC and snapshot handle |
//! | run | one request for one group: one journal stream; `attempt` counts inside it |
//! | effect | one call that changes the cluster, as data |
//! | view | what was seen, as the columns of the recovery table |
//! | intent, outcome | the record before the effects of a step, and the one after |
//! | receipt | the durable record of a finished cut |
//! | projection | a status computed from the fold; not journaled, never ahead of the durable head |
//! | binding | the ConfigMap that names the journal that may write in a namespace |
//! | epoch | one life of the daemon; each open of the journal raises it |
//! | pivot | the intent to clear the group names: after it a run only goes forward |

pub use stillpoint_core::{domain, machine, planning};
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
