//! `stillpoint run`: the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::cli::output::report;
use crate::domain::atomicity::Demand;
use crate::domain::duration;
use crate::domain::problem::Problem;
use crate::domain::time::Millis;
use crate::engine::archiving::Archiving;
use crate::engine::backup_spec::Defaults;
use crate::engine::binding::BindingOptions;
use crate::engine::crash_points::CrashPoints;
use crate::engine::daemon::{self, Start};
use crate::engine::health::Health;
use crate::machine::point::Point;
use crate::service::http;
use crate::service::logs::{self, LogFormat};
use crate::service::metrics::Metrics;

/// Takes Backups in its namespace until it is stopped.
///
/// It can be killed at any time: the next start reads the journal, looks at the cluster, and goes on.
#[derive(Debug, Args)]
pub struct Run {
    /// Kubeconfig of the cluster; without it that of the environment, else that of the pod.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Stillpoint's own namespace, from which Backups are taken.
    #[arg(long, value_name = "NS", default_value = "stillpoint")]
    namespace: String,
    /// Directory of the journal; it is created when it is missing.
    #[arg(long, value_name = "DIR")]
    journal: PathBuf,
    /// Label key that groups PersistentVolumeClaims where a Backup names none [default: velero.io/volume-group].
    #[arg(long, value_name = "KEY")]
    volume_group_snapshot_label_key: Option<String>,
    /// Put the name of the group back into released members, so that Velero recognises them. It is put back a minute
    /// after the group is gone, when no controller's cache can have the group any more.
    #[arg(long)]
    keep_group_name: bool,
    /// How far apart the members of a group may be cut, by the creation times that the driver reports, before the Backup
    /// carries a warning. A Go duration: 500ms, 1s.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    max_skew: Millis,
    /// Roll a group back whose members were cut further apart than --max-skew, or with unknown creation times.
    #[arg(long)]
    require_atomic: bool,
    /// Give the place of the journal with that id to this one: the binding of the namespace names it, and its daemon is
    /// stopped.
    #[arg(long, value_name = "ID")]
    take_over: Option<uuid::Uuid>,
    /// Free no storage: for a cluster that is a copy of another one.
    #[arg(long)]
    no_free: bool,
    /// Records after which a segment of the journal ends, so that it can be archived.
    #[arg(long, value_name = "N", default_value_t = Archiving::default().records)]
    archive_records: u64,
    /// Days after which it ends, however few records it has.
    #[arg(long, value_name = "N", default_value_t = Archiving::default().days)]
    archive_days: u32,
    /// End with SIGKILL at that point (`stillpoint drill points` lists them).
    #[arg(long, value_name = "POINT")]
    crash_at: Option<Point>,
    /// Serve /livez, /readyz and /metrics there, e.g. 0.0.0.0:8080; without it they are not served.
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
    /// From which level on Stillpoint logs: error, warn, info, debug.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: tracing::Level,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

async fn shown(listen: Option<SocketAddr>, router: axum::Router) -> Problem {
    match listen {
        Some(address) => http::serve(address, router).await,
        None => std::future::pending().await,
    }
}

impl Run {
    /// Runs the daemon; returns only when it has to end.
    pub async fn execute(self) -> u8 {
        let format = match self.log_format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        };
        logs::to_stderr(format, self.log_level);
        let (health, metrics) = (Health::default(), Arc::new(Metrics::new()));
        let router = http::router(health.clone(), metrics.clone());
        let start = Start {
            kubeconfig: self.kubeconfig,
            namespace: self.namespace,
            journal: self.journal,
            defaults: Defaults {
                label_key: self.volume_group_snapshot_label_key,
                keep_group_name: self.keep_group_name,
                atomicity: Demand { max_skew: self.max_skew, required: self.require_atomic },
            },
            binding: BindingOptions {
                take_over: self.take_over,
                no_free: self.no_free,
                ..BindingOptions::new(uuid::Uuid::new_v4())
            },
            archiving: Archiving { records: self.archive_records, days: self.archive_days },
            points: self.crash_at.map_or_else(CrashPoints::none, CrashPoints::sigkill_at),
            metrics,
            health,
        };
        tokio::select! {
            problem = daemon::run(start) => report(&problem, false),
            problem = shown(self.metrics_listen, router) => report(&problem, false),
            () = told_to_end() => std::process::exit(TERMINATED),
        }
    }
}

/// What a shell shows for a process that SIGTERM ended.
const TERMINATED: i32 = 128 + 15;

/// SIGTERM and SIGINT have the effect of SIGKILL: there is nothing that a quiet end would do better, and the way that
/// is never used is the one that does not work. They are caught only because process 1 of a container ignores them.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (term, int) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match (term, int) {
        (Ok(mut term), Ok(mut int)) => tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        },
        _ => std::future::pending().await,
    }
}
