//! Whole runs in the pure core: the machine decides, [`cluster`] answers, and somebody makes trouble.
//!
//! | module | holds |
//! |---|---|
//! | [`cluster`] | a cluster of a few lines |
//! | [`life`] | the loop of the engine without an engine, and what may go wrong in it |
//! | [`told`] | the stories: who does what to a run, and how it ends |
//! | [`steps`] | every step of every story twice, failing, half done, undone |
//! | [`regress`] | somebody who undoes what the run does, a few times or for ever |

mod cluster;
mod controllers;
mod import;
mod life;
mod regress;
mod steps;
mod told;
