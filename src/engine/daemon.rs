//! Runs one daemon: open the journal, reach the cluster, run the engine until it ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cluster::Adapter;
use crate::domain::problem::{About, Code, Problem};
use crate::engine::archiving::{self, Archiving};
use crate::engine::backup_spec::Defaults;
use crate::engine::binding::BindingOptions;
use crate::engine::clock::Clock;
use crate::engine::crash_points::CrashPoints;
use crate::engine::health::Health;
use crate::engine::telemetry::MetricsSink;
use crate::engine::{Config, Engine, socket};
use crate::journal::{Journal, JournalError, Opened, Options};
use crate::machine::kit::Logic;
use crate::records;
use crate::records::journal_options;

/// How the daemon is started.
pub struct Start {
    /// Kubeconfig; without one that of the environment, else that of the pod.
    pub kubeconfig: Option<PathBuf>,
    pub namespace: String,
    /// Directory of the journal.
    pub journal: PathBuf,
    /// Directory of its archives, if it is another one.
    pub archive_dir: Option<PathBuf>,
    /// Options that apply to every Backup.
    pub defaults: Defaults,
    /// How the journal is bound to the cluster.
    pub binding: BindingOptions,
    /// When finished runs are archived.
    pub archiving: Archiving,
    pub points: CrashPoints,
    /// Receives metrics.
    pub metrics: Arc<dyn MetricsSink>,
    /// Health of this incarnation, for the probes.
    pub health: Health,
}

/// Runs the daemon until it has to end. If the cluster went back in time, the next incarnation begins in the
/// same process. It reads everything again, and frees nothing until an operator has confirmed the cluster.
///
/// # Errors
/// Always returns one: why it ended. The daemon waits for an API server that does not answer or refuses every
/// request.
pub async fn run(start: Start) -> Problem {
    loop {
        let problem = life(&start).await;
        start.health.ended();
        if problem.code != Code::ClusterWentBack {
            return problem;
        }
        tracing::error!(%problem, "reading everything anew");
    }
}

async fn life(start: &Start) -> Problem {
    // The journal first: its lock keeps two daemons apart, and its epoch is claimed before any call.
    let dir = start.journal.clone();
    let (journal, opened) = match open(dir.clone(), start.archive_dir.clone()).await {
        Ok(opened) => opened,
        Err(problem) => return problem,
    };
    for repair in &opened.repairs {
        tracing::warn!(%repair, "journal repaired");
    }
    tracing::info!(epoch = journal.epoch(), head = %journal.head(), unfinished = opened.streams.len(), "journal open");
    start.health.opened(journal.clone());
    let ended = stopped(dir.clone(), journal.clone());
    let shown = socket::serve(dir, journal.clone());
    let archived = archiving::archive(journal.clone(), Clock::wall(), start.archiving);
    tokio::select! {
        problem = live(start, journal, opened) => problem,
        problem = ended => problem,
        never = shown => match never {},
        never = archived => match never {},
    }
}

/// Returns once the writer of the journal has ended. A daemon that appends nothing would not detect it
/// otherwise.
async fn stopped(dir: PathBuf, journal: Journal) -> Problem {
    let reason = journal.stopped().await;
    records::problem(&JournalError::Stopped { reason }, &dir.display().to_string())
}

/// Reaches the cluster and runs the engine.
async fn live(start: &Start, journal: Journal, opened: Opened) -> Problem {
    let (kubeconfig, health) = (start.kubeconfig.as_deref(), &start.health);
    let reached = Adapter::reach(|| client(kubeconfig), |problem| health.waits(problem)).await;
    let adapter = match reached {
        Ok(adapter) => adapter,
        Err(problem) => return problem,
    };
    start.health.connected(adapter.clone());
    let served = adapter.served();
    tracing::info!(namespace = start.namespace, group_api = ?served.group_version, "serving");
    let config = Config {
        group_logic: Logic::default(),
        namespace: start.namespace.clone(),
        defaults: start.defaults.clone(),
        points: start.points.clone(),
        clock: Clock::wall(),
        binding: start.binding,
    };
    let engine = Engine::observed(adapter, journal, opened, config, start.metrics.clone());
    start.health.watching(engine.cache(), engine.status_board());
    engine.run().await
}

/// Opens a journal on a separate thread: the call blocks while a dying process holds the lock, and logs this
/// at once.
///
/// # Errors
/// The journal is locked, damaged, newer, or cannot be read or written.
pub async fn open(dir: PathBuf, archive_dir: Option<PathBuf>) -> Result<(Journal, Opened), Problem> {
    let shown = dir.display().to_string();
    let mut options = Options { archive_dir, ..journal_options() };
    let patience = options.patience();
    options.on_held = Arc::new(move |held| {
        tracing::warn!("{held}; waiting up to {} s for that process to end", patience.as_secs());
    });
    let opened = tokio::task::spawn_blocking(move || Journal::open_thread(&dir, options)).await;
    match opened {
        Ok(result) => result.map_err(|error| records::problem(&error, &shown)),
        Err(join) => Err(Problem::new(
            Code::Internal,
            About::new("Journal", "", &shown),
            format!("opening it ended in a panic: {join}"),
            "keep the directory and report it; restore a copy to go on",
        )),
    }
}

async fn client(kubeconfig: Option<&Path>) -> Result<kube::Client, Problem> {
    let config = crate::cluster::client_config(kubeconfig).await?;
    let about = About::new("Cluster", "", &config.cluster_url.to_string());
    kube::Client::try_from(config).map_err(|error| {
        Problem::new(
            Code::Usage,
            about,
            error.to_string(),
            "check the kubeconfig: server, certificates, user",
        )
    })
}
