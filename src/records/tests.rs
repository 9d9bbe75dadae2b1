//! The format as its readers rely on it: there and back, sizes, bytes that never change, bytes that are wrong.

mod bytes;
mod round_trip;
mod samples;
mod sizes;
