//! Parses durations in the format of Go: `10m0s`, `1h30m`, `1.5h`. Used for all fields and flags that hold a
//! duration.
//!
//! Source: Go's `time.ParseDuration` (package `time`, `format.go`), which `metav1.Duration` of every
//! Kubernetes type uses. [`nanoseconds`] accepts and refuses exactly the same texts, and returns the same
//! values. A duration is an optional sign, followed by numbers with or without a fraction, each with a unit
//! (`ns`, `us`, `µs`, `μs`, `ms`, `s`, `m`, `h`), or a bare `0`. There is no unit for days.

use crate::domain::time::Millis;

/// Nanoseconds of each unit.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, micro sign
    ("μs", 1_000), // U+03BC, Greek letter mu
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// The smallest number of nanoseconds that does not fit into a Go duration. Its negative does fit.
const TOO_LONG: u64 = 1 << 63;

/// The text is not a duration, or not valid as a timeout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {text:?}: {reason}; write it as 10m or 1h30m")]
pub struct InvalidDuration {
    text: String,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("it is empty")]
    Empty,
    #[error("there is no number before {0:?}")]
    NoNumber(String),
    #[error("there is no unit after {0:?}")]
    NoUnit(String),
    #[error("the unit {0:?} is not one of ns, us, ms, s, m, h")]
    UnknownUnit(String),
    #[error("it is longer than 292 years")]
    TooLong,
    #[error("it is negative")]
    Negative,
}

/// Parses a duration that must not be negative. Rounds up to whole milliseconds.
///
/// # Errors
/// The text is not a duration, or it is negative.
pub fn parse(text: &str) -> Result<Millis, InvalidDuration> {
    let nanoseconds = u64::try_from(nanoseconds(text)?).map_err(|_| invalid(text, Reason::Negative))?;
    Ok(Millis(nanoseconds.div_ceil(1_000_000)))
}

/// Parses a duration in nanoseconds, exactly as Go does.
///
/// # Errors
/// The text is not a duration.
pub fn nanoseconds(text: &str) -> Result<i64, InvalidDuration> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let total = match unsigned {
        "0" => 0,
        "" => return Err(invalid(text, Reason::Empty)),
        parts => sum(parts).map_err(|reason| invalid(text, reason))?,
    };
    match negative {
        true => Ok(0_i64.wrapping_sub_unsigned(total)),
        false => i64::try_from(total).map_err(|_| invalid(text, Reason::TooLong)),
    }
}

fn invalid(text: &str, reason: Reason) -> InvalidDuration {
    // The text may have any length. The error keeps its first 40 characters.
    let shown: String = text.chars().take(40).collect();
    InvalidDuration { text: shown, reason }
}

/// The sum of `1h30m5.5s`, at most [`TOO_LONG`].
fn sum(mut rest: &str) -> Result<u64, Reason> {
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (nanoseconds, after) = part(rest)?;
        total = total.checked_add(nanoseconds).filter(|sum| *sum <= TOO_LONG).ok_or(Reason::TooLong)?;
        rest = after;
    }
    Ok(total)
}

/// Parses one number with its unit. Returns the rest of the text as well.
fn part(text: &str) -> Result<(u64, &str), Reason> {
    let (whole, after) = split_digits(text);
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => split_digits(after),
        None => ("", after),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(Reason::NoNumber(text.chars().take(20).collect()));
    }
    let whole = integer(whole)?;
    let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
    let (unit, rest) = after.split_at(end);
    if unit.is_empty() {
        return Err(Reason::NoUnit(text[..text.len() - rest.len()].chars().take(20).collect()));
    }
    let known = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, nanoseconds)| *nanoseconds);
    let unit = known.ok_or_else(|| Reason::UnknownUnit(unit.chars().take(20).collect()))?;
    if whole > TOO_LONG / unit {
        return Err(Reason::TooLong);
    }
    let nanoseconds = whole * unit + fraction_of(fraction, unit);
    if nanoseconds > TOO_LONG { Err(Reason::TooLong) } else { Ok((nanoseconds, rest)) }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn integer(digits: &str) -> Result<u64, Reason> {
    digits
        .bytes()
        .try_fold(0_u64, |number, digit| {
            let larger = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            Some(larger).filter(|larger| *larger <= TOO_LONG)
        })
        .ok_or(Reason::TooLong)
}

