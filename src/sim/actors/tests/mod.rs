//! Scenarios on a running cluster, on paused time: what was recorded of the real controllers, as properties.

mod creation;
mod deletion;
mod failures;
mod fixed;
mod lab;
mod release;
mod single;
