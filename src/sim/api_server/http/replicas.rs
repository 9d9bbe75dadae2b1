//! Two API servers of different ages behind one address.
//!
//! Each call goes to one of them, drawn from the seed. Writes, and reads that ask for no version, go through to the
//! store on both. What the older one answers from its watch cache lags behind: lists and gets that are content with any
//! version (`resourceVersion=0`), and the events of every watch. A call that asks it for a version that it has not heard of
//! waits up to [`PATIENCE`], and is told 504 `Too large resource version` after that. So a client that lists twice may
//! see time run backwards, and one that writes may wait for the event of its own write.
//!
//! Source: Kubernetes, `apiserver/pkg/storage/cacher` (consistent reads, `waitUntilFreshAndBlock`).

use std::time::Duration;

use tokio::time::Instant;

use crate::api_server::ApiServer;
use crate::api_server::http::{Call, Verb, read};
use crate::api_server::status::Status;

/// How long a watch cache is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// The second API server.
#[derive(Debug, Clone)]
pub struct Replicas {
    lag: Duration,
    random: fastrand::Rng,
}

impl Replicas {
    /// A second API server whose watch cache is `lag_ms` behind; the seed draws who answers.
    pub fn new(lag_ms: u64, seed: u64) -> Self {
        Self { lag: Duration::from_millis(lag_ms), random: fastrand::Rng::with_seed(seed) }
    }
}

/// Draws who answers, and lets the older one answer as it can.
///
/// # Errors
/// 504 where it was asked for a version that it does not learn of in time.
pub(super) async fn route(server: &ApiServer, call: &mut Call) -> Result<(), Status> {
    let drawn = server.with(|inner| {
        let replicas = inner.replicas.as_mut()?;
        replicas.random.bool().then_some(replicas.lag)
    });
    let Some(lag) = drawn else { return Ok(()) };
    match call.verb {
        Verb::Get if call.param("resourceVersion") == "0" => call.stale = call.stale.max(lag),
        Verb::List if call.param("continue").is_empty() => {
            let Some(version) = read::version_param(call)? else { return Ok(()) };
            wait_for(server, version, lag).await?;
            call.stale = call.stale.max(lag);
        }
        Verb::Watch => {
            if call.flag("sendInitialEvents") && read::version_param(call)?.unwrap_or(0) == 0 {
                // A consistent list from the cache: it catches up with the store first.
                tokio::time::sleep(lag).await;
            }
            call.stale = call.stale.max(lag);
            call.stream.delay_ms += u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        }
        _ => {}
    }
    Ok(())
}

/// Waits until a cache that lags has heard of the version.
async fn wait_for(server: &ApiServer, version: u64, lag: Duration) -> Result<(), Status> {
    let (known_at, now) = server.with(|inner| {
        let known_at = inner.store.made_at(version).map_or_else(Instant::now, |made| made + lag);
        (known_at, inner.store.version())
    });
    let patience = Instant::now() + PATIENCE;
    tokio::time::sleep_until(known_at.min(patience)).await;
    if known_at > patience || version > now { Err(read::too_large(version, now)) } else { Ok(()) }
}
