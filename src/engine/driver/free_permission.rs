//! Checks whether a step may free storage, and detects reads that stay stale.

use std::sync::Arc;

use super::Driver;
use crate::domain::limits;
use crate::domain::problem::Problem;
use crate::engine::cache::{ReadError, Subscription};
use crate::engine::driven::Driven;
use crate::machine::kit::WaitReport;

impl<M: Driven> Driver<M> {
    /// Reads the run's objects, the binding and the claim of the Backup from the API server. Until freeing is
    /// permitted, the run waits and publishes the reason.
    ///
    /// # Errors
    /// Another journal, or a newer start, has taken over: the daemon ends and has freed nothing.
    pub(super) async fn permit(&mut self, row: &'static str, changes: &Subscription) -> Result<(), Problem> {
        let mut settings = self.context.binder.changes();
        self.fresh = false;
        while !self.fresh {
            self.refresh(row).await?;
        }
        let seen = self.observe(self.context.clock.now());
        let Some(why) = M::may_free(&self.context, &self.run, &seen).await? else {
            (self.permitted, self.suspended_since) = (true, None);
            return Ok(());
        };
        let now = self.context.clock.now();
        let since = *self.suspended_since.get_or_insert(now);
        let report = Arc::new(WaitReport::suspended(row, why, since));
        self.warn(&report);
        self.show(Some(report));
        let again = now.after(limits::BACKOFF_MAX);
        tokio::select! {
            biased;
            _ = settings.changed() => {}
            () = changes.changed() => tokio::task::yield_now().await,
            () = self.context.clock.sleep_until(Some(again)) => {}
        }
        Ok(())
    }

    /// Measures how long reads have shown a state older than the known one. An etcd member that lags catches
    /// up. An etcd that was restored never does, and no read would ever be accepted again.
    ///
    /// # Errors
    /// The reads stayed stale for longer than any lag: the cluster went back in time.
    pub(super) async fn note_behind(&mut self, unread: &ReadError) -> Result<(), Problem> {
        let ReadError::Behind { .. } = unread else { return Ok(()) };
        let now = self.context.clock.now();
        let since = *self.behind_since.get_or_insert(now);
        if now < since.after(limits::READS_STAY_BEHIND) {
            return Ok(());
        }
        let why = format!("{unread}, and this has not changed for {}", now.since(since));
        Err(self.context.binder.went_back(why).await?)
    }
}
