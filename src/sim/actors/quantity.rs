//! Formats and parses sizes and times of Kubernetes.

use jiff::Timestamp;

/// Formats bytes as a binary quantity in canonical form: the largest binary suffix that leaves an integer.
pub(crate) fn binary(bytes: i64) -> String {
    const SUFFIXES: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut value = bytes;
    let mut suffix = "";
    for next in SUFFIXES {
        if value == 0 || value % 1024 != 0 {
            break;
        }
        value /= 1024;
        suffix = next;
    }
    format!("{value}{suffix}")
}

/// Parses a quantity such as `10Gi`, `5M` or `1024` into bytes. Returns `None` if it is not an integer with a
/// known suffix or does not fit.
pub(crate) fn bytes(quantity: &str) -> Option<i64> {
    let digits = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: i64 = match &quantity[digits.len()..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

/// Formats nanoseconds since 1970 as a `metav1.Time`: UTC, whole seconds.
pub(crate) fn rfc3339(unix_ns: i64) -> String {
    let second = Timestamp::from_second(unix_ns.div_euclid(1_000_000_000)).unwrap_or(Timestamp::UNIX_EPOCH);
    second.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_canonical_and_parse_back() {
        for (text, value) in [("10Mi", 10 << 20), ("1Gi", 1 << 30), ("1500", 1500), ("0", 0)] {
            assert_eq!(binary(value), text);
            assert_eq!(bytes(text), Some(value));
        }
        assert_eq!(bytes("5G"), Some(5_000_000_000));
        assert_eq!(bytes("many"), None);
    }

    #[test]
    fn times_are_whole_seconds_in_utc() {
        assert_eq!(rfc3339(1_795_197_784_180_717_886), "2026-11-20T18:03:04Z");
    }
}
