//! Tests the format: round trips, sizes, bytes that never change, malformed bytes.

mod backup_samples;
mod bytes;
mod round_trip;
pub(crate) mod samples;
mod sizes;
