//! The known word that somebody meant who wrote another one.

/// The candidate that is closest to `word`, if one is close: the same but for the case of letters, or at most a third of
/// the letters inserted, left out or replaced.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let most = (lower.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters that are inserted, left out or replaced between the two (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    // Beyond the longest name of a field or label key nothing is close.
    const LONGEST: usize = 320;
    let other: Vec<char> = other.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().take(LONGEST).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_word_finds_the_closest_one() {
        let fields = ["includedNamespaces", "excludedNamespaces", "snapshotMoveData", "ttl", "hooks"];
        let check =
            |word: &str, expected: Option<&str>| assert_eq!(closest(word, fields), expected, "{word}");
        check("includeNamespaces", Some("includedNamespaces"));
        check("snapshotMovedata", Some("snapshotMoveData"));
        check("TTL", Some("ttl"));
        check("ttls", Some("ttl"));
        check("hook", Some("hooks"));
        check("retention", None);
        check("", None);
        assert_eq!(
            closest("velero.io/volume-groups", ["app", "velero.io/volume-group"]),
            Some("velero.io/volume-group")
        );
    }
}
