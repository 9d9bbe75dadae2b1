//! Converts events to records and records to events. No other module does.

use bincode::config::{self, Config};
use bincode::{Decode, Encode};

use super::{MAX_PAYLOAD_BYTES, WireError, kind, v1, v2, v3};
use crate::domain::plan::Plan;
use crate::domain::time::Timestamp;
use crate::journal::Record;
use crate::machine::backup::{self, earlier};
use crate::machine::group::{Event, Reached, Timed};
use crate::records::kit::decode_record;
use crate::records::migrations;

/// The version of kinds that have had one only.
const FIRST: u16 = 1;

/// The latest version of each kind.
fn latest(kind: u16) -> u16 {
    match kind {
        kind::GROUP_PLANNED | kind::GROUP_REACHED => 3,
        kind::BACKUP_FINISHED => 2,
        _ => FIRST,
    }
}

/// The version of an event: the first one that can express it, so that a record that needs no later version
/// keeps the bytes that every release has written.
fn version_of_group(event: &Event) -> u16 {
    match event {
        Event::Planned(plan) => version_of_plan(plan),
        Event::MilestoneReached { reached: Reached::VsBound(head), .. } if head.provenance.is_some() => 3,
        Event::MilestoneReached { .. } => 2,
        _ => FIRST,
    }
}

/// As [`version_of_group`].
pub(super) fn version_of_plan(plan: &Plan) -> u16 {
    let has_claims = plan.members.iter().any(|member| member.spec.is_some());
    match plan.atomicity.is_unrecorded() {
        _ if plan.class.is_some() || has_claims => 3,
        true => FIRST,
        false => 2,
    }
}

/// As [`version_of_group`].
fn version_of_backup(event: &earlier::Event) -> u16 {
    match event {
        earlier::Event::Finished(finished) if !finished.warnings.is_empty() => 2,
        _ => FIRST,
    }
}

/// Memory limit of the decoder. A vector claims the size of its elements in memory before it reads them, so
/// this is above the limit of a payload. It bounds the allocation that a false length can cause.
const DECODE_LIMIT: usize = 4 * MAX_PAYLOAD_BYTES;

/// A decoded record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A record of a group stream.
    Group(Timed),
    /// A record of a Backup stream.
    Backup(backup::Timed),
    /// A record of a Backup stream of the releases in which a Backup was no machine.
    EarlierBackup {
        event: earlier::Event,
        /// When it was written.
        at: Timestamp,
    },
}

/// Evaluates an expression on the record of the machine that wrote it: the registry of machines. A further
/// machine is one line here.
#[macro_export]
macro_rules! on_machine {
    ($decoded:expr, $timed:pat => $body:expr, $earlier:pat => $other:expr $(,)?) => {
        match $decoded {
            $crate::records::Decoded::Group($timed) => $body,
            $crate::records::Decoded::Backup($timed) => $body,
            $earlier => $other,
        }
    };
}

impl Decoded {
    /// The record of a Backup; none if it is of another machine.
    pub fn into_backup(self) -> Option<backup::Timed> {
        match self {
            Self::Backup(timed) => Some(timed),
            Self::EarlierBackup { event, at } => Some(backup::Timed { at, event: event.into() }),
            Self::Group(_) => None,
        }
    }
}

/// Encodes a record of a group stream.
///
/// # Errors
/// The payload is above the limit ([`super::fit_group`] shortens the texts that may be shortened), or the
/// view does not match the machine of this release.
pub fn encode_group(timed: &Timed) -> Result<Record, WireError> {
    let version = version_of_group(&timed.event);
    let (kind, payload) = match &timed.event {
        Event::Planned(plan) => match version {
            FIRST => encode(kind::GROUP_PLANNED, &v1::group::Planned::from(&**plan))?,
            2 => encode(kind::GROUP_PLANNED, &v2::group::Planned::from(&**plan))?,
            _ => encode(kind::GROUP_PLANNED, &v3::group::Planned::from(&**plan))?,
        },
        Event::Intended { grounds, step, marks } => {
            encode(kind::GROUP_INTENDED, &v1::group::Intended::new(grounds, *step, marks)?)?
        }
        Event::StepCompleted { step, outcomes } => {
            encode(kind::GROUP_ENDED, &v1::group::Ended::new(*step, outcomes))?
        }
        Event::Part(part) => encode(kind::GROUP_RECEIPT_PART, &v1::group::ReceiptPart::new(part))?,
        Event::Reconstructed(found) => {
            encode(kind::GROUP_RECONSTRUCTED, &v1::reconstructed::Reconstructed::from(&**found))?
        }
        Event::MilestoneReached { grounds, reached } if version == 2 => {
            encode(kind::GROUP_REACHED, &v2::group::Reached::new(grounds, reached)?)?
        }
        Event::MilestoneReached { grounds, reached } => {
            encode(kind::GROUP_REACHED, &v3::group::Reached::new(grounds, reached)?)?
        }
        Event::RequestReceived(asked) => encode(kind::GROUP_ASKED, &v1::asked::Asked::from(asked))?,
    };
    Ok(Record { kind, version, time_ns: timed.at.0, payload })
}

