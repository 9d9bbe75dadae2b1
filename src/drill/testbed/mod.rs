//! Provides the testbed of the scenarios: an embedded cluster, a disk in memory, and incarnations of the
//! daemon on both.
//!
//! `incarnations` runs the daemon, `shown` reports the state that is left, `passed` records the crash points.

mod incarnations;
mod passed;
mod shown;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde_json::{Value, json};

pub use self::passed::Passed;

use crate::domain::problem::Problem;
use crate::domain::time::Timestamp;
use crate::drill::disruptions::FOREIGN;
use crate::drill::rbac::Rbac;
use crate::drill::wire::Calls;
use crate::engine::backup_spec::Defaults;
use crate::engine::binding::BindingOptions;
use crate::engine::clock::Clock;
use crate::engine::telemetry::{self, MetricsSink};
use crate::journal::Disk;
use crate::machine::group::GroupMachine;
use crate::machine::kit::Logic;
use crate::sim::Cluster;
use crate::sim::api_server::Caller;

/// Time that no scenario needs, in simulated seconds: a run that takes longer hangs.
const HANG: u64 = 3600;

/// A cluster and a disk, which outlive the daemons on them.
pub struct Testbed {
    pub cluster: Cluster,
    /// The disk of the journal.
    pub disk: Disk,
    /// Status of the reply faults that stand for a gateway that timed out.
    pub gateway_timeout: u16,
    /// The decisions of group runs.
    pub group_logic: Logic<GroupMachine>,
    /// Simulated time.
    pub clock: Clock,
    /// Defaults of each incarnation.
    pub defaults: Defaults,
    /// Binding of each incarnation.
    pub binding: BindingOptions,
    /// Permissions of the daemon.
    pub rbac: Rbac,
    /// Calls of the daemons, in order.
    pub calls: Calls,
    /// Receives the metrics.
    pub metrics: Arc<dyn MetricsSink>,
    /// Number of incarnations that were started.
    starts: AtomicU64,
    anchor: Timestamp,
    caller: Caller,
}

/// End of one incarnation of a daemon.
#[derive(Debug)]
pub enum End {
    /// The Backup reached a final phase.
    Phase(String),
    /// The daemon was killed at the point.
    Killed,
    /// The run is stuck: this row has no automatic action.
    Stuck(&'static str),
    /// The daemon ended itself.
    Problem(Problem),
    /// None of these ends occurred within the time limit.
    Hung,
}

impl End {
    /// Whether the Backup ended in this phase.
    pub fn is(&self, phase: &str) -> bool {
        matches!(self, Self::Phase(ended) if ended == phase)
    }
}

impl Testbed {
    /// Creates a testbed with an embedded cluster.
    pub fn new(config: crate::sim::Config) -> Self {
        let anchor = Timestamp(config.anchor_unix_ns);
        let cluster = Cluster::start(config);
        let caller = cluster.api().caller("test");
        let clock = Clock::anchored(anchor);
        Self {
            cluster,
            disk: Disk::new(),
            clock,
            defaults: Defaults::default(),
            gateway_timeout: 504,
            group_logic: Logic::default(),
            binding: BindingOptions::new(uuid::Uuid::nil()),
            rbac: Rbac::default(),
            calls: Calls::default(),
            metrics: telemetry::none(),
            starts: AtomicU64::new(0),
            anchor,
            caller,
        }
    }

    /// Returns the test's own caller of the API server.
    pub fn hand(&self) -> &Caller {
        &self.caller
    }

    /// Creates PVCs `<group>-0..n` of one group in a namespace of its own, and waits until they are bound.
    pub async fn claims(&self, namespace: &str, group: &str, count: usize) {
        let space = json!({"metadata": {"name": namespace}});
        if self.caller.get("namespaces", None, namespace).is_err() {
            self.caller.create("namespaces", space).expect("a new namespace");
        }
        for index in 0..count {
            self.claim(namespace, &format!("{group}-{index}"), Some(group));
        }
        self.until(|testbed| testbed.bound(namespace)).await;
    }

