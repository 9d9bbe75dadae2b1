//! Defines kind 17 in version 2.

use bincode::{Decode, Encode};

use super::super::v1::backup as v1;
use crate::machine::backup::earlier::Event;
use crate::machine::backup::{FailedGroup, Phase};
use crate::records::WireError;

/// Kind 17: all groups ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Finished {
    /// The content of version 1.
    pub end: v1::Finished,
    /// Warnings that arose while the groups ran.
    pub warnings: Vec<String>,
}

impl Finished {
    /// From the fields of the machine's event.
    pub fn new(phase: Phase, failed: &[FailedGroup], warnings: &[String]) -> Self {
        Self { end: v1::Finished::new(phase, failed), warnings: warnings.to_vec() }
    }
}

impl TryFrom<Finished> for Event {
    type Error = WireError;

    fn try_from(Finished { end, warnings: said }: Finished) -> Result<Self, WireError> {
        let mut event = Self::try_from(end)?;
        if let Self::Finished(finished) = &mut event {
            finished.warnings = said;
        }
        Ok(event)
    }
}
