//! Proves that a record is on disk.

use std::ops::Deref;

/// A value whose record is on disk, also after a loss of power.
///
/// Only the journal makes one, after a write and a sync. A function that changes the cluster takes a
/// `&Durable<Intent>`. So an effect before its record is on disk does not compile:
///
/// ```compile_fail,E0451
/// let forged = stillpoint_journal::Durable { value: (), position: 1 };
/// ```
///
/// ```compile_fail,E0624
/// let forged = stillpoint_journal::Durable::new((), 1);
/// ```
///
/// `Durable` is neither `Clone` nor `Default`. It has no `map`, because `map` would turn the proof for one
/// value into a proof for any other value.
#[derive(Debug)]
#[must_use]
pub struct Durable<T> {
    value: T,
    position: u64,
}

impl<T> Durable<T> {
    pub(crate) fn new(value: T, position: u64) -> Durable<T> {
        Durable { value, position }
    }

    pub fn get(&self) -> &T {
        &self.value
    }

    /// Position of the last record that was appended with the value.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the value and drops the proof.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Durable<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
