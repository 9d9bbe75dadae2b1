//! Text helpers for messages.

use std::fmt::Display;

/// `1 claim`, `2 claims`.
pub fn count<N: Display + PartialEq + From<u8>>(n: N, noun: &str) -> String {
    match n == N::from(1) {
        true => format!("{n} {noun}"),
        false => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_of_one_is_singular() {
        assert_eq!([0, 1, 2].map(|n: usize| count(n, "group")), ["0 groups", "1 group", "2 groups"]);
        assert_eq!(count(1_u64, "record"), "1 record");
    }
}
