//! Finds the known word that is closest to a misspelled one.

/// The candidate closest to `word`, if one is close enough: equal except for the case of letters, or with at
/// most a third of the letters inserted, removed or replaced.
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

/// Levenshtein distance: the number of inserted, removed or replaced letters.
fn distance(one: &str, other: &str) -> usize {
    // Longer than any name of a field or label key.
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
