//! Encodes the records of a Backup. The structs are frozen.

use std::sync::Arc;

use bincode::{Decode, Encode};

use super::WireError;
use super::codec::version_of_plan;
use super::fit::{LENGTHS, cut};
use super::kit::{Recorded, encode_record};
use super::v1::backup::{FailedGroup, Finished};
use super::v1::common::BackupRef;
use super::v1::group::Reason;
use super::v1::ordinals::Ordinal;
use super::v2;
use super::v3;
use crate::domain::problem::Code;
use crate::domain::time::Timestamp;
use crate::journal::Record;
use crate::machine::backup::event::{self, FormedAgain};
use crate::machine::backup::seen::{START, Start};
use crate::machine::backup::{
    self, BackupMachine, BackupPart, BackupPlan, Event, GroupResult, Milestone, Phase, Reached, RunEnd,
    Timed, earlier,
};
use crate::machine::kit::Outcome;

/// What is settled before the groups are formed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Planned {
    pub backup: BackupRef,
    /// Label key that groups the PVCs.
    pub label_key: String,
}

/// A part, the evidence of a milestone, or the end that an earlier release recorded. Encoded by the position of
/// the variants.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Wire {
    /// The plan of a group.
    Plan {
        /// Position among the parts.
        part: u16,
        /// Position among the groups.
        index: u16,
        plan: Box<v2::group::Planned>,
    },
    /// The groups are fixed.
    Formed {
        /// Number of parts.
        groups: u16,
        /// Hash of the parts.
        hash: [u8; 32],
        refused: Vec<FailedGroup>,
        warnings: Vec<String>,
    },
    /// Groups were formed once more.
    FormedAgain {
        /// Number of parts.
        groups: u16,
        /// Hash of the parts.
        hash: [u8; 32],
        ends: Vec<End>,
    },
    /// Groups ended.
    Ended {
        ends: Vec<End>,
    },
    Reason(Reason),
    Finished {
        end: Finished,
        warnings: Vec<String>,
    },
    /// The plan of a group, with its class and its PVCs.
    PlanOfClaims {
        /// Position among the parts.
        part: u16,
        /// Position among the groups.
        index: u16,
        plan: Box<v3::group::Planned>,
    },
}

/// The end of the run of one group.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct End {
    /// Position among the groups.
    pub index: u16,
    /// Number of records of the run.
    pub records: u64,
    /// Hash of its last record.
    pub hash: [u8; 32],
    pub result: EndResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum EndResult {
    Completed {
        warnings: Vec<String>,
    },
    Failed {
        /// Code, by its number.
        code: u16,
        message: String,
    },
}

/// Encodes a record of a Backup.
///
/// # Errors
/// The payload is above the limit; [`fit_backup`] shortens the texts that may be shortened.
pub fn encode_backup(timed: &Timed) -> Result<Record, WireError> {
    encode_record(timed)
}

/// The event, with messages and warnings shortened if it would not fit otherwise.
pub fn fit_backup(event: Event) -> Event {
    let mut timed = Timed { at: Timestamp(0), event };
    for length in LENGTHS {
        if !matches!(encode_record(&timed), Err(WireError::TooLarge { .. })) {
            break;
        }
        shorten(&mut timed.event, length);
    }
    timed.event
}

fn shorten(event: &mut Event, length: usize) {
    match event {
        Event::StepCompleted { outcomes, .. } => {
            outcomes.iter_mut().for_each(|outcome| match outcome {
                Outcome::Done { .. } => {}
                Outcome::Determinate { message, .. } | Outcome::Indeterminate { message } => {
                    cut(message, length);
                }
            });
        }
        Event::MilestoneReached { reached: Reached::Formed(formed), .. } => {
            formed.refused.iter_mut().for_each(|refused| cut(&mut refused.message, length));
            formed.warnings.iter_mut().for_each(|warning| cut(warning, length));
        }
        Event::MilestoneReached { reached, .. } => {
            for end in reached.ends_mut() {
                match &mut end.result {
                    GroupResult::Completed { warnings } => {
                        warnings.iter_mut().for_each(|warning| cut(warning, length));
                    }
                    GroupResult::Failed { message, .. } => cut(message, length),
                }
            }
        }
        _ => {}
    }
}

impl Recorded for BackupMachine {
    const FIRST_KIND: u16 = super::kind::BACKUP_PLANNED;

    type WirePlan = Planned;
    type Wire = Wire;

    /// An accepted plan is never written: earlier releases recorded it as kind 16.
    fn write_plan(plan: &BackupPlan) -> Planned {
        debug_assert!(plan.accepted.is_none(), "the groups of an earlier release are not written again");
        Planned { backup: (&plan.backup).into(), label_key: plan.label_key.clone() }
    }

    fn read_plan(Planned { backup, label_key }: Planned) -> BackupPlan {
        BackupPlan { backup: backup.into(), label_key, accepted: None }
    }

