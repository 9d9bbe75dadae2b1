//! Tests complete runs in the pure core: the machine decides, [`cluster`] answers, and faults are injected.
//!
//! | module | contents |
//! |---|---|
//! | [`cluster`] | a minimal cluster |
//! | [`life`] | the loop of the engine without an engine, and its faults |
//! | [`told`] | the stories: a disruption of a run, and its result |
//! | [`steps`] | every step of every story executed twice, failed, half applied and reverted |
//! | [`regress`] | clients that revert changes of the run, a few times or for ever |

mod cluster;
mod controllers;
mod import;
mod life;
mod regress;
mod steps;
mod told;
