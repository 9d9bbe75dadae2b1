//! What commands share: the option for the format, and one way to print a value in it.

use clap::Args;

use super::output::{self, Format};
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
