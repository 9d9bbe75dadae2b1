//! The embedded cluster against what was measured on real ones: one binary, a module for each table.
//!
//! Nothing of Stillpoint but the simulator is imported here.

#[path = "sim/behaviours/mod.rs"]
mod behaviours;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/history.rs"]
mod history;
#[path = "sim/kubectl.rs"]
mod kubectl;
#[path = "sim/lab.rs"]
mod lab;
#[path = "sim/outcomes.rs"]
mod outcomes;
#[path = "sim/recordings.rs"]
mod recordings;
#[path = "sim/script.rs"]
mod script;
#[path = "sim/stress.rs"]
mod stress;
#[path = "sim/stress_undo.rs"]
mod stress_undo;
#[path = "sim/switches.rs"]
mod switches;
#[path = "sim/table.rs"]
mod table;
#[path = "sim/variants.rs"]
mod variants;
