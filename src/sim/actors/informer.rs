//! The informer caches of an actor: its view of the cluster, which may be stale.
//!
//! Each resource has its own stream. An event reaches the cache up to `cache_lag_ms` later. The delay is
//! drawn per event from the seed. Order is kept within a stream and not between streams. An actor may
//! therefore know that a VolumeGroupSnapshot is being deleted without knowing the earlier changes of its
//! members: real members are lost by this staleness. Without a lag, events are applied as they arrive.
//!
//! The streams of an actor that resumes after a freeze race in the same way: each queued event takes up to
//! [`RACE_MS`], so a stream with more queued events lags behind a stream with fewer.
//!
//! A cache with a resync reports every cached object again every [`RESYNC`], as a change of the object
//! into itself. This repairs states that no event and no back-off repairs.
//!
//! Not here: relisting (the in-process watch never breaks).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::object;
use super::pause::Pause;
use super::tasks::Tasks;
use crate::api_server::{Watch, WatchEvent};

/// Maximum time per queued event after an actor was frozen, milliseconds.
const RACE_MS: u64 = 20;

/// Time between two resyncs (`--resync-period` of the snapshot controllers).
pub(crate) const RESYNC: Duration = Duration::from_secs(15 * 60);

/// The staleness of the caches of an actor.
#[derive(Clone)]
pub(crate) struct Lag {
    /// The maximum delay of an event, milliseconds.
    pub(crate) max_ms: u64,
    /// The seed from which delays are drawn.
    pub(crate) seed: u64,
}

impl Lag {
    /// The delay of one event. It is the same for the same seed, resource, name and version.
    fn of(&self, plural: &str, object: &Value) -> Duration {
        self.draw(self.max_ms, plural, object)
    }

    /// Waits while the actor is frozen, and a moment longer if it was frozen or is already `behind`. Returns
    /// true in both cases.
    async fn wait(&self, pause: &Pause, plural: &str, event: &WatchEvent, behind: bool) -> bool {
        let behind = pause.wait().await || behind;
        if behind {
            tokio::time::sleep(self.draw(RACE_MS, plural, object_of(event))).await;
        }
        behind
    }

    fn draw(&self, max_ms: u64, plural: &str, object: &Value) -> Duration {
        if max_ms == 0 {
            return Duration::ZERO;
        }
        let text = format!("{plural}/{}@{}", object::key(object), object::version(object));
        let mixed = text.bytes().fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Duration::from_millis(fastrand::Rng::with_seed(mixed).u64(0..=max_ms))
    }
}

/// A change as the handlers of a cache receive it.
pub(crate) struct Change {
    /// The previous object in the cache.
    pub(crate) old: Option<Arc<Value>>,
    /// The new object in the cache; `None` after a deletion.
    pub(crate) new: Option<Arc<Value>>,
}

impl Change {
    /// The key of the object that changed.
    pub(crate) fn key(&self) -> String {
        self.new.as_ref().or(self.old.as_ref()).map(|found| object::key(found)).unwrap_or_default()
    }
}

/// The cache of one resource. Clones share the same cache.
#[derive(Clone, Default)]
pub(crate) struct Cache {
    objects: Arc<Mutex<BTreeMap<String, Arc<Value>>>>,
}

impl Cache {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Value>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object with that key, as of the last event.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Value>> {
        self.objects().get(key).cloned()
    }

    /// All objects, in key order.
    pub(crate) fn list(&self) -> Vec<Arc<Value>> {
        self.objects().values().cloned().collect()
    }

    /// The objects that satisfy `matches`, in key order.
    pub(crate) fn select(&self, matches: impl Fn(&Value) -> bool) -> Vec<Arc<Value>> {
        self.objects().values().filter(|object| matches(object)).cloned().collect()
    }

    /// The objects of a namespace that satisfy `matches`, in key order.
    pub(crate) fn select_in(&self, namespace: &str, matches: impl Fn(&Value) -> bool) -> Vec<Arc<Value>> {
        let prefix = format!("{namespace}/");
        let objects = self.objects();
        let within = objects.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        within.map(|(_, object)| object).filter(|object| matches(object)).cloned().collect()
    }

    fn apply(&self, event: WatchEvent) -> Change {
        let mut objects = self.objects();
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let old = objects.insert(object::key(&object), object.clone());
                Change { old, new: Some(object) }
            }
            WatchEvent::Deleted(object) => {
                let old = objects.remove(&object::key(&object));
                Change { old: old.or(Some(object)), new: None }
            }
        }
    }
}

/// Passes every object in the cache to `handler`, once per resync period.
pub(crate) fn resync(
    tasks: &mut Tasks,
    cache: &Cache,
    pause: &Pause,
    handler: impl Fn(&Change) + Send + Sync + 'static,
) {
    let (cache, pause) = (cache.clone(), pause.clone());
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(RESYNC).await;
            pause.wait().await;
            for object in cache.list() {
                handler(&Change { old: Some(object.clone()), new: Some(object) });
            }
        }
    });
}

