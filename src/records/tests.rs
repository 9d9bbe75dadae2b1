//! Tests the format: round trips, sizes, bytes that never change, malformed bytes.

mod backup_samples;
mod bytes;
mod round_trip;
pub(super) mod samples;
mod sizes;
