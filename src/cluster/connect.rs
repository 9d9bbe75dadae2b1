//! Connects to the cluster with a client without hidden retries, and discovers what the cluster serves.
//!
//! kube's own retries are off: they would repeat a POST with an unknown outcome without our knowledge. Every
//! call that Stillpoint makes has its own timeout ([`limits::REQUEST_TIMEOUT`]). Watches have none, because
//! they are meant to stay open; the watcher of the cache detects dead ones.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, header};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::api::Version;
use crate::cluster::classify;
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::problem::{About, Code, Problem};

/// The user agent of every request of Stillpoint.
pub const USER_AGENT: &str = concat!("stillpoint/", env!("CARGO_PKG_VERSION"));

/// Timeout of a probe of the API server.
const PROBE: Duration = Duration::from_secs(3);

/// How to reach the cluster: that kubeconfig, else `KUBECONFIG`, `~/.kube/config`, or the service account of
/// the pod.
///
/// # Errors
/// [`Code::Usage`] when the file cannot be read or names no cluster; [`Code::Unreachable`] when there is
/// none.
pub async fn client_config(kubeconfig: Option<&Path>) -> Result<Config, Problem> {
    let mut config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => Config::infer().await.map_err(|error| {
            let fix = "name a kubeconfig with --kubeconfig, or run in a pod with a service account";
            Problem::new(
                Code::Unreachable,
                About::new("Cluster", "", ""),
                limits::clip(&error.to_string()),
                fix,
            )
        })?,
    };
    config.default_retry = false;
    config.read_timeout = None;
    config.headers.push((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
    Ok(config)
}

async fn from_file(path: &Path) -> Result<Config, Problem> {
    let unreadable = |error: kube::config::KubeconfigError| {
        let about = About::new("File", "", &path.display().to_string());
        Problem::new(
            Code::Usage,
            about,
            limits::clip(&error.to_string()),
            "name a kubeconfig that can be read",
        )
    };
    let file = Kubeconfig::read_from(path).map_err(unreadable)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(unreadable)
}

/// The connection to one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Adapter {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) client: Client,
    pub(super) effects: Semaphore,
    pub(super) projections: Semaphore,
    pub(super) reads: Semaphore,
    pub(super) served: Served,
    /// Id of the journal, once it is bound. GroupSnapshots carry it.
    pub(super) journal: OnceLock<String>,
    answered: Mutex<Option<Instant>>,
    /// Number of calls that were answered with 403.
    forbidden: AtomicU64,
}

/// The APIs that the cluster serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// Best version of `groupsnapshot.storage.k8s.io`; `None` when it is not served.
    pub group_version: Option<Version>,
    /// Whether Backup has a status subresource. Velero's has none. If Backup is not served, none is assumed.
    pub backup_status: bool,
    /// Whether GroupSnapshot has a status subresource. Ours has one, which is assumed if GroupSnapshot is not
    /// served yet.
    pub group_snapshot_status: bool,
}

