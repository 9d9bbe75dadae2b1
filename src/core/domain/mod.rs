//! Nouns: ids, names, limits, time as data, observed objects, plan, receipt, errors with codes.
//!
//! Everything here is plain data. Nothing reads a clock, draws a random number, opens a file or knows a Kubernetes
//! client; the maps are ordered. What an object of the cluster looks like on the wire is known to `api` and
//! `cluster` only: they turn it into the types of [`observed`].
//!
//! | module | holds |
//! |---|---|
//! | [`binding`] | which journal may write to a cluster |
//! | [`ids`] | stream ids, uids, `namespace/name` |
//! | [`names`] | computed names: nothing that Stillpoint makes has a generated one |
//! | [`labels`] | labels, annotations and finalizers, ours and those of others that we touch |
//! | [`limits`] | every limit, and the relations between them |
//! | [`time`] | times and durations as data |
//! | [`duration`] | durations as Go writes them |
//! | [`spelling`] | the known word that is closest to a misspelled one |
//! | [`plan`] | the plan of one group run: what `Planned` records |
//! | [`planted`] | defects on purpose, in a build that asks for them |
//! | [`observed`] | what was read back from the cluster |
//! | [`receipt`] | the durable record of a finished cut |
//! | [`atomicity`] | how far apart the members of a group were cut, and whether that is accepted |
//! | [`problem`] | errors with codes, object, reason and way out |
//! | [`text`] | words for people that several parts need |
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod atomicity;
pub mod binding;
pub mod duration;
pub mod ids;
pub mod labels;
pub mod limits;
pub mod names;
pub mod observed;
pub mod plan;
pub mod planted;
pub mod problem;
pub mod receipt;
pub mod spelling;
pub mod text;
pub mod time;
