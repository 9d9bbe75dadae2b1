//! Runs drills on the embedded cluster and a disk in memory: kills the daemon, disturbs it, and checks the
//! state that is left.
//!
//! | module | does |
//! |---|---|
//! | [`scenario`], [`campaign`] | names a drill; generates all drills from the machine |
//! | [`testbed`] | a cluster, a disk, and incarnations of the daemon on both |
//! | [`runner`], `schedule` | runs one drill; decides at which crash point the daemon ends |
//! | [`disruption`], [`disruptions`] | kinds of concurrent changes; the changes themselves |
//! | [`sweep`] | kills a run of any machine at each of its points |
//! | [`split_brain`], [`stale_daemon`] | two daemons at once |
//! | [`soak`] | many groups under random faults |
//! | [`rbac`] | checks the permissions of every call |
//! | [`invariants`], [`expectations`] | conditions that hold afterwards; how a drill may end |
//!
//! Not here: how the daemon recovers (`machine`, `engine`), and how the cluster behaves (`sim`).

pub mod campaign;
pub mod disruption;
pub mod disruptions;
pub mod expectations;
pub mod invariants;
pub mod pool;
pub mod rbac;
pub mod rows;
pub mod runner;
pub mod scenario;
mod schedule;
pub mod search;
pub mod soak;
pub mod split_brain;
pub mod stale_daemon;
pub mod sweep;
pub mod testbed;
pub mod wire;
