//! Archives finished runs, so that the disk usage and the start time of the daemon do not grow with its age.
//!
//! At the start and once a minute the task requests two things from the journal: to end the current segment
//! if it is full or old, and to archive every complete segment. The records of runs that have not ended are
//! copied behind the end of the log, and so are receipts. Appends continue meanwhile. A segment that cannot be
//! archived now is tried again the next time. Only disk space depends on it.
//!
//! Once an hour the task also reads the log again. Damage on the disk would otherwise only be found at the next
//! start. A daemon with a damaged log is not ready.

use std::convert::Infallible;

use crate::domain::time::Millis;
use crate::engine::clock::Clock;
use crate::journal::archive::{COPIED_PERCENT, Policy};
use crate::journal::{Journal, JournalError};

/// Time between two checks.
const PAUSE: Millis = Millis::from_secs(60);
/// Number of these pauses between two reads of the log.
const PAUSES_PER_REREAD: u64 = 60;
const NANOS_OF_DAY: i64 = 86_400 * 1_000_000_000;

/// When a segment ends before it reaches its size limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archiving {
    /// Number of records at which the segment ends.
    pub records: u64,
    /// Age in days at which the segment ends, whatever its number of records.
    pub days: u32,
}

impl Default for Archiving {
    /// Some hundreds of runs, or a week.
    fn default() -> Self {
        Self { records: 20_000, days: 7 }
    }
}

impl Archiving {
    fn policy(self, now_ns: i64) -> Policy {
        let age = i64::from(self.days).saturating_mul(NANOS_OF_DAY);
        Policy {
            records: self.records,
            before_ns: now_ns.saturating_sub(age),
            copied_percent: COPIED_PERCENT,
        }
    }
}

/// Archives until the daemon ends.
pub async fn archive(journal: Journal, clock: Clock, archiving: Archiving) -> Infallible {
    for round in 1.. {
        let now = clock.now().0;
        match journal.archive(archiving.policy(now), now).await {
            Ok(archived) => archived.archives.iter().for_each(|archive| {
                tracing::info!(head = %journal.head(), "archived: {archive}");
            }),
            // The engine ends for the same reason.
            Err(JournalError::Stopped { .. }) => std::future::pending().await,
            Err(error) => tracing::warn!(%error, "cannot archive; trying again in a minute"),
        }
        if round % PAUSES_PER_REREAD == 0
            && let Err(error) = journal.reread().await
        {
            tracing::error!(error = error.text(), "the log on disk is not what was written: {}", error.fix());
        }
        clock.sleep_until(Some(clock.now().after(PAUSE))).await;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::StreamId;
    use crate::domain::time::Timestamp;
    use crate::journal::{Record, StreamState};
    use crate::records::journal_options;

    #[tokio::test(start_paused = true)]
    async fn archives_full_or_old_segment_automatically() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = Journal::open_inline(dir.path(), journal_options()).expect("opened");
        let clock = Clock::anchored(Timestamp(0));
        let append = |number: u32| {
            let (journal, stream) = (journal.clone(), StreamId::of_backup(&number.to_string()));
            let record = Record { kind: 1, version: 1, time_ns: clock.now().0, payload: vec![1] };
            async move { journal.append(stream, 0, vec![record], StreamState::Finished).await.expect("appended") }
        };
        let archives = || std::fs::read_dir(dir.path().join("archive")).map_or(0, Iterator::count) / 2;
        let archiving = Archiving { records: 5, days: 2 };
        let work = async {
            for number in 0..4 {
                append(number).await;
            }
            let day = std::time::Duration::from_secs(86_400);
            tokio::time::sleep(day).await;
            assert_eq!(archives(), 0, "neither full nor old");
            append(4).await;
            tokio::time::sleep(day / 100).await;
            assert_eq!(archives(), 1, "full");
            append(5).await;
            tokio::time::sleep(day).await;
            assert_eq!(archives(), 1);
            tokio::time::sleep(2 * day).await;
            assert_eq!(archives(), 2, "old");
        };
        tokio::select! {
            never = archive(journal.clone(), clock, archiving) => match never {},
            () = work => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reads_log_again_once_an_hour() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = Journal::open_inline(dir.path(), journal_options()).expect("opened");
        let clock = Clock::anchored(Timestamp(0));
        let record = Record { kind: 1, version: 1, time_ns: 0, payload: vec![1; 100] };
        let appended = journal.append(StreamId::of_backup("1"), 0, vec![record], StreamState::Open).await;
        appended.expect("appended");
        let segment = dir.path().join("log/00000001.seg");
        let mut bytes = std::fs::read(&segment).expect("readable");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&segment, bytes).expect("written");
        let health = crate::engine::health::Health::default();
        health.opened(journal.clone());
        let work = async {
            tokio::time::sleep(std::time::Duration::from_secs(58 * 60)).await;
            assert_eq!(journal.damage(), None);
            tokio::time::sleep(std::time::Duration::from_secs(3 * 60)).await;
            let checks = health.ready().await;
            let problem = checks[0].problem.as_deref().unwrap_or_default();
            assert!(problem.contains("of the log is damaged"), "{checks:?}");
        };
        tokio::select! {
            never = archive(journal.clone(), clock, Archiving::default()) => match never {},
            () = work => {}
        }
    }
}
