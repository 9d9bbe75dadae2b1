//! Encodes the records of a machine that has no frozen structs of its own.
//!
//! The generic part of a record (decision, step, outcomes, milestone) is encoded by the names of rows, columns,
//! values, steps and milestones, which are contracts of the machine. Only its plan, parts and evidence have
//! structs of its own. A column with its first value is left out: it may not have existed when the record was
//! written.

use bincode::{Decode, Encode};

use super::v1::asked::Asked;
use super::v1::group::Outcome;
use super::{WireError, encode, read};
use crate::domain::time::Timestamp;
use crate::journal::Record;
use crate::machine::kit::{
    ColumnId, DecisionRecord, EffectReference, Event, Machine, Named, Reached as _, Timed, View,
};

/// A machine whose records this codec encodes.
pub trait Recorded: Machine {
    /// The first of its seven kinds: planned, intended, completed, part, milestone, request, reconstructed.
    const FIRST_KIND: u16;

    /// The struct of the plan.
    type WirePlan: Encode + Decode<()>;
    /// The struct of a part, of a reconstruction or of evidence.
    type Wire: Encode + Decode<()>;

    fn write_plan(plan: &Self::Plan) -> Self::WirePlan;
    fn read_plan(wire: Self::WirePlan) -> Self::Plan;
    fn write_part(part: &Self::Part) -> Self::Wire;
    /// # Errors
    /// The payload is of another record.
    fn read_part(wire: Self::Wire) -> Result<Self::Part, WireError>;
    fn write_evidence(reached: &Self::Reached) -> Self::Wire;
    /// # Errors
    /// The evidence belongs to another milestone.
    fn read_evidence(milestone: Self::Milestone, wire: Self::Wire) -> Result<Self::Reached, WireError>;
    fn write_reconstructed(found: &Self::Reconstructed) -> Self::Wire;
    /// # Errors
    /// The payload is of another record.
    fn read_reconstructed(wire: Self::Wire) -> Result<Self::Reconstructed, WireError>;
    /// The reference with this kind and member; none if the kind is not known.
    fn read_effect_ref(kind: &str, member: Option<u16>) -> Option<Self::EffectRef>;
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Grounds {
    row: String,
    rules: u16,
    /// Column and value, where the value is not the first one.
    seen: Vec<(String, String)>,
    members: Vec<u16>,
    error_since_ns: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Intended {
    grounds: Grounds,
    step: String,
    /// Kind and member of each effect.
    marks: Vec<(String, Option<u16>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Completed {
    step: String,
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Reached<W> {
    grounds: Grounds,
    milestone: String,
    evidence: W,
}

/// The only version so far.
const VERSION: u16 = 1;

/// Encodes a record.
///
/// # Errors
/// The payload is above the limit of a record.
pub fn encode_record<M: Recorded>(timed: &Timed<M>) -> Result<Record, WireError> {
    let first = M::FIRST_KIND;
    let (kind, payload) = match &timed.event {
        Event::Planned(plan) => encode(first, &M::write_plan(plan))?,
        Event::Intended { grounds, step, marks } => {
            let marks = marks.iter().map(|mark| (mark.kind().to_owned(), mark.member())).collect();
            let (grounds, step) = (wire_grounds::<M>(grounds), step.name().to_owned());
            encode(first + 1, &Intended { grounds, step, marks })?
        }
        Event::StepCompleted { step, outcomes } => {
            let outcomes = outcomes.iter().map(Outcome::from).collect();
            encode(first + 2, &Completed { step: step.name().to_owned(), outcomes })?
        }
        Event::Part(part) => encode(first + 3, &M::write_part(part))?,
        Event::MilestoneReached { grounds, reached } => {
            let milestone = reached.milestone().name().to_owned();
            let evidence = M::write_evidence(reached);
            encode(first + 4, &Reached { grounds: wire_grounds::<M>(grounds), milestone, evidence })?
        }
        Event::RequestReceived(request) => encode(first + 5, &Asked::from(request))?,
        Event::Reconstructed(found) => encode(first + 6, &M::write_reconstructed(found))?,
    };
    Ok(Record { kind, version: VERSION, time_ns: timed.at.0, payload })
}

/// Decodes a record of the machine.
///
/// # Errors
/// The record is of another kind or version, has a name that the machine does not know, or is malformed.
pub fn decode_record<M: Recorded>(record: &Record) -> Result<Timed<M>, WireError> {
    let Record { kind, version, time_ns, ref payload } = *record;
    if version != VERSION {
        return Err(WireError::Version { kind, found: version, known: VERSION });
    }
    let event = match kind.checked_sub(M::FIRST_KIND) {
        Some(0) => Event::Planned(Box::new(M::read_plan(read(kind, payload)?))),
        Some(1) => {
            let Intended { grounds, step, marks } = read(kind, payload)?;
            let mark = |(kind, member): (String, Option<u16>)| {
                M::read_effect_ref(&kind, member).ok_or_else(|| unknown("effect", &kind))
            };
            Event::Intended {
                grounds: grounds_of::<M>(grounds)?,
                step: named("step", &step)?,
                marks: marks.into_iter().map(mark).collect::<Result<_, _>>()?,
            }
        }
        Some(2) => {
            let Completed { step, outcomes } = read(kind, payload)?;
            let outcomes = outcomes.into_iter().map(Into::into).collect();
            Event::StepCompleted { step: named("step", &step)?, outcomes }
        }
        Some(3) => Event::Part(M::read_part(read(kind, payload)?)?),
        Some(4) => {
            let Reached { grounds, milestone, evidence } = read(kind, payload)?;
            let reached = M::read_evidence(named("milestone", &milestone)?, evidence)?;
            Event::MilestoneReached { grounds: grounds_of::<M>(grounds)?, reached }
        }
        Some(5) => Event::RequestReceived(read::<Asked>(kind, payload)?.try_into()?),
        Some(6) => Event::Reconstructed(Box::new(M::read_reconstructed(read(kind, payload)?)?)),
        _ => return Err(WireError::Kind { kind }),
    };
    Ok(Timed { at: Timestamp(time_ns), event })
}

fn wire_grounds<M: Machine>(grounds: &DecisionRecord) -> Grounds {
    let columns = View::columns::<M::Column>().zip(&grounds.view.seen).filter(|(_, value)| **value != 0);
    let name = |(column, value): (M::Column, &u8)| {
        let value = column.values().get(usize::from(*value)).copied().unwrap_or_default();
        (column.name().to_owned(), value.to_owned())
    };
    Grounds {
        row: grounds.row.clone(),
        rules: grounds.rules,
        seen: columns.map(name).collect(),
        members: grounds.view.members.clone(),
        error_since_ns: grounds.view.error_since.map(|since| since.0),
    }
}

fn grounds_of<M: Machine>(wire: Grounds) -> Result<DecisionRecord, WireError> {
    let mut view = View::blank::<M::Column>();
    for (name, value) in &wire.seen {
        let mut columns = View::columns::<M::Column>().enumerate();
        let (at, column) =
            columns.find(|(_, column)| column.name() == name).ok_or_else(|| unknown("column", name))?;
        let ordinal = column.values().iter().position(|known| known == value);
        view.seen[at] = ordinal.ok_or_else(|| unknown("value", value))? as u8;
    }
    view.members = wire.members;
    view.error_since = wire.error_since_ns.map(Timestamp);
    Ok(DecisionRecord { row: wire.row, rules: wire.rules, view })
}

fn named<T: Named>(what: &'static str, name: &str) -> Result<T, WireError> {
    T::ALL.iter().copied().find(|value| value.name() == name).ok_or_else(|| unknown(what, name))
}

fn unknown(what: &'static str, name: &str) -> WireError {
    WireError::Name { what, name: name.to_owned() }
}