impl Adapter {
    /// Discovers what the cluster serves.
    ///
    /// # Errors
    /// [`Code::Unreachable`] or [`Code::Refused`], the latter also for the first moments of an API server,
    /// see [`Adapter::reach`]. A missing group API is not an error here: it is one for a Backup that needs
    /// it, see [`Adapter::group_version`].
    pub async fn connect(client: Client) -> Result<Self, Problem> {
        let served = discover(&client).await?;
        let inner = Inner {
            client,
            effects: Semaphore::new(limits::EFFECTS_IN_ALL),
            projections: Semaphore::new(limits::PROJECTIONS_IN_ALL),
            reads: Semaphore::new(limits::READS_IN_ALL),
            served,
            journal: OnceLock::new(),
            answered: Mutex::new(Some(Instant::now())),
            forbidden: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// As [`Adapter::connect`], and waits for the API server without a limit. `waits` receives the reason of
    /// each wait.
    ///
    /// An API server that has just started refuses every request with 401 or 403, because its permissions are
    /// not loaded, and then requests for its custom resources with 429. This cannot be distinguished from a
    /// permission that is permanently missing. The daemon therefore waits after a refusal as after a missing
    /// answer, and reports it as a failure.
    ///
    /// # Errors
    /// A permanent error: the kubeconfig cannot be used.
    pub async fn reach<F>(mut client: impl FnMut() -> F, waits: impl Fn(&Problem)) -> Result<Self, Problem>
    where
        F: Future<Output = Result<Client, Problem>>,
    {
        let mut failures = 0;
        loop {
            let connected = match client().await {
                Ok(client) => Self::connect(client).await,
                Err(problem) => Err(problem),
            };
            match connected {
                Err(problem) if matches!(problem.code, Code::Unreachable | Code::Refused) => {
                    failures += 1;
                    let pause = limits::backoff(failures).min(limits::REACH_PAUSE_MAX);
                    tracing::warn!(%problem, "waiting for the API server; next try in {pause}");
                    waits(&problem);
                    tokio::time::sleep(Duration::from_millis(pause.0)).await;
                }
                answer => return answer,
            }
        }
    }

    /// From now on every new GroupSnapshot carries this journal id. Only the first call has an effect.
    pub fn mark_with(&self, journal: String) {
        let _first = self.inner.journal.set(journal);
    }

    /// The APIs that the cluster served at discovery.
    pub fn served(&self) -> Served {
        self.inner.served
    }

    /// The version of the group API that is used.
    ///
    /// # Errors
    /// [`Code::GroupApiMissing`] when the cluster does not serve it.
    pub fn group_version(&self) -> Result<Version, Problem> {
        self.inner.served.group_version.ok_or_else(|| {
            Problem::new(
                Code::GroupApiMissing,
                About::new("APIGroup", "", labels::GROUP_SNAPSHOT_API),
                "the cluster serves neither v1 nor v1beta2 nor v1beta1 of it",
                "install the group snapshot CRDs and switch the feature CSIVolumeGroupSnapshot on, then start again",
            )
        })
    }

    /// The client, for watches.
    pub fn client(&self) -> Client {
        self.inner.client.clone()
    }

    /// Sends a request with our user agent, and waits at most for the request timeout.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<T, kube::Error> {
        self.send_for(request, |text| serde_json::from_str(text)).await
    }

    /// As [`Self::send`], with an answer that `read` decodes.
    pub(super) async fn send_for<T>(
        &self,
        request: Request<Vec<u8>>,
        read: impl FnOnce(&str) -> Result<T, serde_json::Error>,
    ) -> Result<T, kube::Error> {
        // Boxed, because the future of the client is large, and a task that waits for its turn has not begun
        // a call.
        let answer = Box::pin(timed(self.inner.client.request_text(signed(request)))).await;
        let answer = answer.and_then(|text| read(&text).map_err(kube::Error::SerdeError));
        if matches!(&answer, Ok(_) | Err(kube::Error::Api(_))) {
            *self.inner.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        if let Err(error) = &answer {
            self.note_refusal(error);
        }
        answer
    }

    /// Number of calls so far that the API server answered with 403. A caller that stored an earlier number
    /// can detect new ones.
    pub fn forbidden(&self) -> u64 {
        self.inner.forbidden.load(Ordering::Relaxed)
    }

    /// Counts a 403. For watches, which do not use the adapter.
    pub fn note_refusal(&self, error: &kube::Error) {
        if matches!(error, kube::Error::Api(status) if status.code == 403) {
            self.inner.forbidden.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the API server has answered within `lately`; if not, its version is requested.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`: it does not answer.
    pub async fn answers(&self, lately: Duration) -> Result<(), Problem> {
        let last = *self.inner.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < lately) {
            return Ok(());
        }
        let asked = tokio::time::timeout(PROBE, self.send::<serde_json::Value>(version())).await;
        let about = || About::new("Cluster", "", "");
        match asked {
            Ok(Ok(_) | Err(kube::Error::Api(_))) => Ok(()),
            Ok(Err(error)) => Err(classify::problem(&error, about())),
            Err(_) => {
                let reason = format!("no answer within {} s", PROBE.as_secs());
                Err(Problem::new(Code::Unreachable, about(), reason, "check that the API server answers"))
            }
        }
    }
}

pub(super) async fn timed<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match tokio::time::timeout(Duration::from_millis(limits::REQUEST_TIMEOUT.0), call).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service(format!("no answer within {}", limits::REQUEST_TIMEOUT).into())),
    }
}

fn version() -> Request<Vec<u8>> {
    get("/version")
}

fn get(path: &'static str) -> Request<Vec<u8>> {
    let mut request = Request::new(Vec::new());
    *request.uri_mut() = http::Uri::from_static(path);
    request
}

fn signed(mut request: Request<Vec<u8>>) -> Request<Vec<u8>> {
    const AGENT: HeaderName = header::USER_AGENT;
    request.headers_mut().insert(AGENT, HeaderValue::from_static(USER_AGENT));
    request
}

async fn discover(client: &Client) -> Result<Served, Problem> {
    let about = || About::new("Cluster", "", "");
    let groups = timed(client.list_api_groups()).await.map_err(|error| refused(&error, about()))?;
    let group = groups.groups.iter().find(|group| group.name == labels::GROUP_SNAPSHOT_API);
    let serves = |version: &Version| {
        group.is_some_and(|group| group.versions.iter().any(|served| served.version == version.as_str()))
    };
    let group_version = Version::PREFERRED.into_iter().find(serves);
    let backup_status = has_resource(client, "velero.io/v1", "backups/status").await?;
    if group_version.is_none() || backup_status.is_none() {
        is_ready(client).await?;
    }
    Ok(Served {
        group_version,
        backup_status: backup_status.unwrap_or(false),
        group_snapshot_status: has_resource(client, "stillpoint.dev/v1alpha1", "groupsnapshots/status")
            .await?
            .unwrap_or(true),
    })
}

/// A missing kind may be one whose CRD the API server has not loaded yet: it reports that it is not ready
/// then. An API server that does not serve the readiness endpoint, or refuses it, counts as ready.
async fn is_ready(client: &Client) -> Result<(), Problem> {
    match timed(client.request_text(signed(get("/readyz")))).await {
        Err(kube::Error::Api(status)) if status.code >= 500 => Err(Problem::new(
            Code::Unreachable,
            About::new("Cluster", "", ""),
            limits::clip(&format!("the API server is not ready: {}", status.message.trim())),
            "wait until its /readyz answers ok; it is asked again",
        )),
        _ => Ok(()),
    }
}

/// `None` where the group is not served (yet).
async fn has_resource(client: &Client, api_version: &str, name: &str) -> Result<Option<bool>, Problem> {
    match timed(client.list_api_group_resources(api_version)).await {
        Ok(list) => Ok(Some(list.resources.iter().any(|resource| resource.name == name))),
        Err(error) if classify::is_missing(&error) => Ok(None),
        Err(error) => Err(refused(&error, About::new("APIGroup", "", api_version))),
    }
}

/// Why discovery failed. Every user may discover, unless the API server has just started, or does not
/// authenticate the user.
fn refused(error: &kube::Error, about: About) -> Problem {
    let problem = classify::problem(error, about);
    let fix = "wait, for an API server that has just started refuses every user for some seconds; if it goes on, apply \
               deploy/rbac.yaml and check the user of the kubeconfig";
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            Problem { fix: fix.to_owned(), ..problem }
        }
        _ => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: me, user: {}}]
";

    #[tokio::test]
    async fn client_never_retries_and_sends_user_agent() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, KUBECONFIG).expect("a file");
        let config = client_config(Some(&path)).await.expect("a configuration");
        assert!(!config.default_retry);
        assert_eq!(config.cluster_url, "http://127.0.0.1:1/");
        assert!(config.headers.contains(&(header::USER_AGENT, HeaderValue::from_static(USER_AGENT))));
    }

    #[tokio::test]
    async fn missing_kubeconfig_is_a_user_error() {
        let problem = client_config(Some(Path::new("/nowhere/kubeconfig"))).await.expect_err("no such file");
        assert_eq!((problem.code, problem.about.name.as_str()), (Code::Usage, "/nowhere/kubeconfig"));
    }

    /// Answers by path: status and body; 404 for all others.
    fn server(answers: impl Fn(&str) -> Option<(u16, &'static str)> + Clone + Send + 'static) -> Client {
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let status =
                r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":404,"message":"no"}"#;
            let (code, body) = answers(request.uri().path()).unwrap_or((404, status));
            let body = kube::client::Body::from(body.as_bytes().to_vec());
            let response = http::Response::builder().status(code).body(body);
            async move { Ok::<_, std::convert::Infallible>(response.expect("an answer")) }
        });
        Client::new(service, "default")
    }

    const NO_GROUPS: &str = r#"{"kind":"APIGroupList","groups":[]}"#;
    const NOT_READY: &str = "[-]poststarthook/crd-informer-synced failed: reason withheld";

    #[tokio::test]
    async fn reports_starting_server_instead_of_missing_kinds() {
        let starting = server(|path| match path {
            "/apis" => Some((200, NO_GROUPS)),
            "/readyz" => Some((500, NOT_READY)),
            _ => None,
        });
        let problem = Adapter::connect(starting).await.err().expect("it is not ready");
        assert_eq!(problem.code, Code::Unreachable);
        assert!(problem.reason.contains("crd-informer-synced"), "{problem}");
        for answer in [Some((200, "ok")), Some((403, "{}")), None] {
            let client = server(move |path| match path {
                "/apis" => Some((200, NO_GROUPS)),
                "/readyz" => answer,
                _ => None,
            });
            assert!(Adapter::connect(client).await.is_ok_and(|adapter| adapter.group_version().is_err()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retries_and_reports_while_server_returns_403() {
        const FORBIDDEN: &str = r#"{"kind":"Status","status":"Failure","code":403,"reason":"Forbidden","message":"RBAC: not found"}"#;
        let begun = Instant::now();
        let client = || {
            let refuses = begun.elapsed() < Duration::from_secs(40);
            std::future::ready(Ok(server(move |path| match path {
                _ if refuses => Some((403, FORBIDDEN)),
                "/apis" => Some((200, NO_GROUPS)),
                _ => None,
            })))
        };
        let shown = Mutex::new(Vec::new());
        let reached =
            Adapter::reach(client, |problem| shown.lock().expect("shown").push(problem.to_string())).await;
        assert!(reached.is_ok() && begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
        let shown = shown.into_inner().expect("shown");
        assert!(shown.len() > 5, "{shown:#?}");
        assert!(
            shown.iter().all(|text| text.contains("RBAC: not found") && text.contains("deploy/rbac.yaml"))
        );
        let usage = || {
            let about = About::new("File", "", "kubeconfig");
            std::future::ready(Err(Problem::new(Code::Usage, about, "no such file", "name another")))
        };
        assert!(Adapter::reach(usage, |_| ()).await.is_err_and(|problem| problem.code == Code::Usage));
    }
}
