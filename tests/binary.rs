//! The program itself: real processes that talk HTTP on 127.0.0.1, with their journals on disk.
//!
//! | module | holds |
//! |---|---|
//! | [`killed`], [`killed_outside`] | SIGKILL at every crash point, twice, and at any moment |
//! | [`asked`] | requests of operators |
//! | [`silent`] | an API server that does not answer |
//! | [`owner`] | two daemons and one journal |
//! | [`demo`], [`journal`], [`sim`], [`generated`] | what the commands promise to programs |
//! | [`exported`], [`forger`] | exported journals, honest and forged |
//! | [`verdicts`] | every verdict about a directory |
//! | [`archived`] | archives and the live journal as one |
//! | [`beside`] | the journal's commands beside a daemon |
//! | [`recovery`] | figures of a start with many unfinished runs; ignored by default |
//! | [`process`], [`stage`], [`invariants`] | what they all stand on |
//!
//! Nothing waits for a time: everything waits for a condition, and a wait of two minutes is a hang. The processes of
//! a test end with it, and what they said is printed when it fails.

#[path = "binary/archived.rs"]
mod archived;
#[path = "binary/asked.rs"]
mod asked;
#[path = "binary/beside.rs"]
mod beside;
#[path = "binary/demo.rs"]
mod demo;
#[path = "binary/exported.rs"]
mod exported;
#[path = "binary/forger.rs"]
mod forger;
#[path = "binary/generated.rs"]
mod generated;
#[path = "binary/invariants.rs"]
mod invariants;
#[path = "binary/journal.rs"]
mod journal;
#[path = "binary/killed.rs"]
mod killed;
#[path = "binary/killed_outside.rs"]
mod killed_outside;
#[path = "binary/orphans.rs"]
mod orphans;
#[path = "binary/owner.rs"]
mod owner;
#[path = "binary/process.rs"]
mod process;
#[path = "binary/recovery.rs"]
mod recovery;
#[path = "binary/silent.rs"]
mod silent;
#[path = "binary/sim.rs"]
mod sim;
#[path = "binary/stage.rs"]
mod stage;
#[path = "binary/verdicts.rs"]
mod verdicts;