    /// Creates one PVC.
    pub fn claim(&self, namespace: &str, name: &str, group: Option<&str>) {
        let labels = group.map(|group| json!({"velero.io/volume-group": group})).unwrap_or(json!({}));
        let claim = json!({
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "csi-hostpath-sc",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        });
        self.caller.create("persistentvolumeclaims", claim).expect("a new claim");
    }

    /// Whether all PVCs of a namespace are bound.
    pub(in crate::drill) fn bound(&self, namespace: &str) -> bool {
        let claims = self.list("persistentvolumeclaims", Some(namespace));
        claims.iter().all(|claim| claim["status"]["phase"] == "Bound")
    }

    /// Creates a Backup `nightly` of one namespace.
    pub fn backup(&self, namespace: &str) {
        self.backup_with(json!({"includedNamespaces": [namespace]}));
    }

    /// Creates a Backup `nightly` with the given spec.
    pub fn backup_with(&self, spec: Value) {
        self.backup_named("nightly", spec);
    }

    /// Creates a Backup.
    pub fn backup_named(&self, name: &str, spec: Value) {
        let backup = json!({"metadata": {"name": name, "namespace": "stillpoint"}, "spec": spec});
        self.caller.create("backups", backup).expect("a new Backup");
    }

    /// Returns the current state of the Backup `nightly`.
    pub fn nightly(&self) -> Value {
        self.caller.get("backups", Some("stillpoint"), "nightly").expect("the Backup")
    }

    /// Returns the phase of the Backup `nightly` once it is final.
    pub fn ended(&self) -> Option<String> {
        self.ended_as("nightly")
    }

    /// Returns the phase of a Backup once it is final.
    pub fn ended_as(&self, name: &str) -> Option<String> {
        let backup = self.caller.get("backups", Some("stillpoint"), name).expect("the Backup");
        let phase = backup["status"]["phase"].as_str().unwrap_or_default();
        (!["", "New", "InProgress"].contains(&phase)).then(|| phase.to_owned())
    }

    /// Lists the objects of a kind.
    pub fn list(&self, plural: &str, namespace: Option<&str>) -> Vec<Value> {
        self.caller.list(plural, namespace, &BTreeMap::new()).expect("a list")
    }

    /// Lists the objects of a kind, except those with the label [`FOREIGN`].
    pub fn own(&self, plural: &str, namespace: Option<&str>) -> Vec<Value> {
        let mut objects = self.list(plural, namespace);
        objects.retain(|object| object["metadata"]["labels"][FOREIGN].is_null());
        objects
    }

    /// Waits on simulated time until the condition holds.
    pub async fn until(&self, what: impl Fn(&Self) -> bool) {
        assert!(self.comes(what).await, "it never came to be");
    }

    /// Waits on simulated time until the condition holds. Returns false if it does not become true in time.
    pub async fn comes(&self, what: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..HANG * 20 {
            if what(self) {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        false
    }

    /// Lets simulated time pass.
    pub async fn pass(&self, seconds: u64) {
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    }

    /// Counts the daemon's writes that change objects of runs. Projections and label keys are excluded.
    pub fn writes(&self) -> u64 {
        let tally = self.cluster.api().tally();
        let verbs = tally.0.get("stillpoint").cloned().unwrap_or_default();
        let counted = |resource: &str| {
            ["volumegroupsnapshot", "volumesnapshot"].iter().any(|kind| resource.starts_with(kind))
        };
        ["create", "update", "patch", "delete"]
            .iter()
            .filter_map(|verb| verbs.get(*verb))
            .flat_map(|resources| resources.iter().filter(|(resource, _)| counted(resource)))
            .map(|(_, count)| count)
            .sum()
    }

    /// Whether a run says that it waits for this.
    pub fn waits_for(&self, says: &str) -> bool {
        let waiting =
            |run: &Value| run["status"]["waitingFor"].as_str().is_some_and(|text| text.contains(says));
        self.list("groupsnapshots", None).iter().any(waiting)
    }

    /// Counts the group objects that are left in any namespace.
    pub fn group_objects(&self) -> usize {
        self.own("volumegroupsnapshots", None).len() + self.own("volumegroupsnapshotcontents", None).len()
    }
}
