//! The daemon under everything that the embedded cluster can do.
//!
//! | module | holds |
//! |---|---|
//! | `profile` | the three profiles of the embedded cluster |
//! | `cause` | one bad manner of the cluster: how it begins, how it ends |
//! | `causes` | all of them: behaviours, switches of the driver and of the cluster, faults |
//! | `hand` | what the causes do by hand |
//! | `state` | all states of a run, and how a run is brought there |
//! | `cell` | one cause in one state: what the daemon did, and whether that is right |
//! | `weather` | many groups under random faults; the same seed twice |
//! | `cross` | causes × states × profiles, as a table |
//! | `defects` | what was found, each with a scenario of its own |
//!
//! Deliberately not here: kills of the daemon, rivals of it, and the two coins of every single write, which the drills
//! and `lost_replies` cross.

mod cause;
mod causes;
mod cell;
mod cross;
mod defects;
mod hand;
mod profile;
mod state;
mod weather;
