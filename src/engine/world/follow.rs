//! One watch feeds one cache, for ever.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::Event;
use kube::runtime::watcher::{self, Config, Error};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::World;
use super::cache::Cache;
use super::store::Store;
use super::topic::About;
use crate::cluster::observe;
use crate::domain::ids::ObjectId;
use crate::domain::limits;

/// Pause before a watch that cannot go on from where it was begins anew.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Lists and watches one kind until it is aborted.
///
/// SUBTLE: kube's watcher begins anew by itself when a 410 comes inside the stream, but not when the API server
/// answers the start of a watch with it: it would ask for the same version for ever. Then the stream is made anew.
///
/// An object that cannot be read is passed over, with a warning: one of them must not stop all others of its kind.
pub async fn follow<K>(
    api: Api<DeserializeGuard<K>>,
    config: Config,
    world: World,
    cache: fn(&mut Store) -> &mut Cache<K>,
) where
    K: Resource + About + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    loop {
        let mut events = std::pin::pin!(watch(api.clone(), config.clone()).backoff(Pauses::default()));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => match readable(event.modify(strip)) {
                    Ok(event) => world.feed(event, cache),
                    Err(malformed) => {
                        let (object, error) = (&malformed.id, &malformed.error);
                        tracing::warn!(resource = api.resource_url(), %object, error, "an object cannot be read");
                        world.feed_malformed(malformed, cache);
                    }
                },
                Err(error) if is_expired(&error) => break,
                Err(error) => tracing::warn!(resource = api.resource_url(), %error, "watch"),
            }
        }
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

/// An object of the watch that is not what its kind is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Which object.
    pub id: ObjectId,
    /// What is wrong with it.
    pub error: String,
    /// Whether it was deleted.
    pub deleted: bool,
}

fn readable<K: Resource>(event: Event<DeserializeGuard<K>>) -> Result<Event<K>, Malformed> {
    let checked = |object: DeserializeGuard<K>, deleted: bool| {
        object.0.map_err(|invalid| Malformed {
            id: observe::id(&invalid.metadata),
            error: limits::clip(&invalid.error),
            deleted,
        })
    };
    Ok(match event {
        Event::Apply(object) => Event::Apply(checked(object, false)?),
        Event::InitApply(object) => Event::InitApply(checked(object, false)?),
        Event::Delete(object) => Event::Delete(checked(object, true)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// Pauses after failures in a row: 0.8 s, doubled up to half a minute, as kube's own but without its jitter. One
/// daemon is no herd, and a run on simulated time has to be the same every time.
#[derive(Default)]
struct Pauses {
    failures: u32,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(800 << self.failures.min(6)).min(Duration::from_secs(30));
        self.failures = self.failures.saturating_add(1);
        Some(pause)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Managed fields are two thirds of an object and nobody here reads them.
fn strip<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute_and_begin_anew_after_a_success() {
        let mut pauses = Pauses::default();
        let seconds: Vec<_> = pauses.by_ref().take(8).map(|pause| pause.as_millis()).collect();
        assert_eq!(seconds, [800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        pauses.reset();
        assert_eq!(pauses.next(), Some(Duration::from_millis(800)));
    }
}
