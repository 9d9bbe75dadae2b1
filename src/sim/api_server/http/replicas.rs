//! Two API servers of different age behind one address.
//!
//! Each call goes to one of them, drawn from the seed. On both servers, writes and reads without a version
//! use the store. The watch cache of the older server lags. It serves lists and gets that accept any version
//! (`resourceVersion=0`), and the events of every watch. If a call requires a version that this cache has not
//! received, it waits up to [`PATIENCE`], and then fails with 504 `Too large resource version`. A client that
//! lists twice may therefore receive an older state second, and a client that writes may wait for the event
//! of its own write.
//!
//! Source: Kubernetes, `apiserver/pkg/storage/cacher` (consistent reads, `waitUntilFreshAndBlock`).

use std::time::Duration;

use tokio::time::Instant;

use crate::api_server::ApiServer;
use crate::api_server::http::{Call, Verb, read};
use crate::api_server::status::Status;

/// Maximum time that a call waits for the watch cache.
const PATIENCE: Duration = Duration::from_secs(3);

/// The configuration of the second API server.
#[derive(Debug, Clone)]
pub struct Replicas {
    lag: Duration,
    random: fastrand::Rng,
}

impl Replicas {
    /// A second API server whose watch cache lags by `lag_ms`. The seed draws the server of each call.
    pub fn new(lag_ms: u64, seed: u64) -> Self {
        Self { lag: Duration::from_millis(lag_ms), random: fastrand::Rng::with_seed(seed) }
    }
}

/// Draws the server of the call. The older server limits the call to the state of its cache.
///
/// # Errors
/// 504 if the call requires a version that the cache does not receive in time.
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
                // A consistent list from the cache first catches up with the store.
                tokio::time::sleep(lag).await;
            }
            call.stale = call.stale.max(lag);
            call.stream.delay_ms += u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        }
        _ => {}
    }
    Ok(())
}

/// Waits until a lagging cache has received the version.
async fn wait_for(server: &ApiServer, version: u64, lag: Duration) -> Result<(), Status> {
    let (known_at, now) = server.with(|inner| {
        let known_at = inner.store.time_of_version(version).map_or_else(Instant::now, |time| time + lag);
        (known_at, inner.store.version())
    });
    let patience = Instant::now() + PATIENCE;
    tokio::time::sleep_until(known_at.min(patience)).await;
    if known_at > patience || version > now { Err(read::too_large(version, now)) } else { Ok(()) }
}