/// Encodes a record of a Backup stream as earlier releases wrote it, for fixtures.
///
/// # Errors
/// The payload is above the limit.
pub fn encode_earlier_backup(event: &earlier::Event, at: Timestamp) -> Result<Record, WireError> {
    let version = version_of_backup(event);
    let (kind, payload) = match event {
        earlier::Event::Accepted { backup, label_key, groups, refused, warnings } => encode(
            kind::BACKUP_ACCEPTED,
            &v1::backup::Accepted::new(backup, label_key, groups, refused, warnings),
        )?,
        earlier::Event::Finished(finished) if version == FIRST => {
            encode(kind::BACKUP_FINISHED, &v1::backup::Finished::new(finished.phase, &finished.failed))?
        }
        earlier::Event::Finished(earlier::Finished { phase, failed, warnings }) => {
            encode(kind::BACKUP_FINISHED, &v2::backup::Finished::new(*phase, failed, warnings))?
        }
    };
    Ok(Record { kind, version, time_ns: at.0, payload })
}

/// Decodes a record of any version that this release supports.
///
/// # Errors
/// The kind, the version or a number in the payload is not known, or the bytes are malformed.
pub fn decode(record: &Record) -> Result<Decoded, WireError> {
    let record = migrations::upcast(record)?;
    let Record { kind, version, time_ns, ref payload } = *record;
    let at = Timestamp(time_ns);
    let group = |event| Ok(Decoded::Group(Timed { at, event }));
    let backup = |event| Ok(Decoded::EarlierBackup { event, at });
    match (kind, version) {
        (kind::GROUP_PLANNED, 3) => {
            group(Event::Planned(Box::new(read::<v3::group::Planned>(kind, payload)?.into())))
        }
        (kind::GROUP_INTENDED, FIRST) => group(read::<v1::group::Intended>(kind, payload)?.try_into()?),
        (kind::GROUP_ENDED, FIRST) => group(read::<v1::group::Ended>(kind, payload)?.try_into()?),
        (kind::GROUP_RECEIPT_PART, FIRST) => group(read::<v1::group::ReceiptPart>(kind, payload)?.into()),
        (kind::GROUP_RECONSTRUCTED, FIRST) => {
            group(read::<v1::reconstructed::Reconstructed>(kind, payload)?.try_into()?)
        }
        (kind::GROUP_REACHED, 3) => group(read::<v3::group::Reached>(kind, payload)?.try_into()?),
        (kind::GROUP_ASKED, FIRST) => {
            group(Event::RequestReceived(read::<v1::asked::Asked>(kind, payload)?.try_into()?))
        }
        (kind::BACKUP_ACCEPTED, FIRST) => backup(read::<v1::backup::Accepted>(kind, payload)?.try_into()?),
        (kind::BACKUP_FINISHED, 2) => backup(read::<v2::backup::Finished>(kind, payload)?.try_into()?),
        (kind, _) if kind::is_of_backup(kind) => Ok(Decoded::Backup(decode_record(&record)?)),
        (kind, _) if kind::word(kind).is_none() => Err(WireError::Kind { kind }),
        (kind, found) => Err(WireError::Version { kind, found, known: latest(kind) }),
    }
}

fn configuration() -> impl Config {
    config::standard().with_limit::<DECODE_LIMIT>()
}

/// Encodes a payload of a kind.
///
/// # Errors
/// It is above the limit of a record, or the codec refused it.
pub(crate) fn encode(kind: u16, wire: &impl Encode) -> Result<(u16, Vec<u8>), WireError> {
    let payload = bincode::encode_to_vec(wire, configuration())
        .map_err(|error| WireError::Encode { kind, reason: error.to_string() })?;
    match payload.len() {
        bytes if bytes > MAX_PAYLOAD_BYTES => Err(WireError::TooLarge { kind, bytes }),
        _ => Ok((kind, payload)),
    }
}

/// Decodes a payload of a kind from all of its bytes.
///
/// # Errors
/// It is above the limit of a record, the codec refused it, or bytes are left.
pub(crate) fn read<T: Decode<()>>(kind: u16, payload: &[u8]) -> Result<T, WireError> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(WireError::TooLarge { kind, bytes: payload.len() });
    }
    let (wire, read) = bincode::decode_from_slice(payload, configuration())
        .map_err(|error| WireError::Bytes { kind, reason: error.to_string() })?;
    match payload.len() - read {
        0 => Ok(wire),
        bytes => Err(WireError::Trailing { kind, bytes }),
    }
}
