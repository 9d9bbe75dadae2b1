//! Defines the payloads of a Backup stream of the releases in which a Backup was no machine.

use bincode::{Decode, Encode};
use uuid::Uuid;

use super::common::BackupRef;
use super::ordinals::Ordinal;
use crate::domain::ids::StreamId;
use crate::domain::plan;
use crate::domain::problem::Code;
use crate::machine::backup::earlier::{self, Event};
use crate::machine::backup::{self, Phase};
use crate::records::WireError;

/// Kind 16: the groups are fixed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Accepted {
    pub backup: BackupRef,
    /// Label key that groups the PVCs.
    pub label_key: String,
    /// Groups that are going to run, in order.
    pub groups: Vec<AskedGroup>,
    /// Groups that do not run.
    pub refused: Vec<FailedGroup>,
    pub warnings: Vec<String>,
}

/// Kind 17: all groups ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Finished {
    /// Phase, by its number.
    pub phase: u16,
    /// Groups that failed while they ran.
    pub failed: Vec<FailedGroup>,
}

/// A group that was planned.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AskedGroup {
    /// Namespace of its PVCs.
    pub namespace: String,
    /// Label value.
    pub group: String,
    pub run: [u8; 16],
}

/// A group that was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FailedGroup {
    /// Namespace of its PVCs.
    pub namespace: String,
    /// Label value.
    pub group: String,
    /// Code, by its number.
    pub code: u16,
    pub message: String,
}

impl Accepted {
    /// From the fields of the machine's event.
    pub fn new(
        backup: &plan::BackupRef,
        label_key: &str,
        groups: &[backup::AskedGroup],
        refused: &[backup::FailedGroup],
        warnings: &[String],
    ) -> Self {
        Self {
            backup: backup.into(),
            label_key: label_key.to_owned(),
            groups: groups.iter().map(AskedGroup::from).collect(),
            refused: refused.iter().map(FailedGroup::from).collect(),
            warnings: warnings.to_vec(),
        }
    }
}

impl TryFrom<Accepted> for Event {
    type Error = WireError;

    fn try_from(wire: Accepted) -> Result<Self, WireError> {
        Ok(Self::Accepted {
            backup: wire.backup.into(),
            label_key: wire.label_key,
            groups: wire.groups.into_iter().map(Into::into).collect(),
            refused: failed(wire.refused)?,
            warnings: wire.warnings,
        })
    }
}

impl Finished {
    /// From the fields of the machine's event.
    pub fn new(phase: Phase, failed: &[backup::FailedGroup]) -> Self {
        Self { phase: phase.number(), failed: failed.iter().map(FailedGroup::from).collect() }
    }
}

impl TryFrom<Finished> for Event {
    type Error = WireError;

    fn try_from(wire: Finished) -> Result<Self, WireError> {
        Ok(Self::Finished(earlier::Finished {
            phase: Phase::of(wire.phase)?,
            failed: failed(wire.failed)?,
            warnings: Vec::new(),
        }))
    }
}

fn failed(wire: Vec<FailedGroup>) -> Result<Vec<backup::FailedGroup>, WireError> {
    wire.into_iter().map(TryInto::try_into).collect()
}

impl From<&backup::AskedGroup> for AskedGroup {
    fn from(asked: &backup::AskedGroup) -> Self {
        Self { namespace: asked.namespace.clone(), group: asked.group.clone(), run: asked.run.0.into_bytes() }
    }
}

impl From<AskedGroup> for backup::AskedGroup {
    fn from(AskedGroup { namespace, group, run }: AskedGroup) -> Self {
        Self { namespace, group, run: StreamId(Uuid::from_bytes(run)) }
    }
}

impl From<&backup::FailedGroup> for FailedGroup {
    fn from(failed: &backup::FailedGroup) -> Self {
        Self {
            namespace: failed.namespace.clone(),
            group: failed.group.clone(),
            code: failed.code.number(),
            message: failed.message.clone(),
        }
    }
}

impl TryFrom<FailedGroup> for backup::FailedGroup {
    type Error = WireError;

    fn try_from(FailedGroup { namespace, group, code, message }: FailedGroup) -> Result<Self, WireError> {
        Ok(Self { namespace, group, code: Code::of(code)?, message })
    }
}
