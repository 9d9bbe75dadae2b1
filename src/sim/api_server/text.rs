//! JSON as text.

use serde::Serialize;

/// Most objects fit, so that the text need not move while it grows.
const USUAL: usize = 4096;

/// The value as JSON text.
pub(super) fn of(value: &impl Serialize) -> Vec<u8> {
    let mut text = Vec::with_capacity(USUAL);
    // JSON values have text keys, and memory takes what it is given.
    serde_json::to_writer(&mut text, value).expect("a JSON value can be written into memory");
    text
}
