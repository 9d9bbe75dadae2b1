//! The test environment of the scenarios: an embedded cluster in its own process, a directory for the
//! journal, and daemons that use both.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::process::{Process, wait};

/// Counts of calls: agent, verb, resource.
type Calls = BTreeMap<String, BTreeMap<String, BTreeMap<String, u64>>>;

/// Namespace of the PVCs.
pub const NAMESPACE: &str = "shop";
/// The group of these PVCs.
pub const GROUP: &str = "orders-db";

/// A cluster, a disk, and the test's own client of the cluster.
pub struct Stage {
    runtime: Runtime,
    client: kube::Client,
    lives: usize,
    _sim: Process,
    pub dir: TempDir,
}

impl Stage {
    /// A running cluster, with controllers without a rate limit.
    pub fn new() -> Self {
        Self::of(&[])
    }

    /// The same, with more options of the cluster.
    pub fn of(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let kubeconfig = dir.path().join("kubeconfig");
        let shown = kubeconfig.display().to_string();
        let args = ["sim", "--kubeconfig", &shown, "--controller-qps", "off"];
        let sim = Process::start("sim", dir.path(), &[args.as_slice(), more].concat());
        wait("the kubeconfig", || kubeconfig.exists().then_some(()));
        let config = Kubeconfig::read_from(&kubeconfig).expect("a whole kubeconfig");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(client(config));
        Self { runtime, client, lives: 0, _sim: sim, dir }
    }

    /// A cluster with a group of `members` bound PVCs, and a Backup that includes it.
    pub fn with_group(members: usize) -> Self {
        let stage = Self::new();
        stage.claims(members);
        stage.backup();
        stage
    }

    pub fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Starts a daemon.
    pub fn daemon(&mut self, more: &[&str]) -> Process {
        self.lives += 1;
        let (kubeconfig, journal) =
            (self.kubeconfig().display().to_string(), self.journal().display().to_string());
        let args = ["run", "--kubeconfig", &kubeconfig, "--journal", &journal, "--log-level", "debug"];
        let name = format!("daemon-{}", self.lives);
        Process::start(&name, self.dir.path(), &[args.as_slice(), more].concat())
    }

    /// Sends one request to the cluster. A patch is a merge patch.
    pub fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, kube::Error> {
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(path).header("content-type", media);
        let request = request.body(bytes).expect("a request");
        self.runtime.block_on(self.client.request(request))
    }

    /// The object at this path.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// The items of a list.
    #[track_caller]
    pub fn list(&self, path: &str) -> Vec<Value> {
        self.get(path)["items"].as_array().cloned().unwrap_or_default()
    }

    #[track_caller]
    fn create(&self, path: &str, object: Value) {
        self.call("POST", path, Some(object)).unwrap_or_else(|error| panic!("POST {path}: {error}"));
    }

    /// Creates the PVCs of one group, bound.
    pub fn claims(&self, members: usize) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        self.create("/api/v1/namespaces", namespace);
        let path = format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims");
        for index in 0..members {
            let claim = json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": format!("{GROUP}-{index}"), "labels": {"velero.io/volume-group": GROUP}},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "csi-hostpath-sc",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            });
            self.create(&path, claim);
        }
        wait("bound claims", || {
            self.list(&path).iter().all(|claim| claim["status"]["phase"] == "Bound").then_some(())
        });
    }

    /// Creates the Backup `nightly` of the namespace.
    pub fn backup(&self) {
        let backup = json!({
            "apiVersion": "velero.io/v1",
            "kind": "Backup",
            "metadata": {"name": "nightly"},
            "spec": {"includedNamespaces": [NAMESPACE]},
        });
        self.create("/apis/velero.io/v1/namespaces/stillpoint/backups", backup);
    }

    /// Phase of the Backup, once it is final.
    pub fn ended(&self) -> Option<String> {
        let backup = self.get("/apis/velero.io/v1/namespaces/stillpoint/backups/nightly");
        let phase = backup["status"]["phase"].as_str().unwrap_or_default();
        (!["", "New", "InProgress"].contains(&phase)).then(|| phase.to_owned())
    }

    /// Waits for the end of the Backup while `daemon` runs, and returns the phase.
    pub fn phase(&self, daemon: &mut Process) -> String {
        wait("the end of the Backup", || {
            assert!(daemon.running(), "the daemon ended: {:?}", daemon.end());
            self.ended()
        })
    }

    /// State in the status of the GroupSnapshot; a dash while the GroupSnapshot does not exist.
    pub fn state(&self) -> String {
        let shown =
            self.list(&format!("/apis/stillpoint.dev/v1alpha1/namespaces/{NAMESPACE}/groupsnapshots"));
        let state = shown.first().and_then(|shown| shown["status"]["state"].as_str());
        state.unwrap_or("-").to_owned()
    }

    /// The VolumeSnapshots of the namespace.
    pub fn snapshots(&self) -> Vec<Value> {
        self.list(&format!("/apis/snapshot.storage.k8s.io/v1/namespaces/{NAMESPACE}/volumesnapshots"))
    }

    /// Number of calls of the daemon.
    pub fn calls(&self) -> u64 {
        self.tally(|_, _| true)
    }

    /// Number of calls of the daemon that change objects of runs. Projections are left out.
    pub fn writes(&self) -> u64 {
        self.tally(|verb, resource| {
            let run = resource.starts_with("volumegroupsnapshot") || resource.starts_with("volumesnapshot");
            run && ["create", "update", "patch", "delete"].contains(&verb)
        })
    }

    fn tally(&self, counted: impl Fn(&str, &str) -> bool) -> u64 {
        let mut calls: Calls = serde_json::from_value(self.get("/sim/v1/calls")).expect("a tally of calls");
        let mine = calls.remove("stillpoint").unwrap_or_default();
        let each =
            mine.iter().flat_map(|(verb, calls)| calls.iter().map(move |(to, count)| (verb, to, count)));
        each.filter(|(verb, to, _)| counted(verb, to)).map(|(_, _, count)| count).sum()
    }
}

/// A client for this kubeconfig.
pub async fn client(kubeconfig: Kubeconfig) -> kube::Client {
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let config = config.expect("a kubeconfig that can be used");
    kube::Client::try_from(config).expect("a client")
}
