//! `journal rebuild --from-index`: replaces the records that the log cannot read with those of its index.

use std::path::Path;

use serde::Serialize;

use super::problems;
use crate::cli::common::show;
use crate::cli::output::{Format, exit};
use crate::domain::problem::Problem;
use crate::journal::{Head, Journal, Rebuilt};
use crate::records::journal_options;

/// The output of the command.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// Number of records that came from the index.
    replaced: u64,
    /// The last record of the rebuilt log.
    last: u64,
    /// The last record that existed, if it is lost.
    lost: Option<u64>,
    /// The last epoch that was claimed, if its records may be lost.
    lost_epoch: Option<u64>,
}

pub(super) fn run(
    dir: &Path,
    format: Format,
    published: Option<Head>,
    accept_loss: bool,
) -> Result<u8, Problem> {
    let rebuilt = Journal::rebuild_from_index(dir, &journal_options(), published, accept_loss);
    let rebuilt = rebuilt.map_err(|error| problems::unreadable(dir, &error))?;
    let Rebuilt { replaced, last, lost, lost_epoch } = rebuilt;
    let text = |_: &Shown| {
        format!(
            "{rebuilt}\nthe damaged log was renamed\nstart the daemon, or check with `stillpoint journal verify`\n"
        )
    };
    show(format, &Shown { replaced, last, lost, lost_epoch }, text)?;
    Ok(if lost.is_none() && lost_epoch.is_none() { exit::DONE } else { exit::DEGRADED })
}
