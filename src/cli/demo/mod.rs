//! `stillpoint demo`: one Backup on the embedded cluster, from its creation to its end.
//!
//! | module | holds |
//! |---|---|
//! | here | options and the order of the demo |
//! | `sample` | the sample database in the cluster |
//! | `progress` | progress, printed to stderr |
//! | `report` | the result, printed to stdout |

mod progress;
mod report;
mod sample;

use std::path::PathBuf;

use clap::Args;
use tower::ServiceExt;

use crate::cli::output::{Format, data, report as report_problem};
use crate::cli::sim::{ClusterArgs, Milliseconds, Qps, Snapshotter};
use crate::cluster::Adapter;
use crate::domain::problem::{About, Code, Problem};
use crate::engine::backup_spec::Defaults;
use crate::engine::binding::BindingOptions;
use crate::engine::clock::Clock;
use crate::engine::crash_points::CrashPoints;
use crate::engine::daemon;
use crate::engine::{Config, Engine};
use crate::machine::kit::Logic;
use crate::service::logs::{self, LogFormat};
use crate::sim::Cluster;

/// Back up a sample database as one group on an embedded cluster and print the result
///
/// The demo changes nothing outside of this process, except the journal directory.
#[derive(Debug, Args)]
pub struct Demo {
    /// Directory of the new journal; must not contain a journal. Defaults to a new temporary directory, which
    /// is kept
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Seed for uids and snapshot handles; the same seed gives the same names
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Rate limit of the snapshot-controller and of the sidecar in calls per second, or "off". Real
    /// controllers have 5
    #[arg(long, value_name = "N|off", default_value = "5")]
    controller_qps: Qps,
    /// Number of volumes of the database
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=128))]
    members: u16,
    /// Version of groupsnapshot.storage.k8s.io that the cluster serves. Defaults to all three versions
    #[arg(long, value_name = "V")]
    groupsnapshot_version: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

impl Demo {
    /// Runs the demo. Returns 0 only if the Backup completed and nothing leaked.
    pub async fn execute(self) -> u8 {
        logs::to_stderr(LogFormat::Text, tracing::Level::WARN);
        let format = self.output;
        let shown = self.run().await.and_then(|end| {
            let text = match format.document(&end)? {
                Some(document) => document,
                None => report::text(&end),
            };
            // A closed stdout is not an error of the demo.
            let _ = data(&text);
            Ok(end.exit_code())
        });
        shown.unwrap_or_else(|problem| report_problem(&problem, format.is_document()))
    }

    async fn run(self) -> Result<report::End, Problem> {
        let dir = self.journal_dir()?;
        let (journal, opened) = daemon::open(dir.clone(), None).await?;
        if opened.records > 0 {
            return Err(Problem::new(
                Code::Usage,
                About::new("Journal", "", &dir.display().to_string()),
                "it has records already, and the cluster that they speak of is gone",
                "choose a new directory, or look into this one with `stillpoint journal list --journal DIR`",
            ));
        }
        let cluster = Cluster::start(self.cluster().config());
        sample::load(&cluster, usize::from(self.members)).await;
        let adapter = Adapter::connect(client(&cluster)).await?;
        let config = Config {
            group_logic: Logic::default(),
            namespace: sample::OWN_NAMESPACE.to_owned(),
            defaults: Defaults::default(),
            points: CrashPoints::none(),
            clock: Clock::wall(),
            binding: BindingOptions::new(uuid::Uuid::new_v4()),
        };
        let engine = Engine::new(adapter, journal.clone(), opened, config);
        let status_board = engine.status_board();
        let hand = cluster.api().caller("kubectl");
        sample::request(&hand)?;
        let seen = tokio::select! {
            problem = engine.run() => return Err(problem),
            seen = progress::follow(&hand, status_board) => seen,
        };
        Ok(report::End::gather(&cluster, &journal, &dir, seen).await)
    }

    fn journal_dir(&self) -> Result<PathBuf, Problem> {
        if let Some(dir) = &self.journal {
            return Ok(dir.clone());
        }
        let made = tempfile::Builder::new().prefix("stillpoint-demo-").tempdir();
        made.map(tempfile::TempDir::keep).map_err(|error| {
            let about = About::new("File", "", &std::env::temp_dir().display().to_string());
            Problem::new(Code::JournalIo, about, error.to_string(), "name a directory with --journal")
        })
    }

    fn cluster(&self) -> ClusterArgs {
        let all = || ["v1", "v1beta2", "v1beta1"].map(str::to_owned).to_vec();
        ClusterArgs {
            seed: self.seed,
            snapshotter: Snapshotter(None),
            list_delay: Milliseconds(0),
            controller_qps: self.controller_qps,
            groupsnapshot_version: self
                .groupsnapshot_version
                .clone()
                .map_or_else(all, |version| vec![version]),
        }
    }
}

/// The router of the embedded cluster as the transport of the daemon's client.
fn client(cluster: &Cluster) -> kube::Client {
    let agent = concat!("stillpoint/", env!("CARGO_PKG_VERSION"));
    let named = cluster.router().map_request(move |mut request: http::Request<kube::client::Body>| {
        request.headers_mut().insert(http::header::USER_AGENT, http::HeaderValue::from_static(agent));
        request
    });
    kube::Client::new(named, "default")
}
