//! Defines the nouns: ids, names, limits, time as data, observed objects, plan, receipt, errors with codes.
//!
//! Everything here is plain data. This module does not read clocks, generate random numbers, open files or
//! use a Kubernetes client. Its maps are ordered. Only `api` and `cluster` know the wire format of Kubernetes
//! objects; they convert objects into the types of [`observed`].
//!
//! | module | contents |
//! |---|---|
//! | [`binding`] | which journal may write to a cluster |
//! | [`ids`] | stream ids, uids, `namespace/name` |
//! | [`names`] | computed names; Stillpoint never creates an object with a generated name |
//! | [`labels`] | labels, annotations and finalizers of Stillpoint, Velero and the snapshot controllers |
//! | [`limits`] | every limit, and the relations between them |
//! | [`time`] | times and durations as data |
//! | [`duration`] | parser of durations in the format of Go |
//! | [`spelling`] | the known word that is closest to a misspelled one |
//! | [`plan`] | the plan of one group run, as recorded by `Planned` |
//! | [`observed`] | objects that were read from the cluster |
//! | [`receipt`] | the durable record of a finished cut |
//! | [`atomicity`] | how far apart the members of a group were cut, and whether the plan accepts it |
//! | [`problem`] | errors with code, object, reason and fix |
//! | [`text`] | text helpers for messages |
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
pub mod problem;
pub mod receipt;
pub mod spelling;
pub mod text;
pub mod time;
