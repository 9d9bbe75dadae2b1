//! `stillpoint drill list`: the building blocks of drills.

use clap::Args;
use serde::Serialize;

use crate::cli::output::{Format, data, exit, report, table};
use crate::drill::disruption::Disruption;
use crate::drill::invariants::Invariant;
use crate::drill::scenario::{Profile, ReplyFault, Target};

/// List the building blocks of drills
///
/// Lists the targets, the disruptions (part "rival"), the reply faults (part "truth"), the profiles, and the
/// invariants that are checked after each case.
#[derive(Debug, Args)]
pub struct List {
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// The building blocks, each kind with its values.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Parts {
    targets: Vec<&'static str>,
    rivals: Vec<&'static str>,
    truths: Vec<&'static str>,
    profiles: Vec<&'static str>,
    invariants: Vec<&'static str>,
}

impl List {
    pub fn execute(self) -> u8 {
        let parts = Parts {
            targets: Target::ALL.iter().map(|one| one.name()).collect(),
            rivals: Disruption::ALL.iter().map(|one| one.name()).collect(),
            truths: ReplyFault::ALL.iter().map(|one| one.name()).collect(),
            profiles: Profile::ALL.iter().map(|one| one.name()).collect(),
            invariants: Invariant::ALL.iter().map(|one| one.name()).collect(),
        };
        let text = match self.output.document(&parts) {
            Ok(document) => document.unwrap_or_else(|| parts.table()),
            Err(problem) => return report(&problem, self.output.is_document()),
        };
        // A closed stdout is not an error.
        let _ = data(&text);
        exit::DONE
    }
}

impl Parts {
    fn table(&self) -> String {
        let kinds = [
            ("target", &self.targets),
            ("rival", &self.rivals),
            ("truth", &self.truths),
            ("profile", &self.profiles),
            ("invariant", &self.invariants),
        ];
        let rows = kinds.iter().flat_map(|(kind, names)| names.iter().map(move |name| [*kind, *name]));
        table(&["part", "value"], rows)
    }
}
