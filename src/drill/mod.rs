//! Drills: lives of the daemon on an embedded cluster and a disk in memory, which are killed, interfered with, and
//! judged by what is left.
//!
//! Layout: [`stage`] a cluster, a disk, and lives of the daemon on both; [`rbac`] the rights that every call of a life
//! needs; [`hands`] what others do to the cluster meanwhile; [`invariants`] what has to hold afterwards.
//!
//! Not here: how the daemon recovers (`machine`, `engine`), and how the cluster behaves (`sim`).

pub mod campaign;
pub mod duel;
pub mod expect;
pub mod hands;
pub mod hunt;
pub mod invariants;
pub mod play;
pub mod pool;
pub mod rbac;
pub mod rival;
pub mod rows;
pub mod scenario;
mod script;
pub mod stage;
pub mod wire;
pub mod zombie;
