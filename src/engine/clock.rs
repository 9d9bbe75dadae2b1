//! Provides time to the engine: one anchor on the wall clock, and the clock of the runtime from there.
//!
//! With the clock of the runtime, every deadline, pause and recorded time is simulated on simulated time. A
//! step of the wall clock does not end a deadline of a running daemon either.

use crate::domain::limits;
use crate::domain::time::Timestamp;

/// The time source of the engine.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    anchor: Timestamp,
    started: tokio::time::Instant,
}

impl Clock {
    /// A clock whose time is `anchor` now.
    pub fn anchored(anchor: Timestamp) -> Self {
        Self { anchor, started: tokio::time::Instant::now() }
    }

    /// A clock that starts at the time of the wall clock.
    pub fn wall() -> Self {
        let now = jiff::Timestamp::now().as_nanosecond();
        Self::anchored(Timestamp(i64::try_from(now).unwrap_or(i64::MAX)))
    }

    /// The clock of an incarnation that continues from records of that time: never behind them.
    ///
    /// Between two incarnations only the wall clock measures how much time passed. A wall clock set forward
    /// ends deadlines as if the daemon had been down for that long. One set back would extend deadlines, and
    /// runs would end before they began. In that case time continues from the last record of unfinished work.
    /// It is ahead of the wall clock by at most the amount by which that was set back, and only until all of
    /// that work has ended. An incarnation without unfinished work uses the time of the wall clock again.
    pub fn not_before(self, last: Timestamp) -> Self {
        let behind = u64::try_from(last.0.saturating_sub(self.now().0)).unwrap_or(0);
        Self { anchor: Timestamp(self.anchor.0.saturating_add_unsigned(behind)), ..self }
    }

    /// This clock after a user set it by so many seconds, for the next incarnation.
    pub fn set_by(self, seconds: i64) -> Self {
        Self {
            anchor: Timestamp(self.anchor.0.saturating_add(seconds.saturating_mul(1_000_000_000))),
            ..self
        }
    }

    pub fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        Timestamp(self.anchor.0.saturating_add(elapsed))
    }

    /// Pauses before the next try, longer after each of so many failures.
    pub async fn pause(&self, failures: u32) {
        self.sleep_until(Some(self.now().after(limits::backoff(failures)))).await;
    }

    /// Returns at that time; never, for `None`.
    pub async fn sleep_until(&self, at: Option<Timestamp>) {
        match at {
            Some(at) => {
                let left = u64::try_from(at.0.saturating_sub(self.now().0)).unwrap_or(0);
                tokio::time::sleep(std::time::Duration::from_nanos(left)).await;
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clock_continues_from_last_record_after_restart() {
        let second = 1_000_000_000;
        let clock = Clock::anchored(Timestamp(10 * second));
        assert_eq!(clock.not_before(Timestamp(4 * second)).now(), Timestamp(10 * second));
        let set_back = clock.set_by(-7).not_before(Timestamp(10 * second));
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        assert_eq!(set_back.now(), Timestamp(15 * second), "and from there on as time passes");
        assert_eq!(clock.not_before(Timestamp(i64::MIN)).now(), Timestamp(15 * second));
    }
}
