//! Appends the records of a run to the journal.

use tokio::time::Instant;

use super::{Context, internal, journal_problem};
use crate::domain::ids::StreamId;
use crate::domain::problem::Problem;
use crate::engine::driven::Driven;
use crate::engine::telemetry::Metric;
use crate::journal::{Barrier, MAX_APPEND_BYTES, MAX_APPEND_RECORDS, Record, StreamState};
use crate::machine::kit::{Event, Reached, Step, Timed};

/// The records of events.
///
/// # Errors
/// One of them does not fit into a record: a defect of Stillpoint.
pub(super) fn encode<M: Driven>(stream: StreamId, records: &[Timed<M>]) -> Result<Vec<Record>, Problem> {
    records.iter().map(M::encode).collect::<Result<_, _>>().map_err(|error| internal(stream, &error))
}

/// The parts of the journal that have to be on disk before the run goes on: also the index before an effect that
/// cannot be taken back, and when a receipt is complete.
pub(super) fn barrier<M: Driven>(event: &Event<M>) -> Barrier {
    let firm = match event {
        Event::Intended { step, .. } => step.is_irreversible(),
        Event::MilestoneReached { reached, .. } => M::closes_receipt(reached.milestone()),
        _ => false,
    };
    if firm { Barrier::LogAndIndex } else { Barrier::Log }
}

/// Appends records to the stream of a run.
///
/// # Errors
/// The journal cannot be written: the daemon ends.
pub(super) async fn append<M: Driven>(
    context: &Context,
    stream: StreamId,
    seq: u64,
    records: &[Timed<M>],
    state: StreamState,
) -> Result<(), Problem> {
    let mut encoded = encode::<M>(stream, records)?;
    let firm = records.iter().any(|record| barrier(&record.event) == Barrier::LogAndIndex);
    let barrier = if firm { Barrier::LogAndIndex } else { Barrier::Log };
    let mut seq = seq;
    while !encoded.is_empty() {
        let rest = encoded.split_off(one_append(&encoded));
        let (count, state) = (encoded.len() as u64, if rest.is_empty() { state } else { StreamState::Open });
        let began = Instant::now();
        let appended = context.journal.append_with(barrier, stream, seq, encoded, state).await;
        context.metrics.record(Metric::Appended { took: began.elapsed() });
        appended.map_err(|error| journal_problem(stream, &error))?;
        (encoded, seq) = (rest, seq + count);
    }
    Ok(())
}

/// Number of records that fit into one append. Parts that are larger together take several: without the
/// milestone, which is in the last one, they are ignored.
fn one_append(records: &[Record]) -> usize {
    let mut bytes = 0;
    let fits = |record: &&Record| {
        bytes += record.payload.len();
        bytes <= MAX_APPEND_BYTES
    };
    records.iter().take_while(fits).count().clamp(1, MAX_APPEND_RECORDS)
}
