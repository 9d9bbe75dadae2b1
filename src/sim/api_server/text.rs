//! Serializes JSON.

use serde::Serialize;

/// Initial capacity, bytes. Most objects fit, so that the buffer need not move while it grows.
const USUAL: usize = 4096;

pub(super) fn of(value: &impl Serialize) -> Vec<u8> {
    let mut text = Vec::with_capacity(USUAL);
    // JSON values have string keys, and writes into memory do not fail.
    serde_json::to_writer(&mut text, value).expect("a JSON value can be written into memory");
    text
}
