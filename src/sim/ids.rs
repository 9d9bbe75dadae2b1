//! Uids and handles, determined only by a seed and a name.
//!
//! They do not depend on the order of requests for other names. One seed therefore gives the same ids even if
//! several controllers run concurrently in real time.

use std::collections::BTreeMap;

/// A generator of ids.
#[derive(Debug)]
pub(super) struct Ids {
    seed: u64,
    /// Number of ids given out per name, by the hash of the name.
    given: BTreeMap<[u8; 32], u64>,
}

impl Ids {
    /// `purpose` separates the ids of two sources with the same seed.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let seed = blake3::hash(&[&seed.to_be_bytes(), purpose.as_bytes()].concat());
        let seed = seed.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Self { seed, given: BTreeMap::new() }
    }

    /// The next version 4 UUID of that name.
    pub fn next(&mut self, name: &[&str]) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in name {
            hasher.update(&part.len().to_be_bytes()).update(part.as_bytes());
        }
        let name = *hasher.finalize().as_bytes();
        let given = self.given.entry(name).or_default();
        *given += 1;
        let mixed = blake3::hash(&[&self.seed.to_be_bytes()[..], &name, &given.to_be_bytes()].concat());
        let bytes = mixed.as_bytes().first_chunk().copied().unwrap_or_default();
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_and_name_give_same_id() {
        let (mut one, mut other) = (Ids::new(7, "x"), Ids::new(7, "x"));
        let (a, b) = (one.next(&["a"]), one.next(&["b"]));
        assert_eq!((other.next(&["b"]), other.next(&["a"])), (b, a));
        assert_eq!(one.next(&["a"]), other.next(&["a"]));
    }

    #[test]
    fn different_seed_or_name_gives_different_id() {
        let mut ids = Ids::new(7, "x");
        let mut all: Vec<String> =
            [["a", "bc"], ["ab", "c"], ["a", "bc"]].iter().map(|name| ids.next(name)).collect();
        all.push(Ids::new(8, "x").next(&["a", "bc"]));
        all.push(Ids::new(7, "y").next(&["a", "bc"]));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 5);
    }
}
