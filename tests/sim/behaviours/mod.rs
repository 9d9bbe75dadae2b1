//! Tests the numbered behaviours of real control planes that a driver of group snapshots meets, one test
//! each.

mod api;
mod crds;
mod creation;
mod deletion;
mod failures;
mod importing;
mod objects;
