//! Tests the format: round trips, sizes, bytes that never change, malformed bytes.

mod bytes;
mod round_trip;
mod samples;
mod sizes;
