//! Upcasts payloads of older versions to the current one when they are read.
//!
//! A record is never rewritten: its bytes and hash remain, and the machine sees the result of the steps
//! below. Each step goes from one version of one kind to a later one and lives in `migrations/NNNN_slug/`;
//! the README there has the rule.

use std::borrow::Cow;

use crate::journal::Record;

#[path = "../../migrations/0005_atomicity/upcast.rs"]
mod atomicity;
#[path = "../../migrations/0002_rebuilt_members/upcast.rs"]
mod rebuilt_members;
#[path = "../../migrations/0008_receipts/upcast.rs"]
mod receipts;

/// One step from an older version of a payload to a later one.
#[derive(Debug, Clone, Copy)]
pub struct Upcaster {
    /// The kind of record it applies to.
    pub kind: u16,
    /// The version it reads.
    pub from: u16,
    /// The version it returns, above `from`.
    pub to: u16,
    /// Converts one payload to the other. An error names what the payload lacks.
    pub apply: fn(&[u8]) -> Result<Vec<u8>, String>,
}

/// All steps, in the order of their migrations.
pub const UPCASTERS: &[Upcaster] =
    &[rebuilt_members::STEP, atomicity::PLANNED, atomicity::FINISHED, receipts::PLANNED, receipts::REACHED];

/// A payload that could not be upcast.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("payload of kind {kind} cannot go from version {from} to {to}: {reason}")]
pub struct UpcastError {
    /// Kind of the record.
    pub kind: u16,
    /// Its version.
    pub from: u16,
    /// The version that the step returns.
    pub to: u16,
    /// The error of the step.
    pub reason: String,
}

/// Upcasts a record to the latest version that the registered steps reach.
///
/// # Errors
/// A step refused the payload.
pub fn upcast(record: &Record) -> Result<Cow<'_, Record>, UpcastError> {
    upcast_with(UPCASTERS, record)
}

fn upcast_with<'a>(steps: &[Upcaster], record: &'a Record) -> Result<Cow<'a, Record>, UpcastError> {
    let next = |record: &Record| {
        let applies =
            |step: &&Upcaster| step.kind == record.kind && step.from == record.version && step.to > step.from;
        steps.iter().find(applies).copied()
    };
    let mut record = Cow::Borrowed(record);
    while let Some(Upcaster { kind, from, to, apply }) = next(&record) {
        let payload = apply(&record.payload).map_err(|reason| UpcastError { kind, from, to, reason })?;
        record = Cow::Owned(Record { version: to, payload, ..record.into_owned() });
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Upcaster] = &[
        Upcaster { kind: 4, from: 1, to: 2, apply: |old| Ok([old, b"+two"].concat()) },
        Upcaster { kind: 4, from: 2, to: 3, apply: |old| Ok([old, b"+three"].concat()) },
        Upcaster { kind: 5, from: 1, to: 2, apply: |_| Err("no name".to_owned()) },
    ];

    fn record(kind: u16, version: u16) -> Record {
        Record { kind, version, time_ns: 9, payload: b"one".to_vec() }
    }

    #[test]
    fn steps_follow_each_other() {
        let upcasted = upcast_with(STEPS, &record(4, 1)).expect("two steps").into_owned();
        assert_eq!(upcasted, Record { version: 3, payload: b"one+two+three".to_vec(), ..record(4, 1) });
        assert_eq!(upcast_with(STEPS, &record(4, 2)).expect("one step").payload, b"one+three");
    }

    #[test]
    fn record_without_migration_step_is_unchanged() {
        assert!(matches!(upcast_with(STEPS, &record(4, 3)), Ok(Cow::Borrowed(_))));
        assert!(matches!(upcast(&record(2, 1)), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn a_refusal_names_the_step() {
        let error = UpcastError { kind: 5, from: 1, to: 2, reason: "no name".to_owned() };
        assert_eq!(upcast_with(STEPS, &record(5, 1)), Err(error));
    }

    #[test]
    fn no_two_steps_begin_at_the_same_version() {
        for (index, step) in UPCASTERS.iter().enumerate() {
            assert!(step.to > step.from);
            let twin = |other: &&Upcaster| (other.kind, other.from) == (step.kind, step.from);
            assert!(!UPCASTERS[index + 1..].iter().any(|other| twin(&other)));
        }
    }
}
