//! The proof that something is on disk.

use std::ops::Deref;

/// A value whose record is on disk, also after a loss of power.
///
/// Only the journal makes one, after it wrote and synced. A function that changes the cluster
/// takes a `&Durable<Intent>`, so that an effect before its record is on disk does not compile:
///
/// ```compile_fail,E0451
/// let forged = stillpoint_journal::Durable { value: (), position: 1 };
/// ```
///
/// ```compile_fail,E0624
/// let forged = stillpoint_journal::Durable::new((), 1);
/// ```
///
/// It is neither `Clone` nor `Default`, and has no `map`, which would turn the proof for one value
/// into a proof for any other.
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

    /// The value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// Position of the last record that was appended with it.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The value alone; the proof is given up.
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
