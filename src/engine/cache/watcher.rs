//! Runs one watch that feeds one cache, until it is aborted.
//!
//! Promises: a list first delivers the full state; watches that continue where the last one ended deliver the
//! changes. An event that a watch lost silently is recovered within [`limits::FULL_TELLING`] plus one
//! renewal: the renewal that is due then requests the full state again, in the watch itself (a streaming
//! list: Kubernetes 1.32, and 1.34 and later). So a lost event is recovered without an additional request.
//! Only an API server that refuses streaming lists receives a list request.
//!
//! The module uses the calls of the client and not kube's watcher. That watcher neither begins from a known
//! version nor requests a consistent streaming list (its version 0 may be as old as the cache of an API
//! server).
//!
//! Not here: the decoding of an event (`decode`), and its effect on a cache (`kind_cache`).

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::AsyncBufRead;
use kube::api::{ListParams, WatchParams};
use kube::core::Request;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::Cache;
use super::decode::{self, Read, Unreadable, WatchEvent};
use super::index::Indexed;
use super::kind_cache::KindCache;
use super::store::Store;
use crate::cluster::Adapter;
use crate::domain::limits;
use crate::domain::time::Millis;

/// The annotation of the bookmark that ends the initial events of a streaming list (k8s.io/apimachinery,
/// meta/v1).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
const PAGE: u32 = 500;
/// A watch that was open for a shorter time ended at once.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Time beyond its requested duration after which the connection of a watch counts as dead.
const MARGIN: Millis = Millis::from_secs(5);

/// The watch of one kind, and the position that its cache has reached.
pub struct Watch<K> {
    adapter: Adapter,
    client: Client,
    /// Path of the list.
    url: String,
    cache: Cache,
    kind_cache: fn(&mut Store) -> &mut KindCache<K>,
    labels: Option<&'static str>,
    /// Version from which a watch continues; none before the first list, and after the API server has
    /// compacted its history.
    at: Option<String>,
    /// Time of the last full state.
    told: Instant,
    /// False once the API server has refused a streaming list.
    streams: bool,
    /// Whether the current watch has delivered anything.
    heard: bool,
}

/// Why a watch ended early.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Call(#[from] kube::Error),
    #[error("{0}")]
    WatchEvent(Box<kube::core::Status>),
    #[error("a list without a resourceVersion")]
    NoVersion,
    #[error("the streaming list did not end")]
    Endless,
    #[error("no answer within {}", limits::REQUEST_TIMEOUT)]
    Silent,
    #[error("the connection broke: {0}")]
    Cut(#[from] std::io::Error),
    #[error("what it tells cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Broken {
    fn code(&self) -> u16 {
        match self {
            Self::Call(kube::Error::Api(status)) | Self::WatchEvent(status) => status.code,
            _ => 0,
        }
    }
}

