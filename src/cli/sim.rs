//! `stillpoint sim`: the embedded cluster, for kubectl and any other client.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::cli::output::{data, report, talk};
use crate::domain::duration;
use crate::domain::problem::{About, Code, Problem};
use crate::sim::{Cluster, Config, Release};

/// Serve an embedded Kubernetes cluster for kubectl and other clients
#[derive(Debug, Args)]
pub struct Sim {
    /// Address to listen on; port 0 selects a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Path of the kubeconfig file to write once the cluster answers
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// Create the sample database in the cluster
    #[arg(long)]
    sample: bool,
    /// Reject all requests with 403 for this time, then requests for custom resources with 429 for another 2
    /// s, as an API server does after its start
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    forbid_first: Milliseconds,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Configuration of the embedded cluster.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// Seed for uids and snapshot handles; the same seed gives the same names
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Rate limit of the snapshot-controller and of the sidecar in calls per second, or "off". Real
    /// controllers have 5
    #[arg(long, value_name = "N|off", default_value = "5")]
    pub controller_qps: Qps,
    /// Versions of groupsnapshot.storage.k8s.io to serve, as a comma-separated list
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "v1,v1beta2,v1beta1")]
    pub groupsnapshot_version: Vec<String>,
    /// Release of external-snapshotter: 8.2, 8.3, 8.4, 8.6 or main. The cluster serves no API version that is
    /// newer than the release
    #[arg(long, value_name = "RELEASE", default_value = "main")]
    pub snapshotter: Snapshotter,
    /// Delay of a consistent list, which waits for the watch cache. On a real API server a list takes 60 to
    /// 76 ms, a get by name 1 ms
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub list_delay: Milliseconds,
}

impl ClusterArgs {
    /// The configuration of the cluster. Its clock starts at the present time.
    pub fn config(&self) -> Config {
        let now = jiff::Timestamp::now().as_nanosecond();
        Config {
            seed: self.seed,
            anchor_unix_ns: i64::try_from(now).unwrap_or(i64::MAX),
            controller_qps: self.controller_qps.0,
            groupsnapshot_versions: self.groupsnapshot_version.clone(),
            release: self.snapshotter.0,
            list_delay_ms: self.list_delay.0,
            ..Config::default()
        }
    }
}

/// A rate limit in calls per second; none means unlimited.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Qps(pub Option<f64>);

impl FromStr for Qps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self(None)),
            number => match number.parse() {
                Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(Self(Some(rate))),
                _ => Err("give a positive number of calls per second, or off".to_owned()),
            },
        }
    }
}

/// A duration in milliseconds, written as `70ms` or `5s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Milliseconds(pub u64);

impl FromStr for Milliseconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        duration::parse(text).map(|milliseconds| Self(milliseconds.0)).map_err(|error| error.to_string())
    }
}

/// A release of the snapshot controllers; none means the newest release, in the newest API version that the
/// cluster serves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshotter(pub Option<Release>);

impl FromStr for Snapshotter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(match text {
            "8.2" => Some(Release::V8_2),
            "8.3" => Some(Release::V8_3),
            "8.4" => Some(Release::V8_4),
            "8.6" => Some(Release::V8_6),
            "main" => None,
            _ => return Err("give 8.2, 8.3, 8.4, 8.6 or main".to_owned()),
        }))
    }
}

impl Sim {
    /// Serves until the process ends.
    pub async fn execute(self) -> u8 {
        match self.serve().await {
            Ok(()) => 0,
            Err(problem) => report(&problem, false),
        }
    }

    async fn serve(self) -> Result<(), Problem> {
        let failed = |about: About, error: std::io::Error, fix: &str| {
            Problem::new(Code::Usage, about, error.to_string(), fix)
        };
        let address = About::new("Address", "", &self.listen.to_string());
        let bound = tokio::net::TcpListener::bind(self.listen).await;
        let listener =
            bound.map_err(|error| failed(address.clone(), error, "choose another with --listen"))?;
        let local = listener
            .local_addr()
            .map_err(|error| failed(address.clone(), error, "choose another with --listen"))?;
        let cluster =
            Cluster::start(Config { forbid_first_ms: self.forbid_first.0, ..self.cluster.config() });
        if self.sample {
            cluster.load_sample();
        }
        // The listener already accepts connections, so every client of the written kubeconfig gets an answer.
        let file = About::new("File", "", &self.kubeconfig.display().to_string());
        write_in_place(&self.kubeconfig, &kubeconfig(local))
            .map_err(|error| failed(file, error, "choose a path that can be written"))?;
        talk(&format!("embedded cluster on http://{local}, kubeconfig {}", self.kubeconfig.display()));
        // The command keeps serving if stdout is closed.
        let _ = data(&format!("http://{local}\n"));
        axum::serve(listener, cluster.router())
            .await
            .map_err(|error| failed(address, error, "start it again"))
    }
}

/// Writes the file atomically: a reader gets the whole file or no file.
fn write_in_place(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path).map(|_| ()).map_err(|error| error.error)
}

fn kubeconfig(address: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: stillpoint-sim\n  cluster:\n    server: http://{address}\n\
         contexts:\n- name: stillpoint-sim\n  context:\n    cluster: stillpoint-sim\n    user: stillpoint-sim\n\
         users:\n- name: stillpoint-sim\n  user: {{}}\ncurrent-context: stillpoint-sim\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_positive_number_or_off() {
        assert_eq!("off".parse(), Ok(Qps(None)));
        assert_eq!("5".parse(), Ok(Qps(Some(5.0))));
        for wrong in ["0", "-1", "inf", "NaN", "fast", ""] {
            assert!(wrong.parse::<Qps>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn duration_needs_unit_and_is_never_negative() {
        assert_eq!("70ms".parse(), Ok(Milliseconds(70)));
        assert_eq!(("5s".parse(), "0s".parse()), (Ok(Milliseconds(5000)), Ok(Milliseconds(0))));
        for wrong in ["70", "-1s", "soon", ""] {
            assert!(wrong.parse::<Milliseconds>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn accepts_only_known_releases() {
        assert_eq!("8.3".parse(), Ok(Snapshotter(Some(Release::V8_3))));
        assert_eq!("main".parse(), Ok(Snapshotter(None)));
        assert!("8.5".parse::<Snapshotter>().is_err() && "".parse::<Snapshotter>().is_err());
    }
}
