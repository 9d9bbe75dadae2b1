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
use crate::machine::kit::Point;
use crate::service::http;
use crate::service::logs::{self, LogFormat};
use crate::service::metrics::Metrics;

/// Run the controller
///
/// The controller processes the Backups in its namespace until it is stopped. It can be killed at any time:
/// the next start reads the journal and the cluster, and continues every run.
#[derive(Debug, Args)]
pub struct Run {
    /// Path to the kubeconfig file. Defaults to the kubeconfig of the environment, then to the service
    /// account of the pod
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of Stillpoint; Backups are read from this namespace
    #[arg(long, value_name = "NS", default_value = "stillpoint")]
    namespace: String,
    /// Directory of the journal. It is created if it does not exist
    #[arg(long, value_name = "DIR")]
    journal: PathBuf,
    /// Label key that groups PersistentVolumeClaims if the Backup does not set one [default:
    /// velero.io/volume-group]
    #[arg(long, value_name = "KEY")]
    volume_group_snapshot_label_key: Option<String>,
    /// Restore the group name on released members, so that Velero recognises them. The name is restored 60 s
    /// after the group is deleted, when no controller's cache can contain the group any more
    #[arg(long)]
    keep_group_name: bool,
    /// Maximum difference between the creation times of a group's snapshots, as reported by the driver. A
    /// larger difference adds a warning to the Backup. A Go duration: 500ms, 1s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    max_skew: Millis,
    /// Roll back a group if its snapshots are further apart than --max-skew, or if a creation time is unknown
    #[arg(long)]
    require_atomic: bool,
    /// Take over from the journal with this id: the binding of the namespace then names the journal of this
    /// daemon. The daemon of the other journal must be stopped
    #[arg(long, value_name = "ID")]
    take_over: Option<uuid::Uuid>,
    /// Do not free storage. Use this for a cluster that is a copy of another cluster
    #[arg(long)]
    no_free: bool,
    /// Number of records after which a segment of the journal ends and can be archived
    #[arg(long, value_name = "N", default_value_t = Archiving::default().records)]
    archive_records: u64,
    /// Number of days after which a segment of the journal ends, even if it has fewer records
    #[arg(long, value_name = "N", default_value_t = Archiving::default().days)]
    archive_days: u32,
    /// Write archives of the journal to this directory instead of `archive` in the journal's. It may be another
    /// volume. Pass it to the `journal` commands with --archive
    #[arg(long, value_name = "DIR")]
    archive_dir: Option<PathBuf>,
    /// Kill the process with SIGKILL at this crash point; `stillpoint drill points` lists the crash points
    #[arg(long, value_name = "POINT")]
    crash_at: Option<Point>,
    /// Address to serve /livez, /readyz and /metrics on, for example 0.0.0.0:8080. Not served by default
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    /// Format of log lines
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
    /// Minimum level of Stillpoint's log lines: error, warn, info or debug
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
    /// Runs the daemon. Returns only when the daemon has to end.
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
            archive_dir: self.archive_dir,
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

/// The exit code that a shell reports for a process that SIGTERM ended.
const TERMINATED: i32 = 128 + 15;

/// SIGTERM and SIGINT have the effect of SIGKILL. A graceful shutdown would do nothing better, and a code
/// path that is never used is a code path that does not work. The signals are caught only because process 1
/// of a container ignores them.
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
