//! Code that commands share: the output format flag, the printing of a value in that format, and durations of
//! flags.

use std::time::Duration;

use clap::Args;

use super::output::{self, Format};
use crate::domain::duration;
use crate::domain::problem::{About, Code, Problem};

/// The output format of a command.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// Output format
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Format,
}

/// Writes a value to stdout: as a document if the format is JSON or YAML, else as the text that `table`
/// returns.
///
/// # Errors
/// The value cannot be serialized, or stdout cannot be written.
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

/// Parses the duration of a flag. It accepts a Go duration, or a bare number of seconds as `kubectl
/// --request-timeout` does.
///
/// # Errors
/// The text has neither form, or the duration is negative.
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
    fn duration_flags_accept_go_durations_or_seconds() {
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