/// Converts the digits after the decimal point into nanoseconds, for a unit. Drops digits that no longer fit,
/// and calculates in floating point as Go does, so that every value equals Go's.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let (mut number, mut scale) = (0_u64, 1.0_f64);
    for digit in digits.bytes() {
        if number > (TOO_LONG - 1) / 10 {
            break;
        }
        let larger = number * 10 + u64::from(digit - b'0');
        if larger > TOO_LONG {
            break;
        }
        number = larger;
        scale *= 10.0;
    }
    if number == 0 { 0 } else { (number as f64 * (unit as f64 / scale)) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;

    /// Examples from the documentation of Go's `time.ParseDuration`, and edge cases.
    #[test]
    fn durations_match_values_of_go() {
        let table = [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("5s", 5 * SECOND),
            ("30s", 30 * SECOND),
            ("1478s", 1478 * SECOND),
            ("-5s", -5 * SECOND),
            ("+5m", 5 * MINUTE),
            ("-5m", -5 * MINUTE),
            ("5.0s", 5 * SECOND),
            ("5.6s", 5 * SECOND + 600_000_000),
            ("5.s", 5 * SECOND),
            (".5s", 500_000_000),
            ("-.5s", -500_000_000),
            ("1.0s", SECOND),
            ("1.004s", SECOND + 4_000_000),
            ("100.00100s", 100 * SECOND + 1_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("13ms", 13_000_000),
            ("14s", 14 * SECOND),
            ("15m", 15 * MINUTE),
            ("16h", 16 * HOUR),
            ("720h", 720 * HOUR),
            ("1.5h", HOUR + 30 * MINUTE),
            ("1h30m", HOUR + 30 * MINUTE),
            ("3h30m", 3 * HOUR + 30 * MINUTE),
            ("10.5s4m", 4 * MINUTE + 10 * SECOND + 500_000_000),
            ("-2m3.4s", -(2 * MINUTE + 3 * SECOND + 400_000_000)),
            ("1h2m3s4ms5us6ns", HOUR + 2 * MINUTE + 3 * SECOND + 4_005_006),
            ("39h9m14.425s", 39 * HOUR + 9 * MINUTE + 14 * SECOND + 425_000_000),
            ("1m1m", 2 * MINUTE),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 20 * MINUTE),
            ("9007199254740993ns", 9_007_199_254_740_993),
            ("9223372036854775807ns", i64::MAX),
            ("9223372036854775.807us", i64::MAX),
            ("9223372036s854ms775us807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("-9223372036854775.808us", i64::MIN),
            ("0.100000000000000000000h", 6 * MINUTE),
            ("0.830103483285477580700h", 49 * MINUTE + 48 * SECOND + 372_539_827),
        ];
        for (text, expected) in table {
            assert_eq!(nanoseconds(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn rejects_durations_that_go_rejects() {
        let table = [
            ("", "it is empty"),
            ("-", "it is empty"),
            ("+", "it is empty"),
            ("3", "no unit after \"3\""),
            ("1.5", "no unit after \"1.5\""),
            ("1h30", "no unit after \"30\""),
            ("s", "no number before \"s\""),
            (".", "no number before \".\""),
            ("-.", "no number before \".\""),
            (".s", "no number before \".s\""),
            ("+.s", "no number before"),
            ("banana", "no number before \"banana\""),
            (" 5s", "no number before"),
            ("--5s", "no number before"),
            ("1d", "the unit \"d\""),
            ("2w", "the unit \"w\""),
            ("5S", "the unit \"S\""),
            ("1 h", "the unit \" h\""),
            ("10m ", "the unit \"m \""),
            ("1h-5m", "the unit \"h-\""),
            ("\u{85}\u{85}", "no number before"),
            ("3000000h", "longer than"),
            ("9223372036854775808ns", "longer than"),
            ("9223372036854775.808us", "longer than"),
            ("9223372036854ms775us808ns", "longer than"),
            ("-9223372036854775809ns", "longer than"),
            ("99999999999999999999999999999s", "longer than"),
        ];
        for (text, expected) in table {
            let message = nanoseconds(text).expect_err(text).to_string();
            assert!(message.contains(expected) && message.contains("invalid duration"), "{text}: {message}");
        }
        let long = nanoseconds(&"9".repeat(1 << 20)).expect_err("too long").to_string();
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn timeouts_are_whole_milliseconds_and_never_negative() {
        assert_eq!(parse("1h30m"), Ok(Millis(5_400_000)));
        assert_eq!(parse("500ms"), Ok(Millis(500)));
        assert_eq!(parse("1us"), Ok(Millis(1)), "a timeout is never rounded to none");
        assert_eq!(parse("0"), Ok(Millis(0)));
        let message = parse("-5m").expect_err("negative").to_string();
        assert_eq!(message, "invalid duration \"-5m\": it is negative; write it as 10m or 1h30m");
    }
}
