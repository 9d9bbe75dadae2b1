//! Scenarios on a running cluster in paused time: properties that were recorded from the real controllers.

mod creation;
mod deletion;
mod failures;
mod fixed;
mod lab;
mod release;
mod single;
