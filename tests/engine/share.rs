//! Chooses the share of a long sweep that one test run includes.
//!
//! `cargo test` runs a share of every sweep that kills, fails or interferes at each point, to keep it short.
//! `STILLPOINT_TESTS=all` runs each sweep completely, as `.ci/run` does. The share is the same in every run.

/// Whether every sweep runs completely.
pub fn plays_all() -> bool {
    std::env::var("STILLPOINT_TESTS").is_ok_and(|wanted| wanted == "all")
}

/// Returns every `nth` item, including the first and the last one. Returns all items if every sweep runs
/// completely.
pub fn share<T>(items: Vec<T>, nth: usize) -> Vec<T> {
    let last = items.len().saturating_sub(1);
    let taken = |index: usize| plays_all() || index.is_multiple_of(nth) || index == last;
    items.into_iter().enumerate().filter(|(index, _)| taken(*index)).map(|(_, item)| item).collect()
}

/// Returns the first number for a share, and the second one if every sweep runs completely.
pub fn few_or_all(few: u64, all: u64) -> u64 {
    if plays_all() { all } else { few }
}

#[test]
fn share_includes_first_and_last_case() {
    if !plays_all() {
        assert_eq!(share((0..10).collect(), 4), [0, 4, 8, 9]);
        assert!(share(Vec::<u8>::new(), 4).is_empty());
    }
}