    fn write_part(part: &BackupPart) -> Wire {
        let BackupPart { part, index, plan } = part;
        match version_of_plan(plan) {
            3 => Wire::PlanOfClaims { part: *part, index: *index, plan: Box::new((&**plan).into()) },
            _ => Wire::Plan { part: *part, index: *index, plan: Box::new((&**plan).into()) },
        }
    }

    fn read_part(wire: Wire) -> Result<BackupPart, WireError> {
        match wire {
            Wire::Plan { part, index, plan } => {
                Ok(BackupPart { part, index, plan: Arc::new((*plan).into()) })
            }
            Wire::PlanOfClaims { part, index, plan } => {
                Ok(BackupPart { part, index, plan: Arc::new((*plan).into()) })
            }
            _ => Err(WireError::Evidence { milestone: "part" }),
        }
    }

    fn write_evidence(reached: &Reached) -> Wire {
        match reached {
            Reached::Formed(formed) => Wire::Formed {
                groups: formed.groups,
                hash: formed.hash,
                refused: formed.refused.iter().map(Into::into).collect(),
                warnings: formed.warnings.clone(),
            },
            Reached::FormedAgain(formed) => Wire::FormedAgain {
                groups: formed.groups,
                hash: formed.hash,
                ends: formed.ends.iter().map(Into::into).collect(),
            },
            Reached::GroupsEnded(_)
            | Reached::Completed(_)
            | Reached::PartiallyFailed(_)
            | Reached::Failed(_) => Wire::Ended { ends: reached.ends().iter().map(Into::into).collect() },
            Reached::Unwinding(reason) | Reached::Stuck(reason) => Wire::Reason(reason.into()),
        }
    }

    fn read_evidence(milestone: Milestone, wire: Wire) -> Result<Reached, WireError> {
        let read = |ends: Vec<End>| -> Result<Vec<RunEnd>, WireError> {
            ends.into_iter().map(TryInto::try_into).collect()
        };
        let ended = |ends| Ok::<_, WireError>(event::Ended { ends: read(ends)? });
        Ok(match (milestone, wire) {
            (Milestone::Formed, Wire::Formed { groups, hash, refused, warnings }) => {
                let refused = refused.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
                Reached::Formed(backup::Formed { groups, hash, refused, warnings })
            }
            (Milestone::FormedAgain, Wire::FormedAgain { groups, hash, ends }) => {
                Reached::FormedAgain(FormedAgain { groups, hash, ends: read(ends)? })
            }
            (Milestone::GroupsEnded, Wire::Ended { ends }) => Reached::GroupsEnded(ended(ends)?),
            (Milestone::Completed, Wire::Ended { ends }) => Reached::Completed(ended(ends)?),
            (Milestone::PartiallyFailed, Wire::Ended { ends }) => Reached::PartiallyFailed(ended(ends)?),
            (Milestone::Failed, Wire::Ended { ends }) => Reached::Failed(ended(ends)?),
            (Milestone::Unwinding, Wire::Reason(reason)) => Reached::Unwinding(reason.try_into()?),
            (Milestone::Stuck, Wire::Reason(reason)) => Reached::Stuck(reason.try_into()?),
            (milestone, _) => return Err(WireError::Evidence { milestone: milestone.name() }),
        })
    }

    fn write_reconstructed(found: &earlier::Finished) -> Wire {
        let end = Finished::new(found.phase, &found.failed);
        Wire::Finished { end, warnings: found.warnings.clone() }
    }

    fn read_reconstructed(wire: Wire) -> Result<earlier::Finished, WireError> {
        let Wire::Finished { end, warnings } = wire else {
            return Err(WireError::Evidence { milestone: "finished" });
        };
        let failed = end.failed.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(earlier::Finished { phase: Phase::of(end.phase)?, failed, warnings })
    }

    fn read_effect_ref(kind: &str, member: Option<u16>) -> Option<Start> {
        member.filter(|_| kind == START).map(|index| Start { index })
    }
}

impl From<&RunEnd> for End {
    fn from(end: &RunEnd) -> Self {
        let result = match &end.result {
            GroupResult::Completed { warnings } => EndResult::Completed { warnings: warnings.clone() },
            GroupResult::Failed { code, message } => {
                EndResult::Failed { code: code.number(), message: message.clone() }
            }
        };
        Self { index: end.index, records: end.records, hash: end.hash, result }
    }
}

impl TryFrom<End> for RunEnd {
    type Error = WireError;

    fn try_from(End { index, records, hash, result }: End) -> Result<Self, WireError> {
        let result = match result {
            EndResult::Completed { warnings } => GroupResult::Completed { warnings },
            EndResult::Failed { code, message } => GroupResult::Failed { code: Code::of(code)?, message },
        };
        Ok(Self { index, records, hash, result })
    }
}