impl<K> Watch<K>
where
    K: Resource + Indexed + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// A watch for a cache; with `labels` only of objects that have them.
    pub fn new(
        adapter: Adapter,
        api: Api<K>,
        cache: Cache,
        kind_cache: fn(&mut Store) -> &mut KindCache<K>,
        labels: Option<&'static str>,
    ) -> Self {
        let (url, client) = (api.resource_url().to_owned(), api.into_client());
        Self {
            adapter,
            client,
            url,
            cache,
            kind_cache,
            labels,
            at: None,
            told: Instant::now(),
            streams: true,
            heard: false,
        }
    }

    /// Lists and watches until it is aborted.
    ///
    /// An object that cannot be decoded is skipped with a warning: it must not block all others of its kind.
    pub async fn follow(mut self) {
        let mut pauses = Pauses::default();
        loop {
            let begun = Instant::now();
            self.heard = false;
            let ended = self.renew().await;
            if self.heard {
                pauses = Pauses::default();
            }
            // A watch that ends at once without an event is treated as refused: no retry in a hot loop.
            let over = self.heard || begun.elapsed() >= AT_ONCE;
            match ended {
                Ok(()) if over => continue,
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(resource = self.url, %error, "watch");
                    if let Broken::Call(error) = &error {
                        self.adapter.note_refusal(error);
                    }
                    if error.code() == 410 {
                        self.at = None;
                    }
                }
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// One watch, from where the last one ended. If a full state is due, it is read before the watch or in
    /// it.
    async fn renew(&mut self) -> Result<(), Broken> {
        let due = self.told.elapsed() >= Duration::from_millis(limits::FULL_TELLING.0);
        match self.at.clone() {
            Some(_) if due && self.streams => return self.stream().await,
            Some(at) if !due => return self.watch(&at).await,
            _ => {}
        }
        let at = self.list().await?;
        self.watch(&at).await
    }

    fn params(&self) -> WatchParams {
        let params = WatchParams::default().timeout(limits::WATCH_SECONDS);
        self.labels.map_or(params.clone(), |labels| params.labels(labels))
    }

    /// Lists the full state, from one version of the store. Returns its version.
    async fn list(&mut self) -> Result<String, Broken> {
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = self.labels.map(str::to_owned);
        self.cache.apply(Event::Init, self.kind_cache);
        loop {
            let request = Request::new(&self.url).list(&params).map_err(kube::Error::BuildRequest)?;
            let page = decode::page(&answered(self.client.request_text(request)).await?)?;
            page.items.into_iter().for_each(|object| self.put(object, Event::InitApply));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let at = page.metadata.resource_version.filter(|version| !version.is_empty());
                let at = at.ok_or(Broken::NoVersion)?;
                self.told_all(at.clone());
                return Ok(at);
            }
        }
    }

    fn told_all(&mut self, at: String) {
        self.cache.apply(Event::InitDone, self.kind_cache);
        (self.at, self.told, self.heard) = (Some(at), Instant::now(), true);
    }

    async fn open(&self, params: &WatchParams, at: &str) -> Result<impl AsyncBufRead + use<K>, Broken> {
        let mut request = Request::new(&self.url).watch(params, at).map_err(kube::Error::BuildRequest)?;
        request.extensions_mut().insert("watch");
        answered(self.client.request_stream(request)).await
    }

    async fn watch(&mut self, at: &str) -> Result<(), Broken> {
        let lines = self.open(&self.params(), at).await?;
        self.hear_all(&mut pin!(lines)).await
    }

    /// Requests the full state in the watch itself, and then its changes. If the API server refuses that,
    /// this process does not request it again.
    async fn stream(&mut self) -> Result<(), Broken> {
        // Without a version: as fresh as the moment of the request, whatever the API server has in its cache.
        let lines = match self.open(&self.params().initial_events(), "").await {
            Ok(lines) => lines,
            Err(error) => {
                self.streams = !matches!(error.code(), 400..429);
                return Err(error);
            }
        };
        let (mut lines, mut line) = (pin!(lines), Vec::new());
        let patience = Instant::now() + Duration::from_millis(limits::REQUEST_TIMEOUT.0);
        self.cache.apply(Event::Init, self.kind_cache);
        loop {
            let Ok(read) = tokio::time::timeout_at(patience, decode::line(&mut lines, &mut line)).await
            else {
                // An API server that does not know streaming lists delivers changes, but never the bookmark
                // that ends the initial events.
                self.streams = false;
                return Err(Broken::Endless);
            };
            if !read? {
                return Ok(());
            }
            match decode::event(&line)? {
                WatchEvent::Applied(object) => self.put(object, Event::InitApply),
                WatchEvent::Bookmark(mark) => {
                    if mark.metadata.annotations.contains_key(INITIAL_EVENTS_END) {
                        self.told_all(mark.metadata.resource_version);
                        break;
                    }
                }
                WatchEvent::Deleted(_) => {}
                WatchEvent::Error(status) => return Err(Broken::WatchEvent(status.boxed())),
            }
        }
        self.hear_all(&mut lines).await
    }

    /// Reads events until the watch ends, or its connection is dead: the API server ends a watch at its
    /// timeout.
    async fn hear_all(&mut self, lines: &mut (impl AsyncBufRead + Unpin)) -> Result<(), Broken> {
        let longest = Duration::from_secs(u64::from(limits::WATCH_SECONDS)) + Duration::from_millis(MARGIN.0);
        let mut line = Vec::new();
        while timeout(longest, decode::line(lines, &mut line)).await.unwrap_or(Ok(false))? {
            self.hear(decode::event(&line)?)?;
        }
        Ok(())
    }

    fn hear(&mut self, told: WatchEvent<K>) -> Result<(), Broken> {
        let version_of = |object: &Read<K>| match object {
            Ok(object) => object.meta().resource_version.clone(),
            Err(unreadable) => unreadable.version.clone(),
        };
        let version = match told {
            WatchEvent::Applied(object) => {
                let version = version_of(&object);
                self.put(object, Event::Apply);
                version
            }
            WatchEvent::Deleted(object) => {
                let version = version_of(&object);
                match object {
                    Ok(object) => self.cache.apply(Event::Delete(object), self.kind_cache),
                    Err(unreadable) => self.pass_over(unreadable, true),
                }
                version
            }
            WatchEvent::Bookmark(mark) => Some(mark.metadata.resource_version),
            WatchEvent::Error(status) => return Err(Broken::WatchEvent(status.boxed())),
        };
        self.at = version.filter(|version| !version.is_empty()).or(self.at.take());
        self.heard = true;
        Ok(())
    }

    fn put(&self, object: Read<K>, event: fn(K) -> Event<K>) {
        match object {
            Ok(object) => self.cache.apply(event(object), self.kind_cache),
            Err(unreadable) => self.pass_over(unreadable, false),
        }
    }

    fn pass_over(&self, unreadable: Unreadable, deleted: bool) {
        let (object, error) = (&unreadable.id, &unreadable.error);
        tracing::warn!(resource = self.url, %object, error, "an object cannot be read");
        self.cache.apply_unreadable(unreadable, deleted, self.kind_cache);
    }
}

async fn answered<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Broken> {
    let patience = Duration::from_millis(limits::REQUEST_TIMEOUT.0);
    Ok(timeout(patience, call).await.map_err(|_| Broken::Silent)??)
}

/// Pauses after failures in a row: 0.8 s, doubled up to half a minute, as in kube but without its jitter. One
/// daemon causes no thundering herd, and a run on simulated time must be deterministic.
#[derive(Default)]
struct Pauses {
    failures: u32,
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(800 << self.failures.min(6)).min(Duration::from_secs(30));
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let mut pauses = Pauses::default();
        let seconds: Vec<_> = (0..8).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(seconds, [800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
    }
}
