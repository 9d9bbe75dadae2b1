//! Reports liveness and readiness of one incarnation of the daemon.
//!
//! Liveness covers what a restart can fix: the process answers and the writer of the journal has not ended.
//! The API server does not count. Readiness covers what a Backup needs: the journal is open, the caches have
//! received complete lists, and the API server has answered recently.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;

use crate::cluster::Adapter;
use crate::domain::problem::Problem;
use crate::engine::cache::Cache;
use crate::engine::run_status::{RunStatus, StatusBoard};
use crate::journal::Journal;

/// Largest age of the last answer of the API server before another request is sent.
const LATELY: Duration = Duration::from_secs(30);

/// The health of one incarnation. Clones share its state.
#[derive(Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<Parts>>,
}

#[derive(Default, Clone)]
struct Parts {
    journal: Option<Journal>,
    adapter: Option<Adapter>,
    /// Why the API server is not reached yet.
    unreached: Option<String>,
    caches: Option<(Cache, StatusBoard)>,
}

/// One check of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    /// Why the check fails; `None` when it passes.
    pub problem: Option<String>,
}

impl Health {
    /// The journal is open.
    pub fn opened(&self, journal: Journal) {
        self.change(|parts| parts.journal = Some(journal));
    }

    /// The API server is not reached yet, and why.
    pub fn waits(&self, problem: &Problem) {
        self.change(|parts| parts.unreached = Some(problem.to_string()));
    }

    /// This incarnation has ended, and the next one begins in the same process: the journal is released.
    pub fn ended(&self) {
        self.change(|parts| *parts = Parts::default());
    }

    /// The API server has answered.
    pub fn connected(&self, adapter: Adapter) {
        self.change(|parts| parts.adapter = Some(adapter));
    }

    /// The engine watches.
    pub fn watching(&self, cache: Cache, status_board: StatusBoard) {
        self.change(|parts| parts.caches = Some((cache, status_board)));
    }

    /// Whether the daemon is alive. A journal that waits for the lock of a dying process does not make the
    /// check fail.
    pub fn live(&self) -> Vec<Check> {
        vec![check("journal writer", self.writer_ended().map_or(Ok(()), Err))]
    }

    /// Whether the daemon can process Backups. Sends a request to the API server if its last answer is too
    /// old.
    pub async fn ready(&self) -> Vec<Check> {
        let parts = self.parts();
        let journal = match (&parts.journal, self.writer_ended()) {
            (None, _) => Err("it is not open yet".to_owned()),
            (Some(_), Some(reason)) => Err(reason),
            (Some(journal), None) => journal.damage().or_else(|| journal.lack_of_room()).map_or(Ok(()), Err),
        };
        let caches = match parts.caches.as_ref().map(|(cache, _)| cache.synced().now_or_never()) {
            Some(Some(())) => Ok(()),
            Some(None) => Err("not every list is complete yet".to_owned()),
            None => Err("nothing is watched yet".to_owned()),
        };
        let api_server = match &parts.adapter {
            Some(adapter) => adapter.answers(LATELY).await.map_err(|problem| problem.to_string()),
            None => Err(parts.unreached.unwrap_or_else(|| "it has not answered yet".to_owned())),
        };
        vec![check("journal", journal), check("caches", caches), check("API server", api_server)]
    }

    /// The runs of this incarnation, as last published.
    pub fn runs(&self) -> Vec<Arc<RunStatus>> {
        self.parts().caches.map(|(_, status_board)| status_board.all()).unwrap_or_default()
    }

    /// Epoch, and position of the last durable record.
    pub fn journal(&self) -> Option<(u64, u64)> {
        self.parts().journal.map(|journal| (journal.epoch(), journal.head().position))
    }

    fn writer_ended(&self) -> Option<String> {
        self.parts().journal.and_then(|journal| journal.stopped().now_or_never())
    }

    fn parts(&self) -> Parts {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        change(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn check(name: &'static str, outcome: Result<(), String>) -> Check {
    Check { name, problem: outcome.err() }
}