/// Fills a cache from a watch and passes every change to `handler`. When this function returns, the cache
/// holds the existing objects: no actor starts to work before its caches have synced.
pub(crate) fn start(
    tasks: &mut Tasks,
    (plural, mut watch): (&'static str, Watch),
    lag: &Lag,
    pause: &Pause,
    handler: impl Fn(&Change) + Send + 'static,
) -> Cache {
    let cache = Cache::default();
    while let Some(event) = watch.try_next() {
        handler(&cache.apply(event));
    }
    let (target, pause, lag) = (cache.clone(), pause.clone(), lag.clone());
    if lag.max_ms == 0 {
        tasks.spawn(async move {
            let mut behind = false;
            loop {
                let event = match watch.try_next() {
                    Some(queued) => queued,
                    None => {
                        behind = false;
                        watch.next().await
                    }
                };
                behind = lag.wait(&pause, plural, &event, behind).await;
                handler(&target.apply(event));
            }
        });
        return cache;
    }
    let (sender, mut delayed) = mpsc::unbounded_channel();
    let race = lag.clone();
    tasks.spawn(async move {
        let mut due = Instant::now();
        loop {
            let event = watch.next().await;
            due = due.max(Instant::now() + lag.of(plural, object_of(&event)));
            if sender.send((due, event)).is_err() {
                return;
            }
        }
    });
    tasks.spawn(async move {
        let mut behind = false;
        while let Some((due, event)) = delayed.recv().await {
            behind &= due <= Instant::now();
            tokio::time::sleep_until(due).await;
            behind = race.wait(&pause, plural, &event, behind).await;
            handler(&target.apply(event));
        }
    });
    cache
}

fn object_of(event: &WatchEvent) -> &Value {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => object,
    }
}

/// The newest version of each object that a controller has seen or written itself.
///
/// A controller that has written an object does not act on an older version that is still in its cache. An
/// object whose deletion the cache has seen remains deleted: a reply to a write that is read after the
/// deletion does not bring the object back. Otherwise the controller would act on it forever. (The real
/// controller has that race as well, but between two of its instructions.) An object that the cache has not
/// received yet does not count as deleted.
#[derive(Clone, Default)]
pub(crate) struct Newest {
    cache: Cache,
    deleted: Arc<Mutex<BTreeSet<String>>>,
}

impl Newest {
    /// Stores the object. Returns false, and keeps the known version, if a newer version is known or the
    /// object is deleted.
    pub(crate) fn update(&self, object: &Arc<Value>) -> bool {
        if self.deleted().contains(object::uid(object)) {
            return false;
        }
        let mut objects = self.cache.objects();
        let key = object::key(object);
        if objects.get(&key).is_some_and(|known| object::version(known) > object::version(object)) {
            return false;
        }
        objects.insert(key, object.clone());
        true
    }

    /// The newest known version.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Value>> {
        self.cache.get(key)
    }

    /// Removes the object with that key and returns it.
    pub(crate) fn remove(&self, key: &str) -> Option<Arc<Value>> {
        self.cache.objects().remove(key)
    }

    /// Records the deletion of an object, if the change is one.
    pub(crate) fn record_deletion(&self, change: &Change) {
        if let (Some(old), None) = (&change.old, &change.new) {
            self.deleted().insert(object::uid(old).to_owned());
        }
    }

    fn deleted(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn delay_depends_on_seed_and_is_bounded() {
        let object = json!({"metadata": {"name": "a", "resourceVersion": "7"}});
        let lag = |seed| Lag { max_ms: 200, seed }.of("volumesnapshots", &object);
        assert_eq!(lag(1), lag(1));
        assert!((0..50).all(|seed| lag(seed) <= Duration::from_millis(200)));
        assert!((0..50).any(|seed| lag(seed) != lag(0)));
    }

    #[test]
    fn older_version_never_replaces_newer_one() {
        let at = |version: &str| Arc::new(json!({"metadata": {"name": "a", "resourceVersion": version}}));
        let newest = Newest::default();
        assert!(newest.update(&at("9")));
        assert!(!newest.update(&at("8")));
        assert!(newest.update(&at("9")), "the same version is processed again");
        assert_eq!(newest.get("a").map(|found| object::version(&found)), Some(9));
    }

    #[test]
    fn ignores_late_response_for_deleted_object() {
        let named = |uid: &str, version: &str| {
            Arc::new(json!({"metadata": {"name": "a", "uid": uid, "resourceVersion": version}}))
        };
        let newest = Newest::default();
        assert!(newest.update(&named("first", "1")) && newest.update(&named("second", "3")));
        newest.record_deletion(&Change { old: Some(named("first", "1")), new: None });
        newest.remove("a");
        assert!(!newest.update(&named("first", "2")), "the response arrives after the deletion");
        assert!(newest.update(&named("second", "3")), "the other object of that name is not deleted");
    }
}
