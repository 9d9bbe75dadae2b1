//! Tests the daemon under everything that the embedded cluster can do.
//!
//! | module | contains |
//! |---|---|
//! | `profile` | the three profiles of the embedded cluster |
//! | `cause` | one kind of misbehaviour of the cluster: how it begins, how it ends |
//! | `causes` | all of them: behaviours, switches of the driver and of the cluster, faults |
//! | `hand` | changes that the causes make to objects |
//! | `state` | all states of a run, and how a run is brought into each |
//! | `cell` | one cause in one state: the actions of the daemon, and whether they are correct |
//! | `weather` | many groups under random faults; the same seed twice |
//! | `cross` | causes × states × profiles, as a table |
//! | `defects` | defects that were found, each with its own scenario |
//!
//! Deliberately not here: kills of the daemon, disruptions of it, and the two random outcomes of every single
//! write. The drills and `lost_replies` cross them.

mod cause;
mod causes;
mod cell;
mod cross;
mod defects;
mod hand;
mod profile;
mod state;
mod weather;
