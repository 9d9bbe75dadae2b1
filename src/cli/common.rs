//! What commands share: the option for the format, one way to print a value in it, and durations of flags.

use std::time::Duration;

use clap::Args;

use super::output::{self, Format};
use crate::domain::duration;
use crate::domain::problem::{About, Code, Problem};

/// How data is shown.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// Format of the data on stdout.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Format,
}

/// Writes data to stdout as a document, or as what `table` makes of it.
///
/// # Errors
/// The value is no data, or stdout cannot be written.
pub fn show<T: serde::Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Problem> {
    print(&format.document(value)?.unwrap_or_else(|| table(value)))
}

/// Writes text to stdout.
///
/// # Errors
/// Stdout cannot be written.
pub fn print(text: &str) -> Result<(), Problem> {
    output::data(text).map_err(|error| {
        let about = About::new("File", "", "stdout");
        Problem::new(Code::Internal, about, format!("write the output: {error}"), "make room and try again")
    })
}

/// A duration of a flag, as Go writes them; a bare number is seconds, as in `kubectl --request-timeout`.
///
/// # Errors
/// The text is neither, or negative.
pub fn duration(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(u64::from(seconds))),
        Err(_) => {
            let parsed = duration::parse(text).map_err(|error| error.to_string());
            parsed.map(|milliseconds| Duration::from_millis(milliseconds.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_flags_are_those_of_go_or_seconds() {
        for (text, expected) in
            [("60", 60_000), ("0", 0), ("1m", 60_000), ("1.5s", 1_500), ("1h30m", 5_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        for text in ["", "soon", "-1", "-5s", "1d", "99999999999999"] {
            assert!(duration(text).is_err_and(|error| error.contains("invalid duration")), "{text}");
        }
    }
}
